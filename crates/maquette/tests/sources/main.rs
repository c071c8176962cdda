//! Two repositories end to end: the three processes, real cells, a visitor of what each of them serves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use forge::{
    PullRequestNumber,
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::{BranchName, CommitId};
use rig::{Rig, Visitor};
use rustix::process::geteuid;
use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Both serve what they mount; of the second repository also what is made of it before.
const COMPOSE: &str = "services:\n  web:\n    image: python:3\n    command: [\"python3\", \"-m\", \"http.server\", \"8080\"]\n    \
     working_dir: /app\n    volumes: [\".:/app:ro\"]\n    ports: [\"8080:8080\"]\n  api:\n    image: python:3\n    \
     command: [\"python3\", \"-m\", \"http.server\", \"8081\"]\n    working_dir: /srv\n    volumes: [\".:/srv:ro\"]\n    \
     ports: [\"8081:8081\"]\n";
const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n    api:\n      host: true\n      public: true\n      \
     source: api\n      build:\n        run: [python3, -c, \"import os; os.makedirs('out'); open('out/made.txt', 'w').write(open('page.txt').read().upper())\"]\n        \
     inputs: [page.txt]\n        outputs: [out]\npolicy: { baseline: none }\n";

struct Two {
    rig: Rig,
    api: LocalForge,
}

fn own(path: &Path, (uid, gid): (u32, u32)) {
    // What is renamed meanwhile belongs to whoever renamed it.
    let _ = chown(path, Some(uid), Some(gid));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            own(&entry.path(), (uid, gid));
        } else if !entry.path().is_symlink() {
            let _ = chown(entry.path(), Some(uid), Some(gid));
        }
    }
}

fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

impl Two {
    async fn started() -> Self {
        let files = [
            FileChange::write("compose.yaml", COMPOSE),
            FileChange::write("maquette.yaml", SETTINGS),
            FileChange::write("page.txt", "the shop"),
        ];
        let rig = Rig::new(&files).await;
        let place = rig.root.join("api");
        fs::create_dir(&place).unwrap();
        let api = LocalForge::open(&place, &"local/api".parse().unwrap(), &branch("main"))
            .await
            .unwrap();
        let config = rig.config();
        let text = fs::read_to_string(&config).unwrap();
        let text = format!(
            "{text}      - name: api\n        forge: {{ kind: local, path: {} }}\nspares: {{ per_project: 0 }}\n",
            place.display()
        );
        fs::write(&config, text).unwrap();
        let mut two = Self { rig, api };
        two.write("main", "the api").await;
        two.rig.start().await;
        two
    }

    async fn write(&self, name: &str, page: &str) -> CommitId {
        let (main, files) = (branch("main"), [FileChange::write("page.txt", page)]);
        let from = (name != "main").then_some(&main);
        let commit = self.api.commit(&branch(name), from, &files, "Change").await.unwrap();
        self.give();
        commit
    }

    /// What root wrote to the second repository belongs to the user that Maquette runs as.
    fn give(&self) {
        own(&self.rig.root.join("api"), self.rig.user());
    }

    async fn open(&self, name: &str) -> PullRequestNumber {
        let new = NewPullRequest::new(branch(name), branch("main"), "A change");
        let opened = self.api.open_pull_request(new).await.unwrap();
        self.give();
        opened.number
    }

    /// Waits until a visitor sees this.
    async fn page(&self, label: &str, wanted: &str) {
        let since = Instant::now();
        let visitor = Visitor::new(&self.rig, label).await;
        loop {
            let (status, text) = visitor.get("/page.txt").await;
            if status == 200 && text.contains(wanted) {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(240),
                "{label} never said `{wanted}`: {status} {text}\n{}",
                self.rig.log()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the service of the second repository answers this to that of the first.
    async fn answers(&self, label: &str, path: &str, wanted: &str) {
        let ask = format!("import urllib.request as r; print(r.urlopen('http://api:8081{path}').read().decode())");
        let asked = ["exec", label, "web", "--", "python3", "-c", ask.as_str()];
        self.rig.says(&asked, &[wanted]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_the_second_repository_answers_from_its_own_files_and_follows_its_branch() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let two = Two::started().await;
    let first = two.write("topic", "the api, changed").await;
    let number = two.open("topic").await;
    let label = format!("pr-{number}-api");
    two.rig.says(&["show", &label], &["live", first.short()]).await;
    two.page(&label, "the shop").await;
    two.answers(&label, "/page.txt", "the api, changed").await;
    two.answers(&label, "/out/made.txt", "THE API, CHANGED").await;
    two.rig
        .says(&["show", &label], &["branch main", "Source shop is at branch main"])
        .await;

    // A branch of that name in the repository that carries the blueprint, and a push here.
    two.rig
        .push("topic", &[FileChange::write("page.txt", "the shop, changed")])
        .await;
    two.page(&label, "the shop, changed").await;
    two.write("topic", "the api, once more").await;
    two.answers(&label, "/page.txt", "the api, once more").await;
    two.answers(&label, "/out/made.txt", "THE API, ONCE MORE").await;

    two.api.close(number).await.unwrap();
    two.give();
    two.rig.says(&["list", "--ended"], &[&label, "ended"]).await;
}
