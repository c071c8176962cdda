//! Tests of the local forge: the same questions that the real ones are asked.

use super::*;
use crate::{HeadOrigin, PullRequestAction, PullRequestState, StatusState, Subject, marked};
use std::{path::Path, time::Duration};
use tempfile::TempDir;
use test_support::gitea::WorkTree;

async fn open(dir: &Path) -> LocalForge {
    LocalForge::open(dir, &"demo/shop".parse().unwrap(), &name("main"))
        .await
        .unwrap()
}

async fn forge() -> (TempDir, LocalForge) {
    let dir = tempfile::tempdir().unwrap();
    let forge = open(dir.path()).await;
    forge
        .commit(&name("main"), None, &[FileChange::write("a", "1")], "first")
        .await
        .unwrap();
    (dir, forge)
}

fn name(text: &str) -> BranchName {
    text.parse().unwrap()
}

async fn topic(forge: &LocalForge) -> PullRequest {
    let change = [FileChange::write("b", "1")];
    forge
        .commit(&name("topic"), Some(&name("main")), &change, "change")
        .await
        .unwrap();
    forge
        .open_pull_request(NewPullRequest::new(name("topic"), name("main"), "A title"))
        .await
        .unwrap()
}

async fn read(forge: &LocalForge, number: PullRequestNumber) -> PullRequest {
    match forge.pull_request(forge.repository_id(), number).await.unwrap() {
        PullRequestFact::Present(pull) => *pull,
        PullRequestFact::Absent => panic!("absent"),
    }
}

#[tokio::test]
async fn the_life_of_a_pull_request() {
    let (_dir, forge) = forge().await;
    let pull = topic(&forge).await;
    let number = pull.number;
    assert_eq!(
        (number.0, pull.title.as_str(), pull.state),
        (1, "A title", PullRequestState::Open)
    );
    assert_eq!(pull.origin, HeadOrigin::BaseRepository(name("topic")));

    let pushed = forge
        .commit(&name("topic"), None, &[FileChange::delete("b")], "more")
        .await
        .unwrap();
    assert_eq!(read(&forge, number).await.head, pushed);
    forge.force(&name("topic"), &pull.head).await.unwrap();
    assert_eq!(read(&forge, number).await.head, pull.head);

    forge.close(number).await.unwrap();
    assert_eq!(read(&forge, number).await.state, PullRequestState::Closed);
    assert_eq!(forge.pull_request_list_open(forge.repository_id()).await.unwrap(), []);
    forge.force(&name("topic"), &pushed).await.unwrap();
    assert_eq!(
        read(&forge, number).await.head,
        pull.head,
        "a closed one keeps its commit"
    );
    forge.reopen(number).await.unwrap();
    let again = read(&forge, number).await;
    assert_eq!((again.state, again.head), (PullRequestState::Open, pushed));

    forge.force(&name("release"), &pull.head).await.unwrap();
    forge.change_base(number, &name("release")).await.unwrap();
    assert_eq!(read(&forge, number).await.base, Some(name("release")));
    forge.mark_merged(number).await.unwrap();
    assert!(forge.reopen(number).await.is_err());
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let (dir, forge) = forge().await;
    let opened = topic(&forge).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    forge
        .comment_add(opened.number, LocalForge::developer(), "hello")
        .await
        .unwrap();
    let pull = read(&forge, opened.number).await;
    assert!(pull.updated > opened.updated, "by that its comments are read anew");
    let id = forge.repository_id().clone();
    drop(forge);
    let again = LocalForge::open(dir.path(), &"other/name".parse().unwrap(), &name("trunk"))
        .await
        .unwrap();
    assert_eq!(*again.repository_id(), id);
    assert_eq!(again.repository(&id).await.unwrap().path.to_string(), "demo/shop");
    assert_eq!(read(&again, pull.number).await, pull);
    assert_eq!(again.comments(pull.number).unwrap()[0].body, "hello");
}

#[tokio::test]
async fn a_git_that_was_killed_holds_up_nobody() {
    let (_dir, forge) = forge().await;
    let pull = topic(&forge).await;
    let left = format!("{}.lock", pull.fetch_ref);
    std::fs::write(forge.repository_dir().join(left), "").unwrap();
    let change = [FileChange::write("b", "2")];
    let pushed = forge.commit(&name("topic"), None, &change, "pushed").await.unwrap();
    let open = forge.pull_request_list_open(forge.repository_id()).await.unwrap();
    assert_eq!(open[0].head, pushed);
    forge.close(pull.number).await.unwrap();
}

