//! A Gitea with a repository and its people, and Maquette as its operator sets it up for that repository.

use crate::rig::{Rig, SETTINGS};
use model::CommitId;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};
use test_support::gitea::{Client, Gitea, NewRepository, WorkTree};
use tokio::time::sleep;

/// Nothing takes longer on a machine that is busy with other tests, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

const COMPOSE: &str = "services:
  web:
    image: python:3
    command: [\"python3\", \"-m\", \"http.server\", \"8080\"]
    working_dir: /app
    volumes: [\".:/app:ro\"]
    ports: [\"8080:8080\"]
    depends_on: { db: { condition: service_healthy } }
    restart: unless-stopped
  db:
    image: postgres:15
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }
    volumes: [\"data:/var/lib/postgresql/data\"]
    healthcheck: { test: [\"CMD\", \"pg_isready\", \"-q\", \"-h\", \"127.0.0.1\", \"-U\", \"shop\"], interval: 1s, timeout: 5s, retries: 60 }
volumes: { data: }
";
const BRANCH: &str = "change";

/// Our comment.
pub(crate) struct Comment {
    pub(crate) id: u64,
    pub(crate) body: String,
}

pub(crate) struct Team {
    pub(crate) rig: Rig,
    /// Owns the repository and writes the change.
    ada: Client,
    /// Maquette's own account.
    bot: Client,
    repository: NewRepository,
    tree: WorkTree,
    gitea: Arc<Gitea>,
}

/// Asks until the answer is as wanted; nothing if it never was.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
    mut ask: impl FnMut() -> F,
    mut wanted: impl FnMut(&T) -> bool,
) -> Option<T> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let found = ask().await;
        if wanted(&found) {
            return Some(found);
        }
        sleep(Duration::from_millis(50)).await;
    }
    None
}

impl Team {
    /// Gitea and Maquette run, and the webhook is there.
    pub(crate) async fn started() -> Self {
        let gitea = Gitea::shared().await.unwrap_or_else(|error| panic!("{error}"));
        let admin = gitea.admin().unwrap();
        let (ada, bot) = (
            admin.make_user("ada").await.unwrap(),
            admin.make_user("bot").await.unwrap(),
        );
        let repository = ada.make_repository("shop", true).await.unwrap();
        ada.allow(&repository.path, bot.user(), "admin").await.unwrap();
        let tree = WorkTree::clone(&ada.git_url(&repository.path)).unwrap();
        let settings = SETTINGS.replace(
            "policy:",
            "  data:\n    db: { versions: \"13-18\", migrations: db/*.sql }\npolicy:",
        );
        tree.commit("maquette.yaml", &settings, "Say what is public").unwrap();
        tree.commit("page.txt", "the page of main\n", "Begin").unwrap();
        tree.commit("db/0000.sql", "CREATE TABLE note (text text);\n", "Begin")
            .unwrap();
        tree.commit("compose.yaml", COMPOSE, "Say what runs").unwrap();
        tree.git(&["push", "--quiet", "origin", "main"]).unwrap();
        tree.git(&["checkout", "--quiet", "-b", BRANCH]).unwrap();
        let rig = Rig::new(&[]).await;
        let mut team = Self {
            rig,
            ada,
            bot,
            repository,
            tree,
            gitea,
        };
        team.configure();
        team.rig.start().await;
        let hooks = format!("repos/{}/hooks", team.repository.path);
        let found = eventually(
            || async { team.ada.call(Method::GET, &hooks, Value::Null).await.unwrap() },
            |found| found.as_array().is_some_and(|hooks| hooks.len() == 1),
        );
        assert!(found.await.is_some(), "there is no webhook\n{}", team.rig.log());
        team
    }

    /// One project whose only source is on Gitea. Nobody waits for the poll.
    fn configure(&self) {
        let secrets = self.rig.root.join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::write(secrets.join("token"), self.bot.token()).unwrap();
        fs::write(secrets.join("webhook"), "a secret of the tests").unwrap();
        for path in [secrets.join("token"), secrets.join("webhook")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
        }
        self.rig.give_all(&secrets);
        let config = self.rig.config();
        let text = fs::read_to_string(&config).unwrap();
        let (before, _) = text.split_once("projects:").unwrap();
        let source = json!({ "kind": "gitea", "url": self.gitea.url(), "repository": self.repository.path,
            "token_file": secrets.join("token"), "webhook_secret_file": secrets.join("webhook"),
            "webhook_url": format!("http://127.0.0.1:{}/", self.rig.api) });
        let text = format!(
            "{}projects:\n  - name: shop\n    sources:\n      - forge: {source}\nspares: {{ per_project: 0 }}\n",
            before.replace("poll_seconds: 1", "poll_seconds: 3600")
        );
        fs::write(config, text).unwrap();
    }

    /// The id of this installation, which the names of all that it makes begin with.
    pub(crate) fn instance(&self) -> String {
        let text = fs::read_to_string(self.rig.state().join("store.instance")).unwrap();
        text.trim().to_owned()
    }

    /// Commits a page and one more migration, and pushes them.
    pub(crate) fn push(&self, page: &str, migration: &str) -> CommitId {
        let count = self.tree.git(&["rev-list", "--count", "HEAD"]).unwrap();
        self.tree.commit("page.txt", page, "Change the page").unwrap();
        let file = format!("db/{count:0>4}.sql");
        let commit = self.tree.commit(&file, migration, "Change the tables").unwrap();
        self.tree.git(&["push", "--quiet", "origin", BRANCH]).unwrap();
        commit.parse().unwrap()
    }

    pub(crate) async fn open(&self, title: &str) -> u64 {
        let path = &self.repository.path;
        self.ada.open_pull_request(path, BRANCH, "main", title).await.unwrap()
    }

    pub(crate) async fn close(&self, number: u64) {
        let closed = json!({ "state": "closed" });
        let path = &self.repository.path;
        self.ada.change_pull_request(path, number, closed).await.unwrap();
    }

    /// Waits until our comment says all of this. There is never a second one.
    pub(crate) async fn comment(&self, number: u64, wanted: &[&str]) -> Comment {
        let path = format!("repos/{}/issues/{number}/comments", self.repository.path);
        let mut seen = Value::Null;
        let found = eventually(
            || async { self.ada.call(Method::GET, &path, Value::Null).await.unwrap() },
            |found| {
                seen.clone_from(found);
                let all = found.as_array().map(Vec::as_slice).unwrap_or_default();
                assert!(
                    all.len() <= 1 && all.iter().all(|comment| comment["user"]["login"] == self.bot.user()),
                    "{found:#}"
                );
                let body = all
                    .first()
                    .and_then(|comment| comment["body"].as_str())
                    .unwrap_or_default();
                wanted.iter().all(|text| body.contains(text))
            },
        )
        .await;
        let Some(found) = found else {
            let why = self.rig.run(&["why", &format!("pr-{number}")]).await;
            panic!(
                "it never said {wanted:?}: {seen:#}\n{}{}\n{}",
                why.out,
                why.err,
                self.rig.log()
            );
        };
        Comment {
            id: found[0]["id"].as_u64().unwrap(),
            body: found[0]["body"].as_str().unwrap().to_owned(),
        }
    }

    /// Waits until the commit has one status, ours, which says this and leads there.
    pub(crate) async fn status(&self, commit: &CommitId, state: &str, description: &str, target: &str) {
        let path = format!("repos/{}/commits/{commit}/status", self.repository.path);
        let mut seen = Value::Null;
        let found = eventually(
            || async { self.ada.call(Method::GET, &path, Value::Null).await.unwrap() },
            |found| {
                seen.clone_from(found);
                let all = found["statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
                let is = |status: &Value| {
                    status["context"] == "maquette"
                        && status["status"] == state
                        && status["description"] == description
                        && status["target_url"].as_str().is_some_and(|url| url.starts_with(target))
                };
                all.len() == 1 && all.iter().all(is)
            },
        );
        assert!(
            found.await.is_some(),
            "never {state} {description:?} {target}: {seen:#}"
        );
    }

    /// What somebody gets who has not signed in.
    pub(crate) async fn stranger(&self, address: &str) -> (u16, String) {
        let host = address.trim_start_matches("http://").split(':').next().unwrap();
        let client = reqwest::Client::builder()
            .resolve(host, ([127, 0, 0, 1], self.rig.gateway).into())
            .build()
            .unwrap();
        let answer = client.get(format!("{address}/page.txt")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn sql(&self, label: &str, text: &str) -> String {
        let exec = ["exec", "-e", "PGPASSWORD=shop", label, "db"];
        let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc", text];
        self.rig.ok(&[&exec[..], &psql[..]].concat()).await
    }

    /// A reviewer writes something into the database.
    pub(crate) async fn write_note(&self, label: &str) {
        self.sql(label, "INSERT INTO note VALUES ('by a reviewer')").await;
    }

    pub(crate) async fn notes(&self, label: &str) -> String {
        self.sql(label, "SELECT * FROM note").await
    }
}
