//! A branch with a pull request is followed to the commit of which it is known who pushed it.

use super::*;
use forge::local::{FileChange, LocalForge};
use model::Timestamp;
use std::sync::Arc;
use store::PullRequestState;

fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

fn pull(head: &CommitId, trusted: bool) -> PullRequestRow {
    PullRequestRow {
        project: "shop".parse().unwrap(),
        source: "api".parse().unwrap(),
        number: 1,
        title: String::new(),
        author: String::new(),
        branch: "feature".to_owned(),
        head: head.clone(),
        base: "main".to_owned(),
        state: PullRequestState::Open,
        fork: false,
        trusted,
        draft: false,
        labels: Vec::new(),
        web_url: None,
        observed: Timestamp(0),
        closed_reads: 0,
    }
}

#[tokio::test]
async fn a_push_since_the_pull_request_was_read_waits_for_the_next_look() {
    let directory = tempfile::tempdir().unwrap();
    let path = "developer/api".parse().unwrap();
    let forge = LocalForge::open(directory.path(), &path, &branch("main"))
        .await
        .unwrap();
    let files = [FileChange::write("api.txt", "x")];
    let main = forge.commit(&branch("main"), None, &files, "Begin").await.unwrap();
    let files = [FileChange::write("api.txt", "y")];
    let pushed = forge
        .commit(&branch("feature"), Some(&branch("main")), &files, "Change")
        .await
        .unwrap();
    let source = Source {
        name: "api".parse().unwrap(),
        repository: forge.repository_id().clone(),
        forge: Arc::new(forge),
        base_branch: branch("main"),
        policy_branch: branch("main"),
    };
    let feature = branch("feature");
    let at = |commit: &CommitId| Ok((feature.clone(), commit.clone()));
    let known = Pin {
        branch: Some(feature.clone()),
        trouble: None,
    };
    let mut wish = Wish {
        leading: None,
        branch: Some(&feature),
        chosen: BTreeMap::new(),
        approved: BTreeMap::new(),
        before: BTreeMap::from([(source.name.clone(), known)]),
    };
    let mut sight = Sight::default();

    // Without a pull request it is followed wherever it is.
    assert_eq!(place(&source, &wish, &[], &mut sight).await, at(&pushed));
    let seen = [pull(&pushed, true)];
    assert_eq!(place(&source, &wish, &seen, &mut sight).await, at(&pushed));
    let before = [pull(&main, true)];
    assert_eq!(place(&source, &wish, &before, &mut sight).await, at(&main));
    for doubted in [&pushed, &main] {
        let stays = place(&source, &wish, &[pull(doubted, false)], &mut sight).await;
        let words = format!("commit {} waits for approval", doubted.short());
        assert!(stays.as_ref().is_err_and(|why| why.contains(&words)), "{stays:?}");
    }
    wish.approved.insert(source.name.clone(), pushed.clone());
    let approved = [pull(&pushed, false)];
    assert_eq!(place(&source, &wish, &approved, &mut sight).await, at(&pushed));
}
