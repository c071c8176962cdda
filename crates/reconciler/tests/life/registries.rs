//! Registries that are away, limit, or have something else by now: for images of services, and for what Dockerfiles start from.

use crate::{
    bench::{Bench, branch},
    images::{image, open, settings_for},
    keeping::until,
};
use forge::local::FileChange;
use model::{CommitId, Generation, ImageDigest, Phase};
use planner::StepState;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use test_support::registry::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Longer than anything else on the bench is waited for before it is tried again, in simulated seconds.
const PAUSE: u64 = 300;

/// What somebody in front of the registry does with a request.
#[derive(Clone, Debug)]
enum Way {
    Through,
    /// A request whose path has this in it is not answered now.
    Limited(String),
    /// The connection is closed without a word.
    Away,
    /// A request whose path has this in it is answered once the way is another one.
    Held(String),
}

/// Stands before a real registry.
struct Turnstile {
    name: String,
    way: Arc<Mutex<Way>>,
    turned: Arc<AtomicUsize>,
}

impl Turnstile {
    async fn before(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let turnstile = Self {
            name: listener.local_addr().unwrap().to_string(),
            way: Arc::new(Mutex::new(Way::Through)),
            turned: Arc::default(),
        };
        let (way, turned, behind) = (turnstile.way.clone(), turnstile.turned.clone(), registry.name());
        tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                tokio::spawn(pass(visitor, way.clone(), turned.clone(), behind.clone()));
            }
        });
        turnstile
    }

    fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    fn turned(&self) -> usize {
        self.turned.load(Ordering::SeqCst)
    }
}

