//! The store is lost while environments run: what people work in goes on with its data, and nothing is made twice or left behind.

use crate::{
    kill::Process,
    left::nothing_is_left,
    life::{Life, ended, running},
    rig::Rig,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

/// Ends the server at once.
fn kill_server(rig: &Rig) -> Pid {
    let serve = Process::Serve.pid(rig).unwrap();
    kill_process(serve, Signal::KILL).unwrap();
    serve
}

fn store(rig: &Rig) -> PathBuf {
    rig.state().join("store.db")
}

fn lose(store: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", store.display()));
    }
    assert!(!store.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_go_on_when_the_store_is_lost_and_end_with_receipts() {
    let mut rig = running().await;
    let (stays, commit) = Life::open(&rig, "stays").await;
    let id = stays.live(&rig, &commit).await;
    stays.sql(&rig, "INSERT INTO note VALUES ('by a reviewer')").await;
    let web = rig.process(id.as_str(), "http.server");
    let (goes, other) = Life::open(&rig, "goes").await;
    let gone = goes.live(&rig, &other).await;

    let serve = kill_server(&rig);
    waitpid(Some(serve), WaitOptions::empty()).unwrap();
    lose(&store(&rig));
    // Nobody hears of it.
    goes.close(&rig).await;
    rig.start().await;

    assert_eq!(stays.live(&rig, &commit).await, id);
    assert!(ended(&rig, &gone).await > 0, "an empty receipt");
    let receipt = rig.json(&["receipt", gone.as_str()]).await;
    assert!(
        receipt["reason"].as_str().unwrap().contains("was closed"),
        "{receipt:#}"
    );
    rig.comment(goes.number, &["verified gone"]).await;
    // The same processes with the same data, at the same address.
    assert_eq!(rig.process(id.as_str(), "http.server"), web);
    stays.visited(&rig, "opened").await;
    let commit = stays.push(&rig).await;
    assert_eq!(stays.live(&rig, &commit).await, id);
    assert_eq!(
        stays.sql(&rig, "SELECT text FROM note ORDER BY text").await,
        "a seed\nby a reviewer\n"
    );
    stays.visited(&rig, "pushed").await;
    stays.close(&rig).await;
    stays.ended(&rig, &id).await;
    rig.comment(stays.number, &["verified gone"]).await;
    for life in [&stays, &goes] {
        assert_eq!(
            life.environments(&rig).await.len(),
            1,
            "one pull request, one environment"
        );
    }
    nothing_is_left(&mut rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_installation_does_not_touch_what_runs() {
    let mut rig = running().await;
    let (life, commit) = Life::open(&rig, "mine").await;
    let id = life.live(&rig, &commit).await;
    let web = rig.process(id.as_str(), "http.server");
    let file = rig.state().join("store.instance");
    let own = fs::read_to_string(&file).unwrap();
    let serve = kill_server(&rig);
    waitpid(Some(serve), WaitOptions::empty()).unwrap();
    let (uid, gid) = rig.user();
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        chown(&file, Some(uid), Some(gid)).unwrap();
    };

    // The store says who it is, and the file says something else.
    write("zzzzzz\n");
    rig.spawn();
    assert_ne!(rig.ended().await, 0);
    assert!(rig.log().contains("says zzzzzz"), "{}", rig.log());

    // Both say something else than the cell host that runs.
    lose(&store(&rig));
    rig.spawn();
    assert_eq!(rig.ended().await, 6);
    let told = format!("it belongs to the installation {}, and this is zzzzzz", own.trim());
    assert!(rig.log().contains(&told), "{}", rig.log());
    assert_eq!(rig.process(id.as_str(), "http.server"), web);

    lose(&store(&rig));
    write(&own);
    rig.start().await;
    assert_eq!(life.live(&rig, &commit).await, id);
    assert_eq!(rig.process(id.as_str(), "http.server"), web);
    life.close(&rig).await;
    life.ended(&rig, &id).await;
}
