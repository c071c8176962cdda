//! Who may do what, and the difference between "gone", "not ours to see" and "not there to ask".

use crate::{World, connect};
use forge::{
    BranchFact, Forge, ForgeError, Permission, PullRequestNumber, Secret,
    gitea::{Gitea, Limits},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn permissions_are_those_of_this_moment() {
    let world = World::new().await;
    let ask = async |user: &str| world.forge.permission(&world.id, user).await.unwrap();
    assert_eq!(ask(world.ada.user()).await, Permission::Admin);
    assert_eq!(ask(world.bob.user()).await, Permission::Write);
    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    assert_eq!(ask(eve.user()).await, Permission::None);
    world.ada.allow(world.path(), world.bob.user(), "read").await.unwrap();
    assert_eq!(ask(world.bob.user()).await, Permission::Read);
    for nobody in ["no-such-user", "", "..", "a/b", "../../admin", &"x".repeat(10_000)] {
        assert_eq!(ask(nobody).await, Permission::None, "{nobody}");
    }
}

#[tokio::test]
async fn who_pushed_is_what_the_forge_recorded_and_not_what_the_commit_claims() {
    let world = World::new().await;
    let branch = "topic".parse().unwrap();
    world.push("topic", "by ada");
    // The author of the commit is Ada in any case; Bob pushes it.
    world
        .tree
        .git(&["remote", "set-url", "origin", &world.bob.git_url(world.path())])
        .unwrap();
    let commit = world.push("topic", "pushed by bob").parse().unwrap();
    let pusher = crate::eventually("a record of the push", || async {
        world.forge.pusher(&world.id, &branch, &commit).await.unwrap()
    });
    assert_eq!(pusher.await.login.as_str(), world.bob.user());
    // Also for a branch that is new, one that is new without a new commit, and one that is forced back.
    let (id, bob) = (&world.id, world.bob.user());
    let first = world.tree.git(&["rev-parse", "HEAD~1"]).unwrap();
    let fresh = world.push("fresh", "a new branch");
    world
        .tree
        .git(&["push", "--quiet", "origin", "HEAD:refs/heads/copy"])
        .unwrap();
    world
        .tree
        .git(&[
            "push",
            "--quiet",
            "--force",
            "origin",
            &format!("{first}:refs/heads/topic"),
        ])
        .unwrap();
    for (branch, commit) in [("fresh", &fresh), ("copy", &fresh), ("topic", &first)] {
        let (branch, commit) = (branch.parse().unwrap(), commit.parse().unwrap());
        let by_bob = async || {
            let pusher = world.forge.pusher(id, &branch, &commit).await.unwrap();
            pusher.filter(|pusher| pusher.login.as_str() == bob)
        };
        crate::eventually(&format!("a record of the push to {branch}"), by_bob).await;
    }
    let unknown = "a".repeat(40).parse().unwrap();
    assert_eq!(world.forge.pusher(&world.id, &branch, &unknown).await.unwrap(), None);
}

#[tokio::test]
async fn what_we_may_not_see_is_not_gone() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let (branch, gone) = ("topic".parse().unwrap(), "gone".parse().unwrap());

    let bad = connect(&world.server, &"0".repeat(40));
    assert!(matches!(
        bad.pull_request(&world.id, number).await,
        Err(ForgeError::Unauthorized { .. })
    ));
    assert!(matches!(
        bad.branch(&world.id, &gone).await,
        Err(ForgeError::Unauthorized { .. })
    ));
    assert!(matches!(bad.account().await, Err(ForgeError::Unauthorized { .. })));

    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    let outside = connect(&world.server, eve.token());
    assert!(matches!(
        outside.pull_request(&world.id, number).await,
        Err(ForgeError::NotFound { .. })
    ));
    assert!(matches!(
        outside.branch(&world.id, &gone).await,
        Err(ForgeError::NotFound { .. })
    ));

    assert_eq!(world.forge.branch(&world.id, &gone).await.unwrap(), BranchFact::Absent);
    let collaborator = format!("repos/{}/collaborators/{}", world.path(), world.bot.user());
    world
        .ada
        .call(reqwest::Method::DELETE, &collaborator, Value::Null)
        .await
        .unwrap();
    let error = world.forge.branch(&world.id, &branch).await.unwrap_err();
    assert!(error.is_access_lost() && !error.is_transient(), "{error}");
    let error = world.forge.pull_request(&world.id, number).await.unwrap_err();
    assert!(error.is_access_lost(), "{error}");
}

