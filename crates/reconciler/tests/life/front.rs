//! A generation is live when its public services answer where visitors will look for them.

use crate::bench::Bench;
use async_trait::async_trait;
use model::Phase;
use reconciler::{Entrance, Front, FrontError, InFront, Settings};
use std::sync::{Arc, Mutex};

/// What stands in front, as a test wants it to be.
struct Gate {
    says: Mutex<Result<u16, FrontError>>,
    asked: Mutex<Vec<Entrance>>,
}

impl Gate {
    fn new(says: Result<u16, FrontError>) -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(says),
            asked: Mutex::default(),
        })
    }

    fn set(&self, says: Result<u16, FrontError>) {
        *self.says.lock().unwrap() = says;
    }
}

#[async_trait]
impl Front for Gate {
    async fn ask(&self, entrance: &Entrance) -> Result<u16, FrontError> {
        self.asked.lock().unwrap().push(entrance.clone());
        self.says.lock().unwrap().clone()
    }
}

async fn behind(gate: &Arc<Gate>) -> Bench {
    Bench::with(Settings {
        front: InFront(Some(Arc::clone(gate) as Arc<dyn Front>)),
        ..Settings::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_the_comment_is_asked_and_any_answer_counts() {
    let gate = Gate::new(Ok(500));
    let bench = behind(&gate).await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let asked = gate.asked.lock().unwrap();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|entrance| entrance.environment == row.id));
    let host = format!("{}.preview.test", row.label);
    assert!(asked.iter().any(|entrance| entrance.authority == host), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_away_is_waited_for_and_that_is_told() {
    let gate = Gate::new(Err(FrontError::Away("the gateway is not there".to_owned())));
    let bench = behind(&gate).await;
    let number = bench.open("feature").await;
    bench.comment_says(number, "waits for the gateway").await;
    let rows = bench.store.environment_list(None, false).await.unwrap();
    let attempts = bench
        .store
        .attempt_list(&rows[0].id, model::Generation(1))
        .await
        .unwrap();
    let failure = attempts["verify"].failure.clone().unwrap();
    assert!(failure.message.contains("the gateway is not there"), "{failure:?}");
    gate.set(Ok(200));
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_not_told_of_the_address_is_not_waited_for() {
    let gate = Gate::new(Err(FrontError::Misdirected(
        "it serves nothing at that address".to_owned(),
    )));
    let bench = behind(&gate).await;
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Failed, None).await;
    bench.comment_says(number, "it serves nothing at that address").await;
    bench.comment_says(number, "older configuration").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_gives_no_answer_fails_with_its_words() {
    let gate = Gate::new(Err(FrontError::Silent("it closed the connection".to_owned())));
    let bench = behind(&gate).await;
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Failed, None).await;
    bench.comment_says(number, "it closed the connection").await;
}
