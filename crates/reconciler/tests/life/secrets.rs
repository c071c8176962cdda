//! Secrets: who is given them, what a new value and a removal do, and where values never are.

use crate::bench::{Bench, LOOKS, branch};
use forge::{
    PullRequestNumber,
    local::{FileChange, LocalHead, NewPullRequest},
};
use model::{CommitId, EnvironmentId, Phase, SecretRef, ServiceFact};
use runtime::{ExecExit, Runtime as _};
use secrets::{SecretName, SecretValue};
use std::{collections::BTreeMap, time::Duration};
use store::GenerationRow;
use tokio::time::sleep;

const ONE: &str = "canary-one-77d1";
const TWO: &str = "canary-two-0be4";

/// Two services of which one is given a secret, as this says.
fn compose(value: &str) -> String {
    format!(
        "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\nx\"]\n    ports: [\"8080:8080\"]\n    \
         environment: {{ KEY: \"{value}\" }}\n  other:\n    image: node:20\n    command: [\"serve\", \"other\"]\n    ports: [\"8081\"]\n"
    )
}

fn settings(granted: &str) -> String {
    format!(
        "stack:\n  services:\n    web: {{ host: true, public: true }}\n    other: {{ host: true }}\n\
         policy: {{ baseline: none, secrets: [{granted}] }}\n"
    )
}

fn name() -> SecretName {
    "KEY".parse().unwrap()
}

impl Bench {
    async fn granting() -> Self {
        let bench = Self::new().await;
        bench.grant("KEY").await;
        bench
    }

    async fn grant(&self, names: &str) {
        let files = [
            FileChange::write("compose.yaml", compose("${KEY}")),
            FileChange::write("maquette.yaml", settings(names)),
        ];
        self.forge.commit(&branch("main"), None, &files, "Grant").await.unwrap();
        self.nudge();
    }

    /// As `maquette secret set` and `remove` do.
    async fn secret(&self, value: Option<&str>) {
        let handle = self.handle.as_ref().unwrap();
        let project = "shop".parse().unwrap();
        match value {
            Some(value) => {
                let value = SecretValue::new(value.as_bytes().to_vec()).unwrap();
                let now = self.simulator.now();
                handle.vault().set(&project, &name(), &value, now, None).unwrap();
            }
            None => handle.vault().remove(&project, &name()).unwrap(),
        }
        handle.secrets_changed(&project).await.unwrap();
    }

    async fn branch_pull(&self, head: &str, value: &str) -> PullRequestNumber {
        self.push(head, &compose(value)).await;
        let new = NewPullRequest::new(branch(head), branch("main"), "A change");
        self.forge.open_pull_request(new).await.unwrap().number
    }

    async fn fork_commit(&self, value: &str) -> CommitId {
        let files = [
            FileChange::write("compose.yaml", compose(value)),
            FileChange::write("maquette.yaml", settings("KEY")),
        ];
        self.forge.commit_create(None, &files, "From a fork").await.unwrap()
    }

    /// A pull request from a fork that somebody who may push has approved.
    async fn fork_pull(&self, value: &str) -> (PullRequestNumber, CommitId) {
        let commit = self.fork_commit(value).await;
        let new = NewPullRequest {
            head: LocalHead::Fork(commit.clone()),
            ..NewPullRequest::new(branch("x"), branch("main"), "Fork")
        };
        let number = self.forge.open_pull_request(new).await.unwrap().number;
        let row = self.reaches(number, Phase::NeedsApproval, Some(&commit)).await;
        let handle = self.handle.as_ref().unwrap();
        handle.approve(&row.id, &commit, "an operator").await.unwrap();
        (number, commit)
    }

    /// What `KEY` is in the service.
    async fn key(&self, id: &EnvironmentId, service: &str) -> Option<String> {
        let argv = ["printenv", "KEY"].map(str::to_owned);
        let mut exec = self
            .simulator
            .exec(id, &service.parse().unwrap(), &argv, &BTreeMap::new())
            .await
            .ok()?;
        drop(exec.stdin);
        let mut printed = Vec::new();
        while let Some(bytes) = exec.stdout.recv().await {
            printed.extend_from_slice(&bytes);
        }
        let exit = exec.exit.await.unwrap();
        (exit == ExecExit::Status(0)).then(|| String::from_utf8(printed).unwrap().trim_end().to_owned())
    }

