//! Maquette with three pull requests, one that is live, one that starts as long as it is let, and one that fails; and a browser.

use crate::rig::{COMPOSE, Rig, SETTINGS};
use forge::local::{FileChange, NewPullRequest};
use std::time::{Duration, Instant};
use test_support::browser::{Browser, Page};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(240);
const SERVES: &str = "[\"python3\", \"-m\", \"http.server\", \"8080\"]";
/// It begins to serve when it is told to, which may take long on a machine that is busy.
const WAITS: &str = "[\"sh\", \"-c\", \"until test -e /tmp/go; do sleep 0.1; done; exec python3 -m http.server 8080\"]";
const ENDS: &str = "[\"python3\", \"-c\", \"print('the flux is missing', flush=True); raise SystemExit(3)\"]";
const CHECK: &str = "    healthcheck:\n      test: [CMD, python3, -c, \"import socket; socket.create_connection(('127.0.0.1', 8080))\"]\n      \
                     interval: 1s\n      start_period: 10m\n";

pub(crate) struct Street {
    pub(crate) rig: Rig,
    pub(crate) browser: Browser,
}

fn html(text: &str) -> Vec<u8> {
    format!("<!doctype html><meta charset=utf-8><title>The shop</title><h1>{text}</h1>").into_bytes()
}

impl Street {
    pub(crate) async fn open() -> Self {
        let files = [
            FileChange::write("compose.yaml", COMPOSE),
            FileChange::write("maquette.yaml", SETTINGS),
            FileChange::write("index.html", html("The page of main")),
            FileChange::write("further.html", html("A further page")),
        ];
        let mut rig = Rig::new(&files).await;
        rig.start().await;
        let street = Self {
            rig,
            browser: Browser::start(),
        };
        for (number, title, command) in [
            (1, "A change", SERVES),
            (2, "A slow start", WAITS),
            (3, "A failure", ENDS),
        ] {
            let branch = format!("branch-{number}");
            let patience = format!("{CHECK}    restart:");
            let compose = COMPOSE.replace(SERVES, command).replace("    restart:", &patience);
            let files = [
                FileChange::write("compose.yaml", compose),
                FileChange::write("index.html", html(&format!("The page of pr-{number}"))),
            ];
            street.rig.push(&branch, &files).await;
            let new = NewPullRequest::new(branch.parse().unwrap(), "main".parse().unwrap(), title);
            assert_eq!(street.rig.forge_open(new).await.0, number);
        }
        street.rig.comment(forge::PullRequestNumber(1), &["live** with"]).await;
        street
    }

    pub(crate) fn address(&self, label: &str, path: &str) -> String {
        format!("http://{label}.localhost:{}{path}", self.rig.gateway)
    }

    /// A sign-in link, which there is as soon as the environment is known.
    pub(crate) async fn link(&self, label: &str) -> String {
        self.rig.says(&["open", label], &["#token="]).await.trim().to_owned()
    }

    /// Lets the second one start.
    pub(crate) async fn let_it_start(&self) {
        let since = Instant::now();
        loop {
            let told = self.rig.run(&["exec", "pr-2", "web", "touch", "/tmp/go"]).await;
            if told.code == 0 {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{told:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the third one has failed.
    pub(crate) async fn failed(&self) {
        self.rig.comment(forge::PullRequestNumber(3), &["failed**"]).await;
    }

    /// Pictures of a page for people with large and small windows, who like it light or dark. It fits into each of them.
    pub(crate) async fn pictures(&self, page: &Page, name: &str) {
        for (kind, width, height, scheme) in [
            ("phone", 360, 740, "light"),
            ("dark", 1280, 800, "dark"),
            ("light", 1280, 800, "light"),
        ] {
            page.window(width, height, scheme).await;
            assert!(page.overflow().await <= 0, "{name} is too wide for {kind}");
            page.picture(&format!("{name}-{kind}")).await;
        }
    }
}
