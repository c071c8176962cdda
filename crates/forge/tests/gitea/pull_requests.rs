//! What the port says of pull requests and branches.

use crate::World;
use forge::{BranchFact, Forge, HeadOrigin, PullRequestFact, PullRequestNumber, PullRequestState};
use serde_json::json;
use test_support::gitea::WorkTree;

#[tokio::test]
async fn the_life_of_a_pull_request_is_seen() {
    let world = World::new().await;
    let first = world.push("topic", "one");
    let number = world.open("topic").await;
    let pull = world.read(number).await;
    assert_eq!(pull.state, PullRequestState::Open);
    assert_eq!(pull.origin, HeadOrigin::BaseRepository("topic".parse().unwrap()));
    assert_eq!(pull.head.as_str(), first);
    assert_eq!(pull.base, Some("main".parse().unwrap()));
    assert_eq!(pull.title.as_str(), "A title");
    assert_eq!(pull.author.login.as_str(), world.ada.user());
    assert!(pull.page.unwrap().as_str().ends_with(&format!("/pulls/{number}")));
    assert!(pull.updated.0 > 1_700_000_000_000);
    let listed = world.forge.pull_request_list_open(&world.id).await.unwrap();
    assert_eq!(listed.iter().map(|pull| pull.number).collect::<Vec<_>>(), [number]);

    let second = world.push("topic", "two");
    assert_eq!(world.read(number).await.head.as_str(), second);

    world.tree.git(&["reset", "--quiet", "--hard", "origin/main"]).unwrap();
    let forced = world.push("topic", "three");
    assert_eq!(world.read(number).await.head.as_str(), forced);

    world
        .tree
        .git(&["push", "--quiet", "origin", "origin/main:refs/heads/release"])
        .unwrap();
    let change = json!({ "base": "release", "title": "WIP: Another title" });
    world
        .ada
        .change_pull_request(world.path(), number.0, change)
        .await
        .unwrap();
    let pull = world.read(number).await;
    assert_eq!(pull.base, Some("release".parse().unwrap()));
    assert_eq!(pull.title.as_str(), "WIP: Another title");
    assert!(pull.draft);

    world
        .ada
        .change_pull_request(world.path(), number.0, json!({ "state": "closed" }))
        .await
        .unwrap();
    assert_eq!(world.read(number).await.state, PullRequestState::Closed);
    assert_eq!(world.forge.pull_request_list_open(&world.id).await.unwrap(), []);

    world
        .ada
        .change_pull_request(world.path(), number.0, json!({ "state": "open" }))
        .await
        .unwrap();
    assert_eq!(world.read(number).await.state, PullRequestState::Open);

    assert_eq!(
        world
            .forge
            .pull_request(&world.id, PullRequestNumber(999))
            .await
            .unwrap(),
        PullRequestFact::Absent
    );
}

#[tokio::test]
async fn a_head_from_a_fork_is_not_of_the_base_repository_even_if_its_branch_is_called_alike() {
    let world = World::new().await;
    world.push("topic", "ours");
    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    world.ada.allow(world.path(), eve.user(), "read").await.unwrap();
    let fork = eve.fork(world.path()).await.unwrap();
    let theirs = WorkTree::clone(&eve.git_url(&fork.path)).unwrap();
    theirs.git(&["checkout", "--quiet", "-B", "topic"]).unwrap();
    let commit = theirs.commit("evil.txt", "x", "x").unwrap();
    theirs.git(&["push", "--quiet", "--force", "origin", "topic"]).unwrap();
    let head = format!("{}:topic", eve.user());
    let number = eve
        .open_pull_request(world.path(), &head, "main", "From a fork")
        .await
        .unwrap();
    let pull = world.read(PullRequestNumber(number)).await;
    assert_eq!(
        pull.origin,
        HeadOrigin::Fork {
            repository: Some(fork.id.into())
        }
    );
    assert_eq!(pull.head.as_str(), commit);
    let status = forge::CommitStatus {
        state: forge::StatusState::Pending,
        description: "needs approval".to_owned(),
        target: None,
    };
    world.forge.status_set(&world.id, &pull.head, &status).await.unwrap();
    let set = world.ada.statuses(world.path(), &commit).await.unwrap();
    assert_eq!(
        set[0].2, "needs approval",
        "the status is on a commit that only the fork has pushed"
    );

    eve.call(
        reqwest::Method::DELETE,
        &format!("repos/{}", fork.path),
        serde_json::Value::Null,
    )
    .await
    .unwrap();
    let pull = world.read(PullRequestNumber(number)).await;
    assert_eq!(
        pull.origin,
        HeadOrigin::Fork { repository: None },
        "the fork was deleted"
    );
}

