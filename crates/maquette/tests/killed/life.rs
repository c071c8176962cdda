//! The life of one pull request on real cells, looked at from outside.

use crate::{
    kill::{PATIENCE, Part, Point, Process, Subject, environment_of, open_store, steps_after, strike},
    outside::traces,
    rig::{Rig, Visitor},
};
use forge::{PullRequestNumber, local::FileChange};
use model::{CommitId, EnvironmentId, Generation, Origin};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs::Metadata,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

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
const SETTINGS: &str = "stack:
  services:
    web: { host: true, public: true }
  data:
    db: { versions: \"13-18\", migrations: db/*.sql, seed: [seed.sql] }
policy: { baseline: none }
";

pub(crate) fn write(path: &str, content: impl Into<Vec<u8>>) -> FileChange {
    FileChange::write(path, content)
}

/// Maquette with one project: a page and a database with a migration and a seed.
pub(crate) async fn running() -> Rig {
    let mut rig = Rig::new(&[
        write("compose.yaml", COMPOSE),
        write("maquette.yaml", SETTINGS),
        write("db/1.sql", "CREATE TABLE note (text text);\n"),
        write("seed.sql", "INSERT INTO note VALUES ('a seed');\n"),
        write("page.txt", "main\n"),
    ])
    .await;
    rig.start().await;
    rig
}

/// One pull request.
pub(crate) struct Life {
    pub(crate) number: PullRequestNumber,
    pub(crate) branch: String,
    pub(crate) label: String,
}

/// A process and where it is to be killed.
pub(crate) type Fault<'a> = (&'a Point, Process);

/// Root wrote to the forge; it belongs to the user that Maquette runs as, like the state directory.
pub(crate) fn give(rig: &Rig) {
    let owner = std::fs::metadata(rig.state()).unwrap();
    own(&rig.root.join("forge"), &owner);
}

fn own(path: &Path, owner: &Metadata) {
    // What is renamed meanwhile belongs to whoever renamed it.
    let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if !entry.path().is_symlink() {
            own(&entry.path(), owner);
        }
    }
}

/// What a webhook does. A server that is away reads the forge when it is back.
pub(crate) async fn nudge(rig: &Rig) {
    let token = std::fs::read_to_string(rig.state().join("operator.token")).unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/projects/shop/nudge", rig.api);
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let _ = client.post(url).bearer_auth(token.trim()).send().await;
}

impl Life {
    /// Opens a pull request whose page says its branch's name.
    pub(crate) async fn open(rig: &Rig, branch: &str) -> (Self, CommitId) {
        let (number, commit) = rig
            .change(branch, &[write("page.txt", format!("{branch} opened\n"))])
            .await;
        nudge(rig).await;
        let life = Self {
            number,
            branch: branch.to_owned(),
            label: format!("pr-{number}"),
        };
        (life, commit)
    }

    /// Pushes another page and a further migration.
    pub(crate) async fn push(&self, rig: &Rig) -> CommitId {
        let files = [
            write("page.txt", format!("{} pushed\n", self.branch)),
            write("db/2.sql", "ALTER TABLE note ADD COLUMN stars int;\n"),
        ];
        let commit = rig.push(&self.branch, &files).await;
        nudge(rig).await;
        commit
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin::PullRequest { number: self.number.0 }
    }

    pub(crate) async fn close(&self, rig: &Rig) {
        rig.forge.close(self.number).await.unwrap();
        give(rig);
        nudge(rig).await;
    }

    pub(crate) async fn reopen(&self, rig: &Rig) {
        rig.forge.reopen(self.number).await.unwrap();
        give(rig);
        nudge(rig).await;
    }

    /// All environments that there ever were for the pull request.
    pub(crate) async fn environments(&self, rig: &Rig) -> Vec<Value> {
        let list = rig.json(&["list", "--ended"]).await;
        let all = list["environments"].as_array().unwrap().clone();
        let ours = |row: &Value| row["pull_request"]["number"] == self.number.0;
        all.into_iter().filter(ours).collect()
    }

