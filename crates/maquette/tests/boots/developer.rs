//! Somebody who pushes, opens and closes pull requests, and asks Maquette how they stand.

use crate::{
    application::{self, FORGE},
    machine::{self, give_forge, patiently},
    outside::traces,
    visitor::Visitor,
};
use forge::{
    PullRequestNumber,
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::{CommitId, EnvironmentId};
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc, time::Duration};

const API: &str = "http://127.0.0.1:7070/api/v1";

pub(crate) struct Developer {
    forge: LocalForge,
    client: reqwest::Client,
}

/// What is said about the data of an environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    /// What was written last may be damaged or missing.
    Damaged,
}

impl Developer {
    pub(crate) async fn new() -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
        let developer = Self {
            forge: application::open_forge().await,
            client: client.unwrap(),
        };
        developer.answers().await;
        developer
    }

    /// Status and answer of a request to the API.
    async fn ask(&self, path: &str, body: Option<Value>) -> Result<(u16, Value), String> {
        let token = fs::read_to_string("/var/lib/maquette/operator.token").map_err(|error| error.to_string())?;
        let url = format!("{API}{path}");
        let request = match body {
            Some(body) => self.client.post(url).json(&body),
            None => self.client.get(url),
        };
        let answer = request.bearer_auth(token.trim()).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// An answer that comes in the end.
    async fn get(&self, path: &str) -> Value {
        patiently(path, || async {
            match self.ask(path, None).await {
                Ok((200, value)) => Ok(value),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    pub(crate) async fn answers(&self) {
        self.get("/environments").await;
    }

    async fn nudge(&self) {
        give_forge();
        // One that is lost costs a moment: the forge is also looked at regularly.
        let _ = self.ask("/projects/shop/nudge", Some(json!({}))).await;
    }

    async fn commit(&self, branch: &str, files: &[FileChange]) -> CommitId {
        let (branch, main) = (branch.parse().unwrap(), "main".parse().unwrap());
        let commit = self.forge.commit(&branch, Some(&main), files, "Change").await.unwrap();
        self.nudge().await;
        commit
    }

    /// Opens a pull request whose page says its branch's name.
    pub(crate) async fn open(&self, branch: &str) -> (PullRequestNumber, CommitId) {
        let page = FileChange::write("page.txt", format!("{branch} opened\n"));
        let commit = self.commit(branch, &[page]).await;
        let new = NewPullRequest::new(branch.parse().unwrap(), "main".parse().unwrap(), "A change");
        let number = self.forge.open_pull_request(new).await.unwrap().number;
        self.nudge().await;
        (number, commit)
    }

    /// Pushes another page and a migration.
    pub(crate) async fn push(&self, branch: &str) -> CommitId {
        let page = FileChange::write("page.txt", format!("{branch} pushed\n"));
        let migration = FileChange::write("db/2.sql", "ALTER TABLE orders ADD COLUMN stars int;\n");
        self.commit(branch, &[page, migration]).await
    }

    /// Pushes one migration more.
    pub(crate) async fn push_more(&self, branch: &str) -> CommitId {
        let migration = FileChange::write("db/3.sql", "ALTER TABLE orders ADD COLUMN note text;\n");
        self.commit(branch, &[migration]).await
    }

    pub(crate) async fn head(&self, branch: &str) -> CommitId {
        let branch = branch.parse().unwrap();
        let found = forge::Forge::branch(&self.forge, self.forge.repository_id(), &branch).await;
        match found.unwrap() {
            forge::BranchFact::At(head) => head,
            forge::BranchFact::Absent => panic!("no {branch}"),
        }
    }

    pub(crate) async fn close(&self, number: PullRequestNumber) {
        self.forge.close(number).await.unwrap();
        self.nudge().await;
    }

    async fn environments(&self, number: PullRequestNumber) -> Vec<Value> {
        let list = self.get("/environments?ended=true").await;
        let all = list["environments"].as_array().unwrap().clone();
        let ours = |row: &Value| row["pull_request"]["number"] == number.0;
        all.into_iter().filter(ours).collect()
    }

    /// The environment of a pull request once it stands as wanted.
    async fn stands(&self, number: PullRequestNumber, how: &str, is: impl Fn(&Value) -> bool) -> Value {
        let what = format!("pull request {number} {how}");
        patiently(&what, || async {
            let mut rows = self.environments(number).await;
            rows.retain(|row| row["phase"] != "ended");
            assert!(rows.len() <= 1, "{rows:#?}");
            let mut row = rows.pop().unwrap_or_default();
            if let Some(id) = row["id"].as_str() {
                // The list does not ask how services are.
                row = self.get(&format!("/environments/{id}")).await;
            }
            if is(&row) {
                return Ok(row);
            }
            let why = self.ask(&format!("/environments/pr-{number}/why"), None).await;
            Err(format!("{row:#}\n{why:#?}"))
        })
        .await
    }

    /// Waits until the commit is live and all of it runs: after a boot it takes a moment until everything is made again.
    pub(crate) async fn live(&self, number: PullRequestNumber, commit: &CommitId) -> EnvironmentId {
        let is = |row: &Value| is_live(row, commit) && all_ready(row);
        id(&self.stands(number, "live", is).await)
    }

    /// Waits until the commit is live, or something of it is broken.
    pub(crate) async fn settled(&self, number: PullRequestNumber, commit: &CommitId) -> EnvironmentId {
        let is = |row: &Value| is_live(row, commit) && all_ready(row) || is_broken(row);
        id(&self.stands(number, "settled", is).await)
    }

    pub(crate) async fn told(&self, number: PullRequestNumber) -> Told {
        let shown = self.get(&format!("/environments/pr-{number}")).await.to_string();
        match shown.contains("may be damaged or missing") {
            true => Told::Damaged,
            false => Told::Nothing,
        }
    }

    /// Serves what it had. If its database is too damaged for that, it is made anew as it was told.
    pub(crate) async fn usable(&self, number: PullRequestNumber, visitor: &Visitor, had: &[String]) {
        let row = self.stands(number, "there", |row| !row.is_null()).await;
        if !is_broken(&row) {
            let orders = visitor.orders().await;
            assert!(orders.starts_with(had), "{orders:?} begin not with {had:?}: {row:#}");
            eprintln!("pull request {number} serves what it had, {} orders", orders.len());
            return;
        }
        eprintln!("pull request {number} is made anew: {row:#}");
        assert_eq!(self.told(number).await, Told::Damaged, "{row:#}");
        let asked = self
            .ask(&format!("/environments/pr-{number}/recreate"), Some(json!({})))
            .await;
        assert!(asked.as_ref().is_ok_and(|(status, _)| *status < 300), "{asked:?}");
        self.stands(number, "live", |row| row["phase"] == "live" && all_ready(row))
            .await;
        assert_eq!(visitor.orders().await, ["a seed"]);
    }

    /// There was never another one, and one comment says so.
    pub(crate) async fn only(&self, number: PullRequestNumber, id: &EnvironmentId) {
        let all = self.environments(number).await;
        assert!(matches!(&all[..], [one] if one["id"] == id.as_str()), "{all:#?}");
    }

    pub(crate) async fn no_service_was_restarted(&self, number: PullRequestNumber) {
        let shown = self.get(&format!("/environments/pr-{number}")).await;
        for service in shown["services"].as_array().unwrap() {
            assert_eq!(service["restarts"], 0, "{service:#}");
            assert_eq!(service["state"], "ready", "{service:#}");
        }
    }

    pub(crate) async fn visitor(&self, number: PullRequestNumber) -> Arc<Visitor> {
        let label = format!("pr-{number}");
        patiently("signing in", || async {
            let link = machine::run(&["maquette", "open", &label]);
            Visitor::new(&label, &link).await.map(Arc::new)
        })
        .await
    }

    pub(crate) fn visitor_with(&self, number: PullRequestNumber, cookie: &str) -> Arc<Visitor> {
        Arc::new(Visitor::with(&format!("pr-{number}"), cookie))
    }

    /// Waits until a step of the pull request's environment has begun, in its newest generation or in its end.
    pub(crate) async fn begun(&self, number: PullRequestNumber, step: &str) {
        let path = format!("/environments/pr-{number}/steps");
        patiently(&format!("{step} of pull request {number}"), || async {
            let asked = self.ask(&path, None).await;
            let Ok((_, shown)) = &asked else {
                return Err(format!("{asked:?}"));
            };
            let newest = shown["generations"].as_array().and_then(|all| all.last());
            let steps = newest
                .and_then(|newest| newest["steps"].as_array())
                .into_iter()
                .flatten();
            let end = shown["removal"].as_array().into_iter().flatten();
            let gone = self
                .environments(number)
                .await
                .iter()
                .any(|row| row["phase"] == "ended");
            let mut all = steps.chain(end);
            if gone || all.any(|row| row["id"] == step && row["state"] != "waiting") {
                return Ok(());
            }
            Err(format!("{shown:#}"))
        })
        .await;
    }

    /// Waits for a receipt whose entries are all gone; nothing on the machine bears the id.
    pub(crate) async fn ended(&self, id: &str) {
        let receipt = patiently(&format!("the receipt of {id}"), || async {
            match self.ask(&format!("/environments/{id}/receipt"), None).await {
                Ok((200, receipt)) if !receipt["completed"].is_null() => Ok(receipt),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let entries = receipt["entries"].as_array().unwrap();
        assert!(!entries.is_empty(), "{receipt:#}");
        assert!(entries.iter().all(|entry| !entry["gone"].is_null()), "{receipt:#}");
        patiently(&format!("nothing of {id}"), || async {
            let left = traces(id, &[Path::new("/var/lib/maquette-cells"), Path::new("/run/maquette")]);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:#?}"))
            }
        })
        .await;
    }

    pub(crate) fn comments_are_single(&self, numbers: &[PullRequestNumber]) {
        for number in numbers {
            let comments = self.forge.comments(*number).unwrap();
            assert_eq!(comments.len(), 1, "{FORGE}: {comments:#?}");
        }
    }
}

fn is_live(row: &Value, commit: &CommitId) -> bool {
    row["phase"] == "live" && row["commits"]["shop"]["live"] == commit.as_str()
}

fn services(row: &Value) -> impl Iterator<Item = &Value> {
    row["services"].as_array().into_iter().flatten()
}

fn all_ready(row: &Value) -> bool {
    services(row).count() > 0 && services(row).all(|service| service["state"] == "ready")
}

/// It has failed for good, or a service of it ends whenever it is started.
fn is_broken(row: &Value) -> bool {
    let ends = |service: &Value| service["restarts"].as_u64().is_some_and(|restarts| restarts > 3);
    ["failed", "live_older"].contains(&row["phase"].as_str().unwrap_or_default()) || services(row).any(ends)
}

fn id(row: &Value) -> EnvironmentId {
    row["id"].as_str().unwrap().parse().unwrap()
}