#[tokio::test]
async fn a_reader_may_not_write() {
    let world = World::new().await;
    let commit = world.push("topic", "one").parse().unwrap();
    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    world.ada.allow(world.path(), eve.user(), "read").await.unwrap();
    let reader = connect(&world.server, eve.token());
    let status = forge::CommitStatus {
        state: forge::StatusState::Success,
        description: "x".to_owned(),
        target: None,
    };
    assert!(matches!(
        reader.status_set(&world.id, &commit, &status).await,
        Err(ForgeError::Forbidden { .. })
    ));
    let (url, secret) = ("http://127.0.0.1:1/".parse().unwrap(), Secret::new("x".to_owned()));
    let hook = reader.webhook_ensure(&world.id, &url, &secret, None).await;
    assert!(matches!(hook, Err(ForgeError::Forbidden { .. })), "{hook:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_and_comes_back() {
    let server = test_support::gitea::Gitea::start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::on(Arc::new(server)).await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    Arc::get_mut(&mut world.server).unwrap().pause();
    assert!(matches!(
        world.forge.pull_request(&world.id, number).await,
        Err(ForgeError::Unreachable { .. })
    ));
    let error = world
        .forge
        .branch(&world.id, &"gone".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ForgeError::Unreachable { .. }) && error.is_transient());
    assert!(!format!("{error:?}").contains(world.bot.token()));
    Arc::get_mut(&mut world.server).unwrap().resume().await.unwrap();
    assert!(world.read(number).await.state.is_open());
}

/// Answers each connection with the next of these texts, the last one again and again, and counts them.
async fn stub(answers: Vec<String>, request: Duration) -> (Gitea, tokio::sync::mpsc::Receiver<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, count) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut answer = String::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = sender.try_send(());
            answer = answers.next().unwrap_or(answer);
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                // Holds the connection and says nothing.
                std::future::pending::<()>().await;
            }
        }
    });
    let limits = Limits {
        request,
        body: 1000,
        pause: Duration::from_millis(1),
        ..Limits::default()
    };
    (Gitea::new(&url, Secret::new("t".to_owned()), limits).unwrap(), count)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn gone_is_said_only_while_the_repository_can_be_seen() {
    let repository = |permissions: &str| {
        let body = format!(r#"{{"id":1,"full_name":"a/b","permissions":{permissions}}}"#);
        answer("200 OK", "", &body)
    };
    let visible = repository(r#"{"admin":false,"push":true,"pull":true}"#);
    let gone = answer("404 Not Found", "", "");
    let ask = async |after: String| {
        let (forge, _count) = stub(vec![visible.clone(), gone.clone(), after], crate::PATIENCE).await;
        forge.pull_request(&1.into(), PullRequestNumber(1)).await
    };
    assert_eq!(ask(visible.clone()).await.unwrap(), forge::PullRequestFact::Absent);
    let error = ask(answer("401 Unauthorized", "", "")).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unauthorized { .. }), "{error}");
    let error = ask(gone.clone()).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");
    let error = ask(answer("503 Unavailable", "", "")).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unreachable { .. }), "{error}");
    let error = ask(repository(r#"{"admin":false,"push":false,"pull":false}"#))
        .await
        .unwrap_err();
    assert!(matches!(error, ForgeError::Forbidden { .. }), "{error}");
}

async fn answered(status: &str, headers: &str, body: &str) -> (ForgeError, usize) {
    let (forge, mut count) = stub(vec![answer(status, headers, body)], crate::PATIENCE).await;
    let error = forge.pull_request(&1.into(), PullRequestNumber(1)).await.unwrap_err();
    let mut tried = 0;
    while count.try_recv().is_ok() {
        tried += 1;
    }
    (error, tried)
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_that_say_so() {
    let (error, tried) = answered("502 Bad Gateway", "", "<html>").await;
    assert!(matches!(error, ForgeError::Unreachable { .. }), "{error}");
    assert_eq!(tried, 3, "reads are tried again");
    let (error, tried) = answered("429 Too Many Requests", "retry-after: 7\r\n", "").await;
    assert!(
        matches!(error, ForgeError::RateLimited { retry_after, .. } if retry_after.as_secs() == 7),
        "{error}"
    );
    assert_eq!(tried, 1, "but not against a limit");
    let (error, _) = answered("302 Found", "location: http://169.254.169.254/\r\n", "").await;
    assert!(matches!(error, ForgeError::Invalid { .. }), "{error}");
    let (error, _) = answered("200 OK", "", "<html>").await;
    assert!(matches!(error, ForgeError::Invalid { .. }), "{error}");
    let (error, _) = answered("200 OK", "", &"x".repeat(1001)).await;
    assert!(matches!(error, ForgeError::TooLarge { limit: 1000, .. }), "{error}");
    let (error, _) = answered("200 OK", "", r#"{"id":2,"full_name":"a/b"}"#).await;
    assert!(
        matches!(error, ForgeError::Invalid { .. }),
        "another repository: {error}"
    );
    let hostile = format!(r#"{{"message":"\u001b[2J{}"}}"#, "x".repeat(900));
    let (error, _) = answered("422 Unprocessable", "", &hostile).await;
    assert!(
        !error.to_string().contains('\u{1b}') && error.to_string().len() < 500,
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_us() {
    let (forge, _count) = stub(vec![String::new()], Duration::from_secs(1)).await;
    let error = forge.account().await.unwrap_err();
    assert!(matches!(error, ForgeError::Unreachable { .. }), "{error}");
}
