//! What can be seen of a pull request: on Gitea as a reviewer, in the store and in the runtime.

use crate::bench::Bench;
use model::{CommitId, EnvironmentId, Origin, Phase, Resource};
use reconciler::standing;
use reqwest::Method;
use runtime::{Runtime, simulator::Call};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::{EnvironmentRow, GenerationRow, PullRequestRow};
use test_support::gitea::NewRepository;
use tokio::time::sleep;

impl Bench {
    /// All environments of a pull request, the newest last.
    pub(crate) async fn environments(&self, number: u64) -> Vec<EnvironmentRow> {
        let mut rows = self.store.environment_list(None, true).await.unwrap();
        rows.retain(|row| row.origin == Origin::PullRequest { number });
        rows.sort_by_key(|row| (row.ended.is_none(), row.created));
        let open = rows.iter().filter(|row| row.ended.is_none()).count();
        assert!(open <= 1, "{open} environments for one pull request: {rows:#?}");
        rows
    }

    pub(crate) async fn generations(&self, id: &EnvironmentId) -> Vec<GenerationRow> {
        self.store.generation_list(id).await.unwrap()
    }

    pub(crate) async fn phase(&self, row: &EnvironmentRow) -> Phase {
        standing(row, &self.generations(&row.id).await).1
    }

    /// What our server knows of a pull request.
    pub(crate) async fn pull_request(&self, number: u64) -> Option<PullRequestRow> {
        let (project, source) = ("shop".parse().unwrap(), "shop".parse().unwrap());
        self.store.pull_request_get(&project, &source, number).await.unwrap()
    }

    /// Waits until the pull request's newest environment is in this phase, at this commit if one is given.
    pub(crate) async fn reaches(&self, number: u64, phase: Phase, commit: Option<&CommitId>) -> EnvironmentRow {
        let mut seen = String::new();
        let until = Instant::now() + crate::PATIENCE;
        while Instant::now() < until {
            if let Some(row) = self.environments(number).await.pop() {
                let at = commit.is_none_or(|commit| row.head.values().any(|head| head == commit));
                let now = self.phase(&row).await;
                if at && now == phase {
                    return row;
                }
                let newest = self.generations(&row.id).await.pop();
                let failure = newest.and_then(|newest| newest.failure);
                seen = format!("{now:?} at {:?}: {}; {failure:?}", row.head, row.reason);
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("pull request {number} never reached {phase:?} at {commit:?}, but {seen}");
    }

    /// Waits until our one comment contains this text; returns its id and body.
    pub(crate) async fn comment_says(&self, number: u64, text: &str) -> (u64, String) {
        self.comment_of(&self.repository, number, text).await
    }

    /// The same for a pull request of some repository.
    pub(crate) async fn comment_of(&self, repository: &NewRepository, number: u64, text: &str) -> (u64, String) {
        let path = format!("repos/{}/issues/{number}/comments", repository.path);
        let mut seen = Value::Null;
        let until = Instant::now() + crate::PATIENCE;
        while Instant::now() < until {
            seen = self.ada.call(Method::GET, &path, Value::Null).await.unwrap();
            let mut comments = seen.as_array().cloned().unwrap_or_default();
            comments.retain(|comment| comment["user"]["login"] == json!(self.bot.user()));
            assert!(comments.len() <= 1, "two comments: {seen:#}");
            if let Some(comment) = comments.first() {
                let body = comment["body"].as_str().unwrap_or_default();
                if body.contains(text) {
                    return (comment["id"].as_u64().unwrap(), body.to_owned());
                }
            }
            sleep(Duration::from_millis(40)).await;
        }
        panic!("the comment never said {text:?}: {seen:#}");
    }

    /// Waits until a commit has one status, ours, and it is this; returns all that it was, the oldest first.
    pub(crate) async fn status_is(&self, commit: &CommitId, state: &str, description: &str) -> Vec<String> {
        let path = format!("repos/{}/commits/{commit}/status", self.repository.path);
        let mut seen = Value::Null;
        let until = Instant::now() + crate::PATIENCE;
        while Instant::now() < until {
            seen = self.ada.call(Method::GET, &path, Value::Null).await.unwrap();
            let statuses = seen["statuses"].as_array().cloned().unwrap_or_default();
            assert!(statuses.len() <= 1, "two statuses: {seen:#}");
            let ours = |status: &Value| {
                assert_eq!(status["context"], "maquette");
                status["status"] == state && status["description"] == description
            };
            if statuses.first().is_some_and(ours) {
                return self.told(commit).await;
            }
            sleep(Duration::from_millis(40)).await;
        }
        panic!("the status of {commit} never was {state} {description:?}: {seen:#}");
    }

    /// All that our status of a commit was, the oldest first.
    async fn told(&self, commit: &CommitId) -> Vec<String> {
        let path = format!("repos/{}/commits/{commit}/statuses", self.repository.path);
        let all = self.ada.call(Method::GET, &path, Value::Null).await.unwrap();
        let mut all = all.as_array().cloned().unwrap_or_default();
        all.sort_by_key(|status| status["id"].as_u64());
        let text = |status: &Value| status["description"].as_str().unwrap_or_default().to_owned();
        all.iter().map(text).collect()
    }

    pub(crate) async fn inventory(&self) -> Vec<Resource> {
        self.simulator.inventory(None).await.unwrap()
    }

    /// What was asked of the runtime for an environment, or to change something in it.
    pub(crate) fn calls_for(&self, id: &EnvironmentId) -> Vec<Call> {
        let mut calls = self.simulator.calls();
        calls.retain(|call| call.environment.as_ref() == Some(id) || call.operation.mutates());
        calls
    }
}