#[tokio::test]
async fn a_head_that_a_reader_pushed_without_a_branch_is_not_trusted() {
    let world = World::new().await;
    let eve = world.admin.make_user(&crate::name("eve")).await.unwrap();
    world.ada.allow(world.path(), eve.user(), "read").await.unwrap();
    let theirs = WorkTree::clone(&eve.git_url(world.path())).unwrap();
    theirs.commit("evil.txt", "x", "x").unwrap();
    theirs
        .git(&["push", "--quiet", "origin", "HEAD:refs/for/main", "-o", "topic=evil"])
        .unwrap();
    let open = world.forge.pull_request_list_open(&world.id).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].author.login.as_str(), eve.user());
    assert_eq!(open[0].origin, HeadOrigin::Detached);
}

#[tokio::test]
async fn a_deleted_branch_is_a_positive_absence() {
    let world = World::new().await;
    let commit = world.push("preview/one", "one");
    let branch = "preview/one".parse().unwrap();
    let found = world.forge.branch(&world.id, &branch).await.unwrap();
    assert_eq!(found, BranchFact::At(commit.parse().unwrap()));
    world
        .tree
        .git(&["push", "--quiet", "origin", "--delete", "preview/one"])
        .unwrap();
    assert_eq!(
        world.forge.branch(&world.id, &branch).await.unwrap(),
        BranchFact::Absent
    );
}

#[tokio::test]
async fn branches_named_like_an_attack_are_read_like_any_other() {
    let world = World::new().await;
    for name in [
        "x;$(touch${IFS}pwned)",
        "a'b\"c`id`",
        "größe/ü",
        "%2e%2e%2f",
        "a#b",
        "a&b=c",
        "a+b|c",
        "(x)",
    ] {
        let commit = world.push(name, name);
        let number = world.open(name).await;
        let branch = name.parse().unwrap();
        let found = world.forge.branch(&world.id, &branch).await.unwrap();
        assert_eq!(found, BranchFact::At(commit.parse().unwrap()), "{name}");
        let pull = world.read(number).await;
        assert_eq!(
            (pull.origin, pull.head.as_str()),
            (HeadOrigin::BaseRepository(branch), commit.as_str()),
            "{name}"
        );
        world.tree.git(&["checkout", "--quiet", "main"]).unwrap();
    }
    // Git takes it, we do not: it is shown cleaned, and never becomes an environment.
    let name = "safe\u{202e}evil";
    world.push(name, name);
    let pull = world.read(world.open(name).await).await;
    assert_eq!(pull.origin, HeadOrigin::Detached);
    assert_eq!(pull.head_label.as_str(), "safeevil");
}

#[tokio::test]
async fn hostile_titles_and_labels_come_cleaned() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let label = json!({ "name": "pre\u{202e}view", "color": "#00aabb" });
    let label = world
        .ada
        .call(reqwest::Method::POST, &format!("repos/{}/labels", world.path()), label)
        .await
        .unwrap();
    let path = format!("repos/{}/issues/{number}/labels", world.path());
    world
        .ada
        .call(reqwest::Method::POST, &path, json!({ "labels": [label["id"]] }))
        .await
        .unwrap();
    let title = format!("\u{1b}[2J\u{200f}<script>$(reboot)</script> {}", "x".repeat(200));
    world
        .ada
        .change_pull_request(world.path(), number.0, json!({ "title": title }))
        .await
        .unwrap();
    let pull = world.read(number).await;
    assert!(
        pull.title.as_str().starts_with("[2J<script>$(reboot)</script> xxx"),
        "{}",
        pull.title
    );
    assert_eq!(
        pull.labels.iter().map(|label| label.as_str()).collect::<Vec<_>>(),
        ["preview"]
    );
}

#[tokio::test]
async fn a_repository_keeps_its_id_when_it_is_renamed_and_its_old_name_means_another_one() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    assert!(world.read(number).await.state.is_open());
    let path = format!("repos/{}", world.path());
    world
        .ada
        .call(reqwest::Method::PATCH, &path, json!({ "name": "store" }))
        .await
        .unwrap();
    let other = world.ada.make_repository("shop", true).await.unwrap();
    world.ada.allow(&other.path, world.bot.user(), "admin").await.unwrap();
    assert_ne!(other.id.to_string(), world.id.as_str());
    let renamed = world.forge.repository(&world.id).await.unwrap();
    assert_eq!(renamed.path.name(), "store");
    assert_eq!(
        world.read(number).await.title.as_str(),
        "A title",
        "and not the absence of it in the other one"
    );
}
