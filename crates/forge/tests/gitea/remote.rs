//! Git over HTTP from a private repository.

use crate::World;
use forge::{
    Forge, PullRequestNumber, Remote, Secret,
    git::{Git, GitError, GitLimits, Mirror},
};
use test_support::gitea::WorkTree;

async fn mirror(dir: &tempfile::TempDir) -> Mirror {
    let git = Git::new(dir.path().join("home"), GitLimits::default()).unwrap();
    Mirror::open(git, dir.path().join("mirror.git")).await.unwrap()
}

#[tokio::test]
async fn a_private_repository_is_fetched_with_our_token_which_is_kept_nowhere() {
    let world = World::new().await;
    let commit = world.push("topic", "one").parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(&dir).await;
    let remote = world.forge.remote(&world.id).await.unwrap();
    assert!(!remote.url.as_str().contains(world.bot.token()) && !format!("{remote:?}").contains(world.bot.token()));

    let anonymous = Remote {
        authorization: None,
        ..remote.clone()
    };
    assert!(matches!(
        mirror.fetch(&anonymous, &commit, None).await,
        Err(GitError::Failed { .. })
    ));
    let wrong = Remote {
        authorization: Some(Secret::new("Basic eDp5".to_owned())),
        ..remote.clone()
    };
    let error = mirror.fetch(&wrong, &commit, None).await.unwrap_err();
    assert!(
        matches!(error, GitError::Failed { .. }) && !error.to_string().contains("eDp5"),
        "{error}"
    );

    mirror.fetch(&remote, &commit, None).await.unwrap();
    assert_eq!(mirror.read_blob(&commit, "file.txt", 100).await.unwrap(), b"one");
    let found = std::process::Command::new("grep")
        .args(["-rlF", "--"])
        .arg(world.bot.token())
        .arg(dir.path())
        .output();
    assert!(found.unwrap().stdout.is_empty(), "the token was written to the disk");
}

#[tokio::test]
async fn a_commit_of_a_fork_is_fetched_from_the_base_repository() {
    let world = World::new().await;
    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    world.ada.allow(world.path(), eve.user(), "read").await.unwrap();
    let fork = eve.fork(world.path()).await.unwrap();
    let theirs = WorkTree::clone(&eve.git_url(&fork.path)).unwrap();
    theirs.git(&["checkout", "--quiet", "-B", "topic"]).unwrap();
    let commit = theirs.commit("fork.txt", "forked", "x").unwrap().parse().unwrap();
    theirs.git(&["push", "--quiet", "origin", "topic"]).unwrap();
    let head = format!("{}:topic", eve.user());
    let number = eve
        .open_pull_request(world.path(), &head, "main", "From a fork")
        .await
        .unwrap();
    let pull = world.read(PullRequestNumber(number)).await;
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(&dir).await;
    let remote = world.forge.remote(&world.id).await.unwrap();
    crate::eventually("the forge's copy of the fork's commit", async || {
        mirror.fetch(&remote, &commit, Some(&pull.fetch_ref)).await.ok()
    })
    .await;
    assert_eq!(mirror.read_blob(&commit, "fork.txt", 100).await.unwrap(), b"forked");
}

#[tokio::test]
async fn a_commit_that_does_not_exist_is_told_apart_from_a_server_that_does_not_answer() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mirror = mirror(&dir).await;
    let remote = world.forge.remote(&world.id).await.unwrap();
    let unknown = "a".repeat(40).parse().unwrap();
    let error = mirror
        .fetch(&remote, &unknown, Some("refs/pull/77/head"))
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::NoSuchCommit(_)), "{error}");
    let closed = Remote {
        url: "http://127.0.0.1:1/a/b.git".parse().unwrap(),
        ..remote
    };
    let error = mirror.fetch(&closed, &unknown, None).await.unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error}");
}
