//! One pull request of a real Gitea from its opening to its receipt, told by nothing but webhooks: all of Maquette's processes, real
//! cells, a visitor who comes through the gateway, and a look at the machine when it is over.
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
mod namespaces;
#[path = "../../src/demo/outside.rs"]
mod outside;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;
mod team;

use rig::Visitor;
use rustix::process::geteuid;
use std::{collections::BTreeSet, time::Instant};
use team::{PATIENCE, Team, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_of_a_real_gitea_goes_live_follows_a_push_and_is_gone_after_the_close() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let since = Instant::now();
    let team = Team::started().await;
    eprintln!("Gitea and Maquette run after {:?}", since.elapsed());

    let opened = team.push("the page of a change\n", "ALTER TABLE note ADD COLUMN stars int;\n");
    let number = team.open("A change").await;
    let label = format!("pr-{number}");
    let comment = team
        .comment(number, &[&format!("live** with `{}`", opened.short())])
        .await;
    let address = format!("http://{label}.localhost:{}", team.rig.gateway);
    assert!(comment.body.contains(&address), "{}", comment.body);
    team.status(&opened, "success", "live", &address).await;
    eprintln!("live after {:?}", since.elapsed());

    let (status, page) = team.stranger(&address).await;
    assert!(status == 401 && !page.contains("A change"), "{status} {page}");
    let visitor = Visitor::new(&team.rig, &label).await;
    assert_eq!(
        visitor.get("/page.txt").await,
        (200, "the page of a change\n".to_owned())
    );
    team.write_note(&label).await;

    let pushed = team.push("the page of a push\n", "ALTER TABLE note ADD COLUMN seen int;\n");
    let edited = team
        .comment(number, &[&format!("live** with `{}`", pushed.short())])
        .await;
    assert_eq!(edited.id, comment.id, "the comment is edited in place");
    team.status(&pushed, "success", "live", &address).await;
    // The session is that of before.
    assert_eq!(visitor.get("/page.txt").await, (200, "the page of a push\n".to_owned()));
    assert_eq!(
        team.notes(&label).await,
        "by a reviewer||\n",
        "what people wrote is kept"
    );
    let view = team.rig.json(&["show", &label]).await;
    let id = view["id"].as_str().unwrap().to_owned();
    let environments = team.rig.json(&["list"]).await;
    let all = environments["environments"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{environments:#}");
    eprintln!("followed the push after {:?}", since.elapsed());

    let namespaces = namespaces::of(&id, &team.rig.run_dir);
    assert!(namespaces.iter().any(|name| name.starts_with("net:")), "{namespaces:?}");
    team.close(number).await;
    let ended = team.comment(number, &["verified gone"]).await;
    assert_eq!(ended.id, comment.id, "the comment is edited in place");
    let receipt = team.rig.json(&["receipt", &id]).await;
    assert_eq!(receipt["complete"], true, "{receipt:#}");
    let entries = receipt["entries"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| entry["gone"].is_u64()),
        "{receipt:#}"
    );
    eprintln!("receipt after {:?}", since.elapsed());
    team.nothing_is_left(&id, &namespaces).await;
    // Whoever was signed in may be believed for a while that they are.
    let (status, page) = visitor.get("/page.txt").await;
    assert!(
        [401, 404].contains(&status) && !page.contains("the page of"),
        "{status} {page}"
    );
}

impl Team {
    /// Waits until the machine has nothing of the environment: a network namespace goes a moment after its last user.
    async fn nothing_is_left(&self, id: &str, namespaces: &BTreeSet<String>) {
        let (cells, run) = (self.rig.root.join("cells"), self.rig.run_dir.clone());
        let instance = self.instance();
        let mut left = Vec::new();
        eventually(
            || async {
                let mut found = outside::traces(id, &[&cells, &run]);
                found.extend(outside::belongings(&instance, &cells, &run));
                found.extend(namespaces::left(namespaces));
                found
            },
            |found| {
                left.clone_from(found);
                found.is_empty()
            },
        )
        .await
        .unwrap_or_else(|| panic!("left after {PATIENCE:?}: {left:#?}\n{}", self.rig.log()));
    }
}