#[tokio::test]
async fn a_push_by_plain_git_is_seen() {
    let (_dir, forge) = forge().await;
    let pull = topic(&forge).await;
    let tree = WorkTree::clone(forge.repository_dir().to_str().unwrap()).unwrap();
    tree.git(&["checkout", "--quiet", "topic"]).unwrap();
    let commit = tree.commit("b", "2", "by hand").unwrap();
    tree.git(&["push", "--quiet", "origin", "topic"]).unwrap();
    assert_eq!(read(&forge, pull.number).await.head.as_str(), commit);
    let kept = tree.git(&["ls-remote", "origin", &pull.fetch_ref]).unwrap();
    assert!(kept.starts_with(&commit));

    let other = tree.commit("b", "3", "again").unwrap();
    assert_eq!(forge.push(tree.path(), &name("topic")).await.unwrap().as_str(), other);
    assert_eq!(read(&forge, pull.number).await.head.as_str(), other);
}

#[tokio::test]
async fn news_are_told_like_webhooks() {
    let (_dir, forge) = forge().await;
    let mut news = forge.subscribe();
    let pull = topic(&forge).await;
    let number = pull.number;
    forge.force(&name("topic"), &pull.head).await.unwrap();
    forge.close(number).await.unwrap();
    forge.delete_branch(&name("topic")).await.unwrap();
    let mut told = Vec::new();
    while let Ok(delivery) = news.try_recv() {
        assert_eq!(delivery.repository, *forge.repository_id());
        told.push(delivery.subject);
    }
    let branch = |commit| Subject::Branch {
        branch: name("topic"),
        commit,
    };
    let action = |action| Subject::PullRequest { number, action };
    assert_eq!(
        told,
        [
            branch(Some(pull.head.clone())),
            action(PullRequestAction::Opened),
            branch(Some(pull.head.clone())),
            action(PullRequestAction::Pushed),
            action(PullRequestAction::Closed),
            branch(None),
        ]
    );
}

#[tokio::test]
async fn deleting_the_branch_closes_its_pull_request_and_keeps_the_commit() {
    let (_dir, forge) = forge().await;
    let pull = topic(&forge).await;
    let pushed = forge
        .commit(&name("topic"), None, &[FileChange::write("c", "1")], "more")
        .await
        .unwrap();
    forge.delete_branch(&name("topic")).await.unwrap();
    let closed = read(&forge, pull.number).await;
    assert_eq!(
        (closed.state, closed.head, closed.origin),
        (PullRequestState::Closed, pushed, HeadOrigin::Detached)
    );
    let fact = forge.branch(forge.repository_id(), &name("topic")).await.unwrap();
    assert_eq!(fact, BranchFact::Absent);
    assert!(forge.reopen(pull.number).await.is_err());
}

#[tokio::test]
async fn a_fork_is_told_apart() {
    let (_dir, forge) = forge().await;
    let change = [FileChange::write("evil", "1")];
    let commit = forge.commit_create(None, &change, "theirs").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit.clone()),
        ..NewPullRequest::new(name("unused"), name("main"), "From a fork")
    };
    let pull = forge.open_pull_request(new).await.unwrap();
    assert_eq!(pull.origin, HeadOrigin::Fork { repository: None });
    assert_eq!((pull.author, pull.head), (LocalForge::stranger(), commit));
    let other = forge
        .commit_create(None, &[FileChange::write("evil", "2")], "theirs")
        .await
        .unwrap();
    forge.push_fork(pull.number, &other).await.unwrap();
    assert_eq!(read(&forge, pull.number).await.head, other);
    let permission = forge.permission(forge.repository_id(), "stranger").await.unwrap();
    assert!(!permission.may_push());
}

#[tokio::test]
async fn our_comment_is_one_and_others_are_left_alone() {
    let (_dir, forge) = forge().await;
    let number = topic(&forge).await.number;
    let id = forge.repository_id().clone();
    let marker = Marker::for_project(&"abc123".parse().unwrap(), &"shop".parse().unwrap());
    forge
        .comment_add(number, LocalForge::stranger(), &marked("mine", &marker))
        .await
        .unwrap();
    let made = forge.comment_put(&id, number, &marker, None, "one").await.unwrap();
    let both = tokio::join!(
        forge.comment_put(&id, number, &marker, None, "two"),
        forge.comment_put(&id, number, &marker, None, "two"),
    );
    assert_eq!((made.id, made.id), (both.0.unwrap().id, both.1.unwrap().id));
    let all = forge.comments(number).unwrap();
    assert_eq!(all.iter().map(|comment| comment.account.id).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(all[1].body, marked("two", &marker));
}

#[tokio::test]
async fn a_status_is_kept_for_its_commit() {
    let (_dir, forge) = forge().await;
    let head = topic(&forge).await.head;
    let status = CommitStatus {
        state: StatusState::Success,
        description: "live".to_owned(),
        target: None,
    };
    forge.status_set(forge.repository_id(), &head, &status).await.unwrap();
    assert_eq!(forge.status(&head).unwrap(), Some(status));
}

#[tokio::test]
async fn a_directory_is_imported_as_it_is_and_only_when_it_changed() {
    let (_dir, forge) = forge().await;
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("src")).unwrap();
    std::fs::write(files.path().join("src/x.py"), "print(1)\r\n").unwrap();
    std::fs::write(files.path().join(".gitignore"), "*.tmp\n").unwrap();
    std::fs::write(files.path().join("y.tmp"), "").unwrap();
    let first = forge.import(files.path(), &name("main"), "import").await.unwrap();
    assert_eq!(forge.import(files.path(), &name("main"), "again").await.unwrap(), first);
    let listed = forge
        .git("test", "ls-tree", ["-r", "--name-only", first.as_str()])
        .await
        .unwrap();
    assert_eq!(String::from_utf8(listed).unwrap(), ".gitignore\nsrc/x.py\n");
    let content = forge
        .git("test", "cat-file", ["blob", &format!("{first}:src/x.py")])
        .await
        .unwrap();
    assert_eq!(content, b"print(1)\r\n");
    std::fs::remove_file(files.path().join("src/x.py")).unwrap();
    assert_ne!(forge.import(files.path(), &name("main"), "less").await.unwrap(), first);
}

