//! What happens to pull requests, told by nothing but Gitea's webhooks; and the same by the poll alone.

use crate::{
    bench::{Bench, Setting, compose},
    eventually,
};
use model::Phase;
use reqwest::Method;
use serde_json::{Value, json};
use store::PullRequestState;

async fn hook_ids(bench: &Bench) -> Vec<Value> {
    let hooks = bench.hooks().await;
    hooks.iter().map(|hook| hook["id"].clone()).collect()
}

/// A trusted commit is never doubted, and is live once, at the end.
fn assert_told_truly(told: &[String]) {
    assert!(!told.iter().any(|text| text.contains("approval")), "{told:?}");
    assert_eq!(told.iter().filter(|text| *text == "live").count(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pull_request_from_open_to_merged_by_webhooks_alone() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let opened = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let row = bench.reaches(number, Phase::Live, Some(&opened)).await;
    let (comment, body) = bench.comment_says(number, "live** with").await;
    assert!(body.contains(&format!("http://pr-{number}.preview.test")), "{body}");
    let told = bench.status_is(&opened, "success", "live").await;
    assert_told_truly(&told);

    let pushed = bench.push("feature", &compose("three"));
    assert_eq!(bench.reaches(number, Phase::Live, Some(&pushed)).await.id, row.id);
    assert_eq!(
        bench
            .comment_says(number, &format!("live** with `{}`", pushed.short()))
            .await
            .0,
        comment
    );
    let told = bench.status_is(&pushed, "success", "live").await;
    assert_told_truly(&told);

    let forced = bench.push_anew("feature", &compose("four"));
    assert_eq!(bench.reaches(number, Phase::Live, Some(&forced)).await.id, row.id);
    bench.status_is(&forced, "success", "live").await;

    // Back to a commit that was there before: whoever pushed it now counts.
    bench
        .tree
        .git(&["reset", "--quiet", "--hard", opened.as_str()])
        .unwrap();
    bench.push_head("feature", &["--force"]);
    assert_eq!(bench.reaches(number, Phase::Live, Some(&opened)).await.id, row.id);
    assert_eq!(
        bench
            .comment_says(number, &format!("live** with `{}`", opened.short()))
            .await
            .0,
        comment
    );

    let generations = bench.generations(&row.id).await.len();
    let restarts = bench.simulator.calls().len();
    bench
        .tree
        .git(&["push", "--quiet", "origin", "origin/main:refs/heads/release"])
        .unwrap();
    bench
        .change(number, json!({ "base": "release", "title": "Another title" }))
        .await;
    eventually("the new base branch is known", || async {
        let pull = bench.pull_request(number).await?;
        (pull.base == "release" && pull.title == "Another title").then_some(())
    })
    .await;
    // Services see both, so there is a new generation in the same environment; the engine, which sees neither, goes on.
    eventually("the new title and base are live", || async {
        let all = bench.generations(&row.id).await;
        let last = all.last()?;
        let web = &last.spec.services()?.services[&"web".parse().ok()?];
        let said = format!("{:?}", web.workload.environment);
        let seen = said.contains("release") && said.contains("Another title");
        (seen && last.outcome == Some(store::Outcome::Live) && all.len() > generations).then_some(())
    })
    .await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&opened)).await.id, row.id);
    let calls = bench.simulator.calls();
    let again = |service: &str| {
        calls[restarts..]
            .iter()
            .any(|call| call.operation.mutates() && call.detail.contains(service))
    };
    assert!(again("web") && !again("cache"), "{calls:#?}");

    bench.close(number).await;
    assert_eq!(bench.reaches(number, Phase::Ended, None).await.id, row.id);
    assert_eq!(bench.comment_says(number, "verified gone").await.0, comment);
    assert_eq!(bench.inventory().await, []);
    let receipt = bench.store.receipt_get(&row.id).await.unwrap().expect("a receipt");
    assert_eq!(receipt.reason, format!("pull request {number} was closed"));
    assert!(!receipt.entries.is_empty() && receipt.entries.iter().all(|entry| entry.gone.is_some()));

    bench.reopen(number).await;
    let anew = bench.reaches(number, Phase::Live, Some(&opened)).await;
    assert_ne!(anew.id, row.id);
    assert_eq!(
        bench.comment_says(number, "live** with").await.0,
        comment,
        "the comment is the same one"
    );

    let path = format!("repos/{}/pulls/{number}/merge", bench.repository.path);
    let merge = json!({ "Do": "merge", "force_merge": true });
    eventually("Gitea merges it", || async {
        bench.ada.call(Method::POST, &path, merge.clone()).await.ok()
    })
    .await;
    let ended = bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(
        (ended.id, ended.reason),
        (anew.id, format!("pull request {number} was merged"))
    );
    bench.comment_says(number, "verified gone").await;
    assert_eq!(
        bench.pull_request(number).await.unwrap().state,
        PullRequestState::Merged
    );
    assert_eq!(bench.environments(number).await.len(), 2);
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pull_requests_at_once_do_not_know_of_each_other() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let (a, b) = (bench.push("a", &compose("a")), bench.push("b", &compose("b")));
    let (one, two) = tokio::join!(bench.open("a", "One"), bench.open("b", "Two"));
    let (first, second) = tokio::join!(
        bench.reaches(one, Phase::Live, Some(&a)),
        bench.reaches(two, Phase::Live, Some(&b))
    );
    assert_ne!(first.id, second.id);
    assert_ne!(first.label, second.label);
    bench.comment_says(one, &format!("pr-{one}.preview")).await;
    bench.comment_says(two, &format!("pr-{two}.preview")).await;
    let newer = bench.push("b", &compose("newer"));
    bench.close(one).await;
    let (gone, stays) = tokio::join!(
        bench.reaches(one, Phase::Ended, None),
        bench.reaches(two, Phase::Live, Some(&newer))
    );
    assert_eq!((gone.id, stays.id), (first.id, second.id.clone()));
    let left = bench.inventory().await;
    assert!(
        !left.is_empty() && left.iter().all(|resource| resource.environment == second.id),
        "{left:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_and_reopened_faster_than_anybody_looks() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let mut commit = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    for n in 0..3 {
        bench.close(number).await;
        bench.reopen(number).await;
        commit = bench.push("feature", &compose(&format!("push {n}")));
    }
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    let (comment, _) = bench
        .comment_says(number, &format!("live** with `{}`", commit.short()))
        .await;
    bench.status_is(&commit, "success", "live").await;
    bench.close(number).await;
    bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(bench.comment_says(number, "verified gone").await.0, comment);
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_environment_follows_its_branch_and_ends_with_it() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    bench.push("topic", &compose("topic"));
    let row = bench.create_branch("topic").await;
    let at = |commit: Option<model::CommitId>, phase: Phase| {
        let (bench, id) = (&bench, row.id.clone());
        async move {
            eventually("the branch's environment follows", || async {
                let now = bench.store.environment_get(&id).await.unwrap().unwrap();
                let at = commit
                    .as_ref()
                    .is_none_or(|commit| now.head.values().any(|head| head == commit));
                (at && bench.phase(&now).await == phase).then_some(())
            })
            .await;
        }
    };
    at(None, Phase::Live).await;
    let newer = bench.push("topic", &compose("newer"));
    at(Some(newer), Phase::Live).await;
    bench
        .tree
        .git(&["push", "--quiet", "origin", "--delete", "topic"])
        .unwrap();
    at(None, Phase::Ended).await;
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_webhooks_lost_the_poll_finds() {
    let bench = Bench::new(Setting {
        poll_seconds: 1,
        ..Setting::WEBHOOKS
    })
    .await;
    for hook in bench.hooks().await {
        let path = format!("repos/{}/hooks/{}", bench.repository.path, hook["id"]);
        bench.ada.call(Method::DELETE, &path, Value::Null).await.unwrap();
    }
    let opened = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let row = bench.reaches(number, Phase::Live, Some(&opened)).await;
    let (comment, _) = bench.comment_says(number, "live** with").await;
    let pushed = bench.push_anew("feature", &compose("three"));
    assert_eq!(bench.reaches(number, Phase::Live, Some(&pushed)).await.id, row.id);
    bench.close(number).await;
    bench.reaches(number, Phase::Ended, None).await;
    bench.reopen(number).await;
    assert_ne!(bench.reaches(number, Phase::Live, Some(&pushed)).await.id, row.id);
    assert_eq!(
        bench
            .comment_says(number, &format!("live** with `{}`", pushed.short()))
            .await
            .0,
        comment
    );
    assert_eq!(bench.hooks().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_repository_is_still_ours_and_its_old_name_means_nothing() {
    let mut bench = Bench::new(Setting::WEBHOOKS).await;
    let opened = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let row = bench.reaches(number, Phase::Live, Some(&opened)).await;
    let (comment, _) = bench.comment_says(number, "live** with").await;
    let hooks = hook_ids(&bench).await;

    let rename = json!({ "name": "store" });
    let path = format!("repos/{}", bench.repository.path);
    bench.ada.call(Method::PATCH, &path, rename).await.unwrap();
    // A repository that has no such pull request takes the old name.
    let other = bench.ada.make_repository("shop", true).await.unwrap();
    bench.ada.allow(&other.path, bench.bot.user(), "admin").await.unwrap();
    bench.repository.path = bench.repository.path.replace("/shop", "/store");
    let address = bench.ada.git_url(&bench.repository.path);
    bench.tree.git(&["remote", "set-url", "origin", &address]).unwrap();

    bench.stop().await;
    bench.start().await;
    let pushed = bench.push("feature", &compose("three"));
    assert_eq!(bench.reaches(number, Phase::Live, Some(&pushed)).await.id, row.id);
    let (same, _) = bench
        .comment_says(number, &format!("live** with `{}`", pushed.short()))
        .await;
    assert_eq!(same, comment);
    bench.status_is(&pushed, "success", "live").await;
    assert_eq!(hook_ids(&bench).await, hooks, "a restart leaves the webhook as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_brings_an_environment_and_takes_it_away() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let path = bench.repository.path.clone();
    let rule = "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none, triggers: { labels: [preview], drafts: false } }\n";
    bench.tree.git(&["checkout", "--quiet", "main"]).unwrap();
    bench.tree.commit("maquette.yaml", rule, "Ask for a label").unwrap();
    bench.push_head("main", &[]);
    let label = json!({ "name": "preview", "color": "#00aabb" });
    let made = bench
        .ada
        .call(Method::POST, &format!("repos/{path}/labels"), label)
        .await
        .unwrap();
    let opened = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    eventually("it is known", || bench.pull_request(number)).await;
    let labels = format!("repos/{path}/issues/{number}/labels");
    let add = json!({ "labels": [made["id"]] });
    assert_eq!(bench.environments(number).await.len(), 0);
    bench.ada.call(Method::POST, &labels, add.clone()).await.unwrap();
    let first = bench.reaches(number, Phase::Live, Some(&opened)).await;
    let (comment, _) = bench.comment_says(number, "live** with").await;

    let remove = format!("{labels}/{}", made["id"]);
    bench.ada.call(Method::DELETE, &remove, Value::Null).await.unwrap();
    let ended = bench.reaches(number, Phase::Ended, None).await;
    let reason = format!("pull request {number} does not have the label preview, which asks for a preview");
    assert_eq!((&ended.id, &ended.reason), (&first.id, &reason));
    let (same, body) = bench.comment_says(number, "verified gone").await;
    assert!(same == comment && body.contains(&reason), "{body}");
    bench.status_is(&opened, "pending", &format!("removed: {reason}")).await;
    assert_eq!(bench.inventory().await, []);

    bench.ada.call(Method::POST, &labels, add).await.unwrap();
    let anew = bench.reaches(number, Phase::Live, Some(&opened)).await;
    assert_ne!(anew.id, first.id);
    // Gitea's drafts are those whose title says so.
    bench.change(number, json!({ "title": "WIP: A change" })).await;
    let ended = bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(ended.id, anew.id);
    bench
        .comment_says(number, "is a draft, and drafts get no preview")
        .await;
    bench.change(number, json!({ "title": "A change" })).await;
    bench.reaches(number, Phase::Live, Some(&opened)).await;
    bench.status_is(&opened, "success", "live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_at_another_address_takes_the_place_of_the_old_one() {
    let mut bench = Bench::new(Setting::WEBHOOKS).await;
    let path = format!("repos/{}/hooks", bench.repository.path);
    let theirs = json!({ "type": "gitea", "active": true, "events": ["push"],
        "config": { "url": "http://127.0.0.1:9/webhooks/shop/shop", "content_type": "json" } });
    bench.ada.call(Method::POST, &path, theirs).await.unwrap();
    let addresses = async |bench: &Bench| {
        let mut found: Vec<String> = bench
            .hooks()
            .await
            .iter()
            .map(|hook| hook["config"]["url"].to_string())
            .collect();
        found.sort();
        found
    };
    let before = addresses(&bench).await;
    assert_eq!(before.len(), 2);
    let old = bench.has_webhook("shop", None).await;
    bench.stop().await;
    // The same server under another name.
    bench.webhook_host = "localhost".to_owned();
    bench.start().await;
    bench.has_webhook("shop", Some(old)).await;
    let after = addresses(&bench).await;
    assert!(
        after.len() == 2 && after.iter().any(|url| url.contains("localhost")),
        "{after:?}"
    );
    let kept: Vec<&String> = after.iter().filter(|url| before.contains(url)).collect();
    assert!(
        kept.len() == 1 && kept[0].contains(":9/"),
        "only ours went: {before:?} {after:?}"
    );
    let opened = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    bench.reaches(number, Phase::Live, Some(&opened)).await;

    // Without an address there is none of ours.
    bench.stop().await;
    bench.webhook_host = String::new();
    bench.start().await;
    eventually("ours is gone", || async {
        let found = addresses(&bench).await;
        (found.len() == 1 && found[0].contains(":9/")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_what_is_wrong_with_a_blueprint_and_where() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let broken = compose("x").replace("    command:", "    comand:");
    let commit = bench.push("broken", &broken);
    let number = bench.open("broken", "Broken").await;
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let said = "failed: compose.yaml:2:3: service `web` has no `command` (and one more problem)";
    let told = bench.status_is(&commit, "failure", said).await;
    assert!(told.iter().all(|text| !text.contains("can not be used")), "{told:?}");
    let (_, body) = bench.comment_says(number, "compose.yaml:4:5").await;
    assert!(body.contains("hint: did you mean `command`?"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_baseline_follows_the_base_branch_and_sleeps() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let settings = "stack:\n  services:\n    web: { host: true, public: true }\n";
    bench.tree.git(&["checkout", "--quiet", "main"]).unwrap();
    bench
        .tree
        .commit("maquette.yaml", settings, "Say nothing of a baseline")
        .unwrap();
    bench.push_head("main", &[]);
    let asleep = |commit: model::CommitId| {
        let bench = &bench;
        async move {
            eventually("the baseline sleeps", || async {
                let rows = bench.store.environment_list(None, false).await.unwrap();
                let row = rows
                    .into_iter()
                    .find(|row| matches!(row.origin, model::Origin::Baseline { .. }))?;
                let at = row.head.values().any(|head| *head == commit);
                (at && bench.phase(&row).await == Phase::Sleeping).then_some(row)
            })
            .await
        }
    };
    let head = || crate::bench::commit_id(bench.tree.git(&["rev-parse", "HEAD"]).unwrap().trim());
    let row = asleep(head()).await;
    bench.push("main", &compose("newer"));
    assert_eq!(asleep(head()).await.id, row.id);
}