/// One request, and its answer. Whoever is cut off comes again.
async fn pass(mut visitor: TcpStream, way: Arc<Mutex<Way>>, turned: Arc<AtomicUsize>, behind: String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match visitor.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default();
    let now = || way.lock().unwrap().clone();
    while matches!(now(), Way::Held(part) if path.contains(&part)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match now() {
        Way::Limited(part) if path.contains(&part) => {
            turned.fetch_add(1, Ordering::SeqCst);
            let answer = format!(
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {PAUSE}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = visitor.write_all(answer.as_bytes()).await;
        }
        Way::Away => {
            turned.fetch_add(1, Ordering::SeqCst);
        }
        Way::Through | Way::Limited(_) | Way::Held(_) => {
            let Ok(mut registry) = TcpStream::connect(behind).await else {
                return;
            };
            let once = format!("{}\r\nConnection: close\r\n\r\n", text.trim_end());
            if registry.write_all(once.as_bytes()).await.is_ok() {
                let _ = tokio::io::copy(&mut registry, &mut visitor).await;
            }
        }
    }
}

async fn push(bench: &Bench, compose: &str, dockerfile: &str) -> CommitId {
    let files = [
        FileChange::write("compose.yaml", compose),
        FileChange::write("Dockerfile", dockerfile),
        FileChange::write(
            "maquette.yaml",
            "stack:\n  services:\n    web: { public: true }\npolicy: { baseline: none }\n",
        ),
    ];
    let (topic, main) = (branch("topic"), branch("main"));
    bench.forge.commit(&topic, Some(&main), &files, "Change").await.unwrap()
}

const BUILT: &str = "services:\n  web:\n    build: .\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\nbuilt\"]\n    \
                     ports: [\"8080:8080\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_limits_layers_is_left_alone_for_as_long_as_it_says_and_nothing_is_given_up() {
    let registry = Registry::start().unwrap();
    let turnstile = Turnstile::before(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::with(settings_for(&turnstile.name, &directory)).await;
    let made = image("one");
    made.push(&registry.name(), "team/web", "1").await.unwrap();
    turnstile.set(Way::Limited(test_support::image::digest(&made.layers[0])));
    let compose = format!("services:\n  web:\n    image: {}/team/web:1\n", turnstile.name);
    let commit = push(&bench, &compose, "").await;
    let number = open(&bench).await;
    bench
        .comment_says(number, "waits for the registry, and goes on by itself")
        .await;
    let row = bench.reaches(number, Phase::Starting, None).await;
    let attempts = bench.store.attempt_list(&row.id, Generation(1)).await.unwrap();
    let waiting = attempts.values().find(|attempt| attempt.waits).unwrap();
    let why = &waiting.failure.as_ref().unwrap().message;
    assert!(why.contains("limits how often we may ask"), "{why}");
    // It is not asked again in that time, however often the step is looked at.
    assert_eq!(turnstile.turned(), 1);

    turnstile.set(Way::Through);
    bench.pass(Duration::from_secs(PAUSE)).await;
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(turnstile.turned(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_away_while_layers_are_fetched_is_waited_for() {
    let registry = Registry::start().unwrap();
    let turnstile = Turnstile::before(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::with(settings_for(&turnstile.name, &directory)).await;
    let made = image("one");
    made.push(&registry.name(), "team/web", "1").await.unwrap();
    // What the name stands for is known; then it goes away.
    turnstile.set(Way::Limited(test_support::image::digest(&made.layers[0])));
    let compose = format!("services:\n  web:\n    image: {}/team/web:1\n", turnstile.name);
    let commit = push(&bench, &compose, "").await;
    let number = open(&bench).await;
    until("it is turned away", || async { turnstile.turned() > 0 }).await;
    turnstile.set(Way::Away);
    bench.pass(Duration::from_secs(PAUSE)).await;
    until("it finds nobody", || async { turnstile.turned() > 3 }).await;
    let row = bench.reaches(number, Phase::Starting, None).await;
    turnstile.set(Way::Through);
    let live = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(row.id, live.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_the_image_is_that_a_dockerfile_starts_from_is_shown() {
    let registry = Registry::start().unwrap();
    let turnstile = Turnstile::before(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::with_builds(settings_for(&turnstile.name, &directory)).await;
    let base = image("one");
    base.push(&registry.name(), "team/base", "1").await.unwrap();
    turnstile.set(Way::Held(test_support::image::digest(&base.layers[0])));
    let name = format!("{}/team/base:1", turnstile.name);
    let commit = push(&bench, BUILT, &format!("FROM {name}\n")).await;
    let number = open(&bench).await;
    let row = bench.reaches(number, Phase::Starting, None).await;
    let handle = bench.handle.as_ref().unwrap();
    let waits = format!("{name}: 0 of {} layers", base.layers.len());
    until("it is shown", || async {
        let plan = handle.plan(&row.id).await.unwrap();
        let build = plan.steps.iter().find(|step| step.id == "build:web");
        build.is_some_and(
            |step| matches!(&step.state, StepState::InProgress { waiting_for, .. } if waiting_for.starts_with(&waits)),
        )
    })
    .await;
    turnstile.set(Way::Through);
    bench.reaches(number, Phase::Live, Some(&commit)).await;
}

/// What the service of the newest generation was built to.
async fn made(bench: &Bench, id: &model::EnvironmentId) -> Option<ImageDigest> {
    let newest = bench.store.generation_newest(id).await.unwrap().unwrap();
    let web: model::ServiceName = "web".parse().unwrap();
    newest.spec.dockerfiles().get(&web).and_then(|build| build.made.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dockerfile_starts_from_is_waited_for_and_followed_as_images_of_services_are() {
    let registry = Registry::start().unwrap();
    let turnstile = Turnstile::before(&registry).await;
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::with_builds(settings_for(&turnstile.name, &directory)).await;
    image("one").push(&registry.name(), "team/base", "1").await.unwrap();
    turnstile.set(Way::Limited("/manifests/".to_owned()));
    let dockerfile = format!("FROM {}/team/base:1\n", turnstile.name);
    let commit = push(&bench, BUILT, &dockerfile).await;
    let number = open(&bench).await;
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let body = bench.comment_says(number, "limits how often we may ask").await;
    assert!(
        body.contains(&format!("{}/team/base:1, which the Dockerfile names", turnstile.name)),
        "{body}"
    );
    assert_eq!(turnstile.turned(), 1, "it is left alone");

    // Away now: that is no reason to give up either.
    turnstile.set(Way::Away);
    bench.pass(Duration::from_secs(PAUSE)).await;
    until("it finds nobody", || async { turnstile.turned() > 1 }).await;
    turnstile.set(Way::Through);
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    let first = made(&bench, &row.id).await.unwrap();

    // The tag moves: without a push, it is built from the other one.
    image("two").push(&registry.name(), "team/base", "1").await.unwrap();
    until("it is built anew", || async {
        let newest = bench.store.generation_newest(&row.id).await.unwrap().unwrap();
        let now = made(&bench, &row.id).await;
        let told = |note: &String| note.contains("which a Dockerfile names, has moved");
        newest.outcome == Some(store::Outcome::Live)
            && now.is_some_and(|now| now != first)
            && newest.notes.iter().any(told)
    })
    .await;
    bench.stands(&row.id, Phase::Live).await;

    // One that does not exist is told, and taken when it comes.
    let dockerfile = format!("FROM {}/team/other:1\n", turnstile.name);
    let commit = push(&bench, BUILT, &dockerfile).await;
    bench.comment_says(number, "team/other:1 does not exist").await;
    image("three").push(&registry.name(), "team/other", "1").await.unwrap();
    bench.reaches(number, Phase::Live, Some(&commit)).await;
}
