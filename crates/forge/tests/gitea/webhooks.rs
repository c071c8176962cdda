//! Webhooks as Gitea really delivers them.

use crate::World;
use forge::{Delivery, DeliveryError, Forge, PullRequestAction, Received, Secret, Subject};
use serde_json::json;
use std::time::Duration;
use test_support::hooks::{Hooks, Posted};

const WAIT: Duration = crate::PATIENCE;

fn secret() -> Secret {
    Secret::new("a secret of the tests".to_owned())
}

struct Listening {
    world: World,
    hooks: Hooks,
    /// Those that came while another one was waited for: Gitea tells of a push twice, of the branch and of the pull request, in
    /// an order that nobody promises.
    early: Vec<Delivery>,
}

impl Listening {
    async fn new() -> Self {
        let world = World::new().await;
        let hooks = Hooks::start().await.unwrap();
        let url = hooks.url().parse().unwrap();
        world
            .forge
            .webhook_ensure(&world.id, &url, &secret(), None)
            .await
            .unwrap();
        Self {
            world,
            hooks,
            early: Vec::new(),
        }
    }

    /// Waits for a delivery with this subject that was not waited for yet; every one on the way must verify.
    async fn expect(&mut self, wanted: &Subject) -> Delivery {
        let early = self.early.iter().position(|delivery| delivery.subject == *wanted);
        if let Some(at) = early {
            return self.early.remove(at);
        }
        let (forge, early) = (&self.world.forge, &mut self.early);
        let found = self.hooks.find(WAIT, |posted| {
            match forge.delivery(&posted.headers, &posted.body, &secret()) {
                Ok(Received::Delivery(delivery)) if delivery.subject == *wanted => Some(delivery),
                Ok(Received::Delivery(other)) => {
                    early.push(other);
                    None
                }
                Ok(Received::Ignored { .. }) => None,
                Err(error) => panic!("a delivery of our own webhook was refused: {error}"),
            }
        });
        let delivery = found.await.unwrap_or_else(|| panic!("no delivery of {wanted:?}"));
        assert_eq!(delivery.repository, self.world.id);
        delivery
    }
}

#[tokio::test]
async fn everything_that_happens_to_a_pull_request_is_delivered_and_verifies() {
    let mut on = Listening::new().await;
    let branch = |name: &str, commit: &str| Subject::Branch {
        branch: name.parse().unwrap(),
        commit: Some(commit.parse().unwrap()),
    };
    let first = on.world.push("topic", "one");
    on.expect(&branch("topic", &first)).await;
    let number = on.world.open("topic").await;
    let pull = |action| Subject::PullRequest { number, action };
    let opened = on.expect(&pull(PullRequestAction::Opened)).await;
    assert_eq!(opened.sender.unwrap().login.as_str(), on.world.ada.user());

    let second = on.world.push("topic", "two");
    on.expect(&branch("topic", &second)).await;
    let pushed = on.expect(&pull(PullRequestAction::Pushed)).await;
    assert_ne!(pushed.id, opened.id);

    on.world
        .tree
        .git(&["reset", "--quiet", "--hard", "origin/main"])
        .unwrap();
    on.world.push("topic", "three");
    let forced = on.expect(&pull(PullRequestAction::Pushed)).await;
    assert_ne!(forced.id, pushed.id);

    on.world
        .tree
        .git(&["push", "--quiet", "origin", "origin/main:refs/heads/release"])
        .unwrap();
    let path = on.world.path().to_owned();
    on.world
        .ada
        .change_pull_request(&path, number.0, json!({ "base": "release" }))
        .await
        .unwrap();
    on.expect(&pull(PullRequestAction::Changed)).await;

    on.world.ada.comment(&path, number.0, "/preview why").await.unwrap();
    on.expect(&Subject::Comment { number }).await;

    on.world
        .ada
        .change_pull_request(&path, number.0, json!({ "state": "closed" }))
        .await
        .unwrap();
    on.expect(&pull(PullRequestAction::Closed)).await;
    on.world
        .ada
        .change_pull_request(&path, number.0, json!({ "state": "open" }))
        .await
        .unwrap();
    on.expect(&pull(PullRequestAction::Reopened)).await;

    on.world
        .tree
        .git(&["push", "--quiet", "origin", "--delete", "topic"])
        .unwrap();
    on.expect(&Subject::Branch {
        branch: "topic".parse().unwrap(),
        commit: None,
    })
    .await;
}

#[tokio::test]
async fn a_real_delivery_that_was_changed_or_has_another_secret_is_refused() {
    let mut on = Listening::new().await;
    on.world.push("topic", "one");
    let forge = &on.world.forge;
    let Posted { headers, body } = on
        .hooks
        .find(WAIT, |posted| Some(posted.clone()))
        .await
        .expect("a delivery");
    assert!(forge.delivery(&headers, &body, &secret()).is_ok());
    let mut changed = body.to_vec();
    changed[10] ^= 1;
    assert_eq!(
        forge.delivery(&headers, &changed, &secret()),
        Err(DeliveryError::Signature)
    );
    let other = Secret::new("another".to_owned());
    assert_eq!(forge.delivery(&headers, &body, &other), Err(DeliveryError::Signature));
    let mut unsigned = headers.clone();
    unsigned.remove("x-gitea-signature");
    assert!(matches!(
        forge.delivery(&unsigned, &body, &secret()),
        Err(DeliveryError::Header { .. })
    ));
}

#[tokio::test]
async fn there_is_one_webhook_and_a_new_secret_takes_effect() {
    let mut on = Listening::new().await;
    let url = on.hooks.url().parse().unwrap();
    let (forge, id) = (&on.world.forge, &on.world.id);
    let old = Secret::new("the old one".to_owned());
    let first = forge.webhook_ensure(id, &url, &old, None).await.unwrap();
    assert_eq!(
        forge.webhook_ensure(id, &url, &old, Some(first)).await.unwrap(),
        first,
        "it is kept"
    );
    let second = forge.webhook_ensure(id, &url, &secret(), None).await.unwrap();
    assert_ne!(first, second);
    let path = format!("repos/{}/hooks", on.world.path());
    let all = on
        .world
        .ada
        .call(reqwest::Method::GET, &path, serde_json::Value::Null)
        .await
        .unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    let commit = on.world.push("topic", "one").parse().unwrap();
    on.expect(&Subject::Branch {
        branch: "topic".parse().unwrap(),
        commit: Some(commit),
    })
    .await;
}