#[tokio::test]
async fn two_processes_that_open_at_once_get_two_numbers() {
    let (dir, forge) = forge().await;
    let other = open(dir.path()).await;
    for branch in ["one", "two"] {
        forge
            .commit(
                &name(branch),
                Some(&name("main")),
                &[FileChange::write("x", branch)],
                "x",
            )
            .await
            .unwrap();
    }
    let (one, two) = tokio::join!(
        forge.open_pull_request(NewPullRequest::new(name("one"), name("main"), "one")),
        other.open_pull_request(NewPullRequest::new(name("two"), name("main"), "two")),
    );
    assert_ne!(one.unwrap().number, two.unwrap().number);
    let again = forge
        .open_pull_request(NewPullRequest::new(name("one"), name("main"), "twice"))
        .await;
    assert!(again.is_err());
}

#[tokio::test]
async fn hostile_input_is_refused_or_cleaned() {
    let (_dir, forge) = forge().await;
    let main = name("main");
    for path in ["../x", "/x", ".git/config", "a/../../x", ""] {
        assert!(
            forge
                .commit(&main, None, &[FileChange::write(path, "x")], "x")
                .await
                .is_err(),
            "{path}"
        );
    }
    let branch = name("x;$(touch${IFS}pwned)");
    forge
        .commit(
            &branch,
            Some(&main),
            &[FileChange::write("b", "1")],
            "--help\n\u{1b}[2J",
        )
        .await
        .unwrap();
    let title = format!("\u{1b}]0;x\u{7}\u{202e}{}", "y".repeat(10_000));
    let pull = forge
        .open_pull_request(NewPullRequest::new(branch.clone(), main, &title))
        .await
        .unwrap();
    assert!(pull.title.as_str().len() <= 300 && pull.title.as_str().starts_with("]0;x yyy"));
    assert_eq!(
        read(&forge, pull.number).await.origin,
        HeadOrigin::BaseRepository(branch)
    );
    let missing = forge
        .open_pull_request(NewPullRequest::new(name("nothing"), name("main"), "x"))
        .await;
    assert!(missing.is_err());
    let other = forge.repository(&"other".parse().unwrap()).await;
    assert!(matches!(other, Err(crate::ForgeError::NotFound { .. })));
    let absent = forge
        .pull_request(forge.repository_id(), PullRequestNumber(99))
        .await
        .unwrap();
    assert_eq!(absent, PullRequestFact::Absent);
}

#[tokio::test]
async fn branches_are_found_loose_and_packed() {
    let (_dir, forge) = forge().await;
    let pull = topic(&forge).await;
    let at = async |branch: &str| forge.branch(forge.repository_id(), &name(branch)).await.unwrap();
    let main = at("main").await;
    forge.git("references", "pack-refs", ["--all"]).await.unwrap();
    assert_eq!(at("main").await, main);
    assert_eq!(at("topic").await, BranchFact::At(pull.head));
    let change = [FileChange::write("a", "2")];
    let commit = forge.commit(&name("main"), None, &change, "second").await.unwrap();
    assert_eq!(at("main").await, BranchFact::At(commit), "the packed one is older");
    forge.delete_branch(&name("topic")).await.unwrap();
    assert_eq!(at("topic").await, BranchFact::Absent);
    let deep = name("a/b/c");
    let commit = forge.commit(&deep, Some(&name("main")), &change, "deep").await.unwrap();
    assert_eq!(at("a/b/c").await, BranchFact::At(commit));
    assert_eq!(at("a/b").await, BranchFact::Absent);
}

#[tokio::test]
async fn a_repository_that_can_not_be_read_is_no_answer() {
    let (dir, forge) = forge().await;
    topic(&forge).await;
    std::fs::rename(forge.repository_dir(), dir.path().join("elsewhere")).unwrap();
    assert!(forge.branch(forge.repository_id(), &name("main")).await.is_err());
    assert!(forge.pull_request_list_open(forge.repository_id()).await.is_err());
}