    /// Waits until exactly one environment is live at the commit, and returns its id.
    pub(crate) async fn live(&self, rig: &Rig, commit: &CommitId) -> EnvironmentId {
        let since = Instant::now();
        loop {
            let mut rows = self.environments(rig).await;
            rows.retain(|row| row["phase"] != "ended");
            assert!(rows.len() <= 1, "{rows:#?}");
            let row = rows.pop().unwrap_or_default();
            if row["phase"] == "live" && row["commits"]["shop"]["live"] == commit.as_str() {
                return row["id"].as_str().unwrap().parse().unwrap();
            }
            if since.elapsed() > PATIENCE {
                let why = rig.run(&["why", &self.label]).await;
                panic!("never live at {commit}: {row:#}\n{why:?}\n{}", rig.log());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn sql(&self, rig: &Rig, sql: &str) -> String {
        let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc", sql];
        let exec = ["exec", "-e", "PGPASSWORD=shop", &self.label, "db"];
        rig.ok(&[&exec[..], &psql[..]].concat()).await
    }

    /// Somebody signs in and sees the page of this branch.
    pub(crate) async fn visited(&self, rig: &Rig, what: &str) -> Visitor {
        let visitor = Visitor::new(rig, &self.label).await;
        assert_eq!(
            visitor.get("/page.txt").await,
            (200, format!("{} {what}\n", self.branch)),
            "{}",
            rig.log()
        );
        visitor
    }

    /// Waits for the end of one of its environments, of which something was made.
    pub(crate) async fn ended(&self, rig: &Rig, id: &EnvironmentId) {
        assert!(ended(rig, id).await > 0, "an empty receipt");
    }

    async fn newest(rig: &Rig, id: &EnvironmentId) -> Generation {
        let store = open_store(rig).await;
        let newest = store.environment_get(id).await.unwrap().unwrap().newest.unwrap();
        store.close().await;
        newest
    }
}

/// Waits for the end: a receipt whose entries are all gone, and nothing on the machine that bears the id. Returns how many
/// entries there are.
pub(crate) async fn ended(rig: &Rig, id: &EnvironmentId) -> usize {
    let since = Instant::now();
    let receipt = loop {
        let asked = rig.run(&["--json", "receipt", id.as_str()]).await;
        let receipt: Value = serde_json::from_str(&asked.out).unwrap_or_default();
        if receipt["complete"] == true {
            break receipt;
        }
        if since.elapsed() > PATIENCE {
            let why = rig.run(&["why", id.as_str()]).await;
            panic!("no receipt: {asked:?}\n{why:?}\n{}", rig.log());
        }
        sleep(Duration::from_millis(50)).await;
    };
    let entries = receipt["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| !entry["gone"].is_null()), "{receipt:#}");
    // Some things the kernel removes a moment later.
    let since = Instant::now();
    loop {
        let left = traces(id.as_str(), &[&rig.root.join("cells"), &rig.run_dir]);
        if left.is_empty() {
            return entries.len();
        }
        assert!(since.elapsed() < PATIENCE, "left of {id}: {left:#?}\n{}", rig.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Adds the points that it went through.
pub(crate) async fn seen(rig: &Rig, part: Part, id: &EnvironmentId, before: Generation, points: &mut BTreeSet<Point>) {
    let store = open_store(rig).await;
    for row in steps_after(&store, id, before).await {
        for ended in [false, true] {
            let step = row.step.clone();
            points.insert(Point { part, step, ended });
        }
    }
    store.close().await;
}

/// A whole life, with at most one kill in each part of it. Returns the points that it went through.
pub(crate) async fn live_through(rig: &mut Rig, branch: &str, faults: &[Fault<'_>]) -> BTreeSet<Point> {
    let fault = |part| faults.iter().find(move |(point, _)| point.part == part);
    let mut points = BTreeSet::new();
    let (life, commit) = Life::open(rig, branch).await;
    if let Some((point, process)) = fault(Part::Open) {
        strike(rig, &Subject::new(life.origin()), point, *process).await;
    }
    let id = life.live(rig, &commit).await;
    seen(rig, Part::Open, &id, Generation(0), &mut points).await;
    let visitor = life.visited(rig, "opened").await;
    life.sql(rig, "INSERT INTO note VALUES ('by a reviewer')").await;

    let before = Life::newest(rig, &id).await;
    let commit = life.push(rig).await;
    if let Some((point, process)) = fault(Part::Push) {
        let subject = Subject {
            origin: life.origin(),
            id: Some(&id),
            before,
        };
        strike(rig, &subject, point, *process).await;
    }
    assert_eq!(life.live(rig, &commit).await, id, "a push made another environment");
    seen(rig, Part::Push, &id, before, &mut points).await;
    life.visited(rig, "pushed").await;
    assert_eq!(visitor.get("/page.txt").await.0, 200, "a session outlives a push");
    let rows = life.sql(rig, "SELECT text, stars FROM note ORDER BY text").await;
    assert_eq!(rows, "a seed|\nby a reviewer|\n");

    let before = Life::newest(rig, &id).await;
    life.close(rig).await;
    if let Some((point, process)) = fault(Part::Close) {
        let subject = Subject {
            origin: life.origin(),
            id: Some(&id),
            before,
        };
        strike(rig, &subject, point, *process).await;
    }
    life.ended(rig, &id).await;
    seen(rig, Part::Close, &id, before, &mut points).await;
    assert_eq!(
        life.environments(rig).await.len(),
        1,
        "one pull request, one environment"
    );
    // The forge is told after the fact. There is one comment only.
    rig.comment(life.number, &["verified gone"]).await;
    let (status, text) = visitor.get("/page.txt").await;
    assert!(
        status != 200 && !text.contains("pushed"),
        "the address still answers: {status}"
    );
    let store = open_store(rig).await;
    assert_eq!(environment_of(&store, &life.origin()).await, None);
    store.close().await;
    points
}