    async fn key_becomes(&self, id: &EnvironmentId, wanted: &str) {
        for _ in 0..LOOKS {
            if self.key(id, "web").await.as_deref() == Some(wanted) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("KEY is {:?}", self.key(id, "web").await);
    }

    async fn fact(&self, id: &EnvironmentId, service: &str) -> ServiceFact {
        let seen = self.simulator.observe(id).await.unwrap().unwrap();
        seen.services[&service.parse().unwrap()].clone()
    }

    async fn newest(&self, id: &EnvironmentId) -> GenerationRow {
        self.store.generation_newest(id).await.unwrap().unwrap()
    }

    /// Waits until the newest generation has a note with this text.
    async fn notes_say(&self, id: &EnvironmentId, text: &str) {
        let mut notes = Vec::new();
        for _ in 0..LOOKS {
            notes = self.newest(id).await.notes;
            if notes.iter().any(|note| note.contains(text)) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never noted {text:?}: {notes:?}");
    }

    /// Files of the bench that hold one of the values.
    fn leaks(&self) -> Vec<String> {
        let found = std::process::Command::new("grep")
            .args(["-rlaFe", ONE, "-e", TWO])
            .arg(self.directory.path())
            .output()
            .unwrap();
        String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_value_restarts_those_that_are_given_it_and_a_removal_is_told() {
    let bench = Bench::granting().await;
    bench.secret(Some(ONE)).await;
    let number = bench.branch_pull("key", "${KEY}").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let id = &row.id;
    assert_eq!(bench.key(id, "web").await.as_deref(), Some(ONE));
    assert_eq!(bench.key(id, "other").await, None);
    let spec = bench.newest(id).await.spec;
    assert_eq!(spec.secrets.keys().collect::<Vec<_>>(), [&SecretRef("KEY".to_owned())]);

    let (web, other) = (bench.fact(id, "web").await, bench.fact(id, "other").await);
    bench.secret(Some(TWO)).await;
    bench.key_becomes(id, TWO).await;
    bench.stands(id, Phase::Live).await;
    assert_ne!(bench.fact(id, "web").await.digest, web.digest);
    assert_eq!(bench.fact(id, "other").await, other, "it was left alone");
    let events = bench.store.event_list(id, 50).await.unwrap();
    let told = |text: &str| events.iter().any(|event| event.text == text);
    assert!(told("the secret KEY has another value"), "{events:#?}");
    let users = bench.handle.as_ref().unwrap();
    let users = users.secret_users(&"shop".parse().unwrap(), &name()).await.unwrap();
    assert_eq!(users.len(), 1, "{users:?}");
    assert_eq!(
        (&users[0].environment, users[0].services.as_slice()),
        (id, &["web".to_owned()][..])
    );

    bench.secret(None).await;
    bench.notes_say(id, "The secret KEY of web has no value").await;
    bench.stands(id, Phase::Live).await;
    bench.key_becomes(id, "").await;
    assert_eq!(bench.fact(id, "other").await, other, "it was left alone");
    bench.comment_says(number, "maquette secret set KEY").await;
    assert_eq!(bench.leaks(), Vec::<String>::new());
    let calls = format!("{:?}", bench.simulator.calls());
    assert!(!calls.contains(ONE) && !calls.contains(TWO), "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_secret_fails_until_there_is_one() {
    let bench = Bench::granting().await;
    let number = bench.branch_pull("key", "${KEY:?needed}").await;
    let row = bench.reaches(number, Phase::Failed, None).await;
    let failure = bench.newest(&row.id).await.failure.unwrap();
    assert!(failure.message.contains("`KEY` has no value: needed"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("maquette secret set KEY"));
    bench.secret(Some(ONE)).await;
    bench.reaches(number, Phase::Live, None).await;
    assert_eq!(bench.key(&row.id, "web").await.as_deref(), Some(ONE));

    // The policy takes it back.
    bench.grant("OTHER").await;
    let failed = bench.reaches(number, Phase::LiveOlder, None).await;
    let generations = bench.store.generation_list(&failed.id).await.unwrap();
    assert!(generations.iter().any(|row| row.failure.is_some()), "{generations:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_trusted_is_given_none_although_it_is_approved() {
    let bench = Bench::granting().await;
    bench.secret(Some(ONE)).await;
    let (number, commit) = bench.fork_pull("${KEY:-none}").await;
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(bench.key(&row.id, "web").await.as_deref(), Some("none"));
    assert!(bench.newest(&row.id).await.spec.secrets.is_empty());
    bench.notes_say(&row.id, "may not push").await;

    // Neither is a copy of it, nor one that asks for it as something that it needs.
    let handle = bench.handle.clone().unwrap();
    let copy = handle.create_clone(&row.id, "somebody").await.unwrap();
    bench.stands(&copy.id, Phase::Live).await;
    assert_eq!(bench.key(&copy.id, "web").await.as_deref(), Some("none"));
    let (needs, commit) = bench.fork_pull("${KEY:?needed}").await;
    let failed = bench.reaches(needs, Phase::Failed, Some(&commit)).await;
    let failure = bench.newest(&failed.id).await.failure.unwrap();
    assert!(failure.hint.as_ref().unwrap().contains("may not push"), "{failure:?}");

    // A copy of one that is trusted has what that has, until another commit is put into it.
    let own = bench.branch_pull("key", "${KEY:-none}").await;
    let own = bench.reaches(own, Phase::Live, None).await;
    assert_eq!(bench.key(&own.id, "web").await.as_deref(), Some(ONE));
    let copy = handle.create_clone(&own.id, "somebody").await.unwrap();
    bench.stands(&copy.id, Phase::Live).await;
    assert_eq!(bench.key(&copy.id, "web").await.as_deref(), Some(ONE));
    for id in [&copy.id, &own.id] {
        let foreign = bench.fork_commit("${KEY:-deployed}").await;
        handle.deploy(id, &foreign).await.unwrap();
        bench.key_becomes(id, "deployed").await;
    }
    assert_eq!(bench.leaks(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_variable_can_hold_is_told_without_being_shown() {
    let bench = Bench::granting().await;
    bench.secret(Some(&format!("{ONE}\0"))).await;
    let number = bench.branch_pull("key", "${KEY}").await;
    let row = bench.reaches(number, Phase::Failed, None).await;
    let failure = bench.newest(&row.id).await.failure.unwrap();
    assert!(
        failure.message.contains("`KEY`") && failure.message.contains("a zero byte"),
        "{failure:?}"
    );
    assert!(failure.hint.unwrap().contains("as a file"));
    assert_eq!(bench.leaks(), Vec::<String>::new());
}
