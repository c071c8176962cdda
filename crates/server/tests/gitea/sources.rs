//! Projects of two repositories on a real Gitea, told by nothing but its webhooks.

use crate::bench::{Bench, Setting, commit_id};
use model::{CommitId, Origin, Phase};
use serde_json::json;
use std::time::{Duration, Instant};
use store::EnvironmentRow;
use test_support::gitea::{NewRepository, WorkTree};
use tokio::time::sleep;

fn compose(text: &str) -> String {
    format!(
        "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\n{text}\"]\n    \
         ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    depends_on: [api]\n  api:\n    image: node:20\n    \
         command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\napi\"]\n    expose: [\"9000\"]\n    volumes: [\".:/srv:ro\"]\n"
    )
}

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n    \
    api: { host: true, source: api }\npolicy: { baseline: none }\n";

/// A bench whose project has a second repository, and carries its blueprint in the source that is configured last.
async fn two(join: &'static str) -> Bench {
    let mut bench = Bench::new(Setting::WEBHOOKS).await;
    bench.stop().await;
    bench.tree.commit("maquette.yaml", SETTINGS, "Two").unwrap();
    bench.tree.commit("compose.yaml", &compose("one"), "Two").unwrap();
    bench.tree.git(&["push", "--quiet", "origin", "main"]).unwrap();
    let repository = bench.ada.make_repository("api", true).await.unwrap();
    for (who, what) in [(&bench.bob, "write"), (&bench.bot, "admin")] {
        bench.ada.allow(&repository.path, who.user(), what).await.unwrap();
    }
    let tree = WorkTree::clone(&bench.ada.git_url(&repository.path)).unwrap();
    tree.commit("api.txt", "one", "Begin").unwrap();
    tree.git(&["push", "--quiet", "origin", "main"]).unwrap();
    bench.api = Some((repository, tree));
    bench.join = join;
    bench.start().await;
    bench.has_webhook("api", None).await;
    assert_eq!(bench.hooks_of(api(&bench)).await.len(), 1);
    bench
}

fn api(bench: &Bench) -> &NewRepository {
    &bench.api.as_ref().unwrap().0
}

/// Commits to a branch of the second repository and pushes it.
fn push(bench: &Bench, branch: &str, text: &str, options: &[&str]) -> CommitId {
    let (_, tree) = bench.api.as_ref().unwrap();
    tree.git(&[
        "checkout",
        "--quiet",
        "-B",
        branch,
        if options.is_empty() { "HEAD" } else { "origin/main" },
    ])
    .unwrap();
    let commit = tree.commit("api.txt", text, "Change").unwrap();
    let to = format!("HEAD:refs/heads/{branch}");
    tree.git(&[&["push", "--quiet"], options, &["origin", &to]].concat())
        .unwrap();
    commit_id(&commit)
}

/// Waits until the environment of an origin is in this phase at these commits.
async fn reaches(bench: &Bench, origin: &Origin, phase: Phase, at: &[(&str, &CommitId)]) -> EnvironmentRow {
    let mut seen = String::new();
    let until = Instant::now() + crate::PATIENCE;
    while Instant::now() < until {
        let mut rows = bench.store.environment_list(None, true).await.unwrap();
        rows.retain(|row| row.origin == *origin);
        if let Some(row) = rows.pop() {
            let now = bench.phase(&row).await;
            let head = |name: &str| row.head.get(&name.parse().unwrap());
            if now == phase && at.iter().all(|(name, commit)| head(name) == Some(commit)) {
                return row;
            }
            let newest = bench.generations(&row.id).await.pop();
            seen = format!(
                "{now:?} at {:?}: {}; {:?}",
                row.head,
                row.overrides,
                newest.and_then(|row| row.failure)
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{origin:?} never reached {phase:?} at {at:?}, but {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_of_the_second_repository_brings_both_up_and_follows_the_branch_of_the_first() {
    let bench = two("none").await;
    let sibling = bench.push("feature", &compose("a sibling"));
    let first = push(&bench, "feature", "first", &[]);
    let number = bench
        .ada
        .open_pull_request(&api(&bench).path, "feature", "main", "Of the api")
        .await
        .unwrap();
    let origin = Origin::FurtherPullRequest {
        source: "api".parse().unwrap(),
        number,
    };
    let row = reaches(&bench, &origin, Phase::Live, &[("api", &first), ("shop", &sibling)]).await;
    let (_, body) = bench.comment_of(api(&bench), number, "live** with").await;
    assert!(body.contains(&format!("http://pr-{number}-api.preview.test")), "{body}");
    assert!(body.contains("Source shop is at branch feature"), "{body}");

    let sibling = bench.push("feature", &compose("pushed"));
    let live = reaches(&bench, &origin, Phase::Live, &[("api", &first), ("shop", &sibling)]).await;
    assert_eq!(live.id, row.id);
    let forced = push(&bench, "feature", "anew", &["--force"]);
    let live = reaches(&bench, &origin, Phase::Live, &[("api", &forced), ("shop", &sibling)]).await;
    assert_eq!(live.id, row.id);

    let path = api(&bench).path.clone();
    let closed = json!({ "state": "closed" });
    bench.ada.change_pull_request(&path, number, closed).await.unwrap();
    reaches(&bench, &origin, Phase::Ended, &[]).await;
    bench.comment_of(api(&bench), number, "verified gone").await;
    assert_eq!(bench.inventory().await, []);
    let receipt = bench.store.receipt_get(&row.id).await.unwrap().expect("a receipt");
    assert_eq!(receipt.reason, format!("pull request {number} of api was closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pull_requests_of_one_branch_in_two_repositories_share_an_environment() {
    let bench = two("branch").await;
    let origin = Origin::PullRequests {
        branch: "feature".parse().unwrap(),
    };
    let shop = bench.push("feature", &compose("two"));
    let of_shop = bench.open("feature", "Of the shop").await;
    let row = reaches(&bench, &origin, Phase::Live, &[("shop", &shop)]).await;
    let of = push(&bench, "feature", "first", &[]);
    let path = api(&bench).path.clone();
    let of_api = bench
        .ada
        .open_pull_request(&path, "feature", "main", "Of the api")
        .await
        .unwrap();
    let live = reaches(&bench, &origin, Phase::Live, &[("shop", &shop), ("api", &of)]).await;
    assert_eq!(live.id, row.id);
    for (repository, number) in [(&bench.repository, of_shop), (api(&bench), of_api)] {
        let (_, body) = bench.comment_of(repository, number, "is shared with").await;
        assert!(body.contains("http://prs-feature.preview.test"), "{body}");
    }
    bench.close(of_shop).await;
    bench.comment_says(of_shop, "the environment goes on for").await;
    // Services see another title now.
    let live = reaches(&bench, &origin, Phase::Live, &[("shop", &shop), ("api", &of)]).await;
    assert_eq!((live.id, live.wanted), (row.id, true));
    let closed = json!({ "state": "closed" });
    bench.ada.change_pull_request(&path, of_api, closed).await.unwrap();
    reaches(&bench, &origin, Phase::Ended, &[]).await;
    bench.comment_of(api(&bench), of_api, "verified gone").await;
    bench.comment_says(of_shop, "verified gone").await;
    assert_eq!(bench.inventory().await, []);
}
