//! Commands that ask the server.

use crate::bench::{Bench, COMPOSE, SETTINGS, run};
use forge::local::{FileChange, LocalHead, NewPullRequest};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_from_create_to_receipt() {
    let bench = Bench::new().await;
    assert_eq!(bench.ok(&["list"]).await, "There are no environments.\n");
    let made = bench.ok(&["create", "--branch", "change", "--watch"]).await;
    assert_eq!(made, "br-change is live  http://br-change.localhost:8080\n");
    assert!(bench.ok(&["list"]).await.contains("br-change"));
    let shown = bench.json(&["show", "br-change"]).await;
    assert_eq!(
        (shown["phase"].as_str(), shown["label"].as_str()),
        (Some("live"), Some("br-change"))
    );
    assert!(bench.ok(&["why", "br-change"]).await.starts_with("br-change is live\n"));

    let link = bench.ok(&["open", "br-change", "--for", "ada"]).await;
    assert!(
        link.starts_with("http://br-change.localhost:8080/.maquette/sign-in#token="),
        "{link}"
    );

    let kept = bench.run(&["delete", "br-change"]).await;
    assert_eq!(kept.code, 2, "{kept:?}");
    assert!(kept.err.contains("--yes"), "{kept:?}");
    assert_eq!(bench.json(&["show", "br-change"]).await["phase"], "live");

    let receipt = bench.ok(&["delete", "br-change", "--yes", "--watch"]).await;
    assert!(
        receipt.starts_with("br-change has ended: deleted by token:operator\nAll "),
        "{receipt}"
    );
    let receipt = bench.json(&["receipt", shown["id"].as_str().unwrap()]).await;
    assert_eq!(
        (receipt["complete"].as_bool(), receipt["left"].as_u64()),
        (Some(true), Some(0))
    );
    assert_eq!(bench.ok(&["list"]).await, "There are no environments.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_output_and_its_exit_code() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let echoed = bench
        .run(&["exec", "br-change", "web", "echo", "-n", "$(reboot)", "--json"])
        .await;
    assert_eq!((echoed.code, echoed.out.as_str()), (0, "-n $(reboot) --json\n"));
    assert_eq!(bench.run(&["exec", "br-change", "web", "false"]).await.code, 1);
    let fed = bench
        .run_with(&["exec", "-i", "br-change", "web", "cat"], "from here\n")
        .await;
    assert_eq!((fed.code, fed.out.as_str()), (0, "from here\n"));
    let nobody = bench.run(&["exec", "br-change", "nobody", "true"]).await;
    assert_eq!(nobody.code, 125, "{nobody:?}");
    let bad = bench.run(&["exec", "-e", "novalue", "br-change", "web", "true"]).await;
    assert_eq!(bad.code, 2, "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_printed_as_text_and_as_json() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let id = bench.json(&["show", "br-change"]).await["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    bench.simulator.print(&id, "web", "a line \u{1b}[31m");
    let text = bench.ok(&["logs", "br-change", "web", "-n", "1"]).await;
    assert!(text.ends_with("| a line \u{fffd}[31m\n"), "{text:?}");
    let json = bench.json(&["logs", "br-change", "web", "-n", "1"]).await;
    assert_eq!(
        (json["name"].as_str(), json["text"].as_str()),
        (Some("web"), Some("a line \u{1b}[31m"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_fails_is_a_failure_with_its_reason() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let broken = [forge::local::FileChange::write(
        "compose.yaml",
        "services:\n  web: {image: x, nonsense: 1}\n",
    )];
    let (main, head) = ("main".parse().unwrap(), "broken".parse().unwrap());
    let commit = bench.forge.commit(&head, Some(&main), &broken, "Break").await.unwrap();
    let failed = bench
        .run(&["deploy", "br-change", "--commit", commit.as_str(), "--watch"])
        .await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(
        failed.err.contains("blueprint") && failed.err.contains("maquette why br-change"),
        "{failed:?}"
    );
    let why = bench.ok(&["why", "br-change"]).await;
    assert!(why.contains("nonsense"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_fork_is_approved_by_its_full_id_and_every_view_says_the_same() {
    let bench = Bench::new().await;
    let from_fork = async |text: &str| {
        let files = [
            FileChange::write("compose.yaml", COMPOSE.replace("hello", text)),
            FileChange::write("maquette.yaml", SETTINGS),
        ];
        bench.forge.commit_create(None, &files, "From a fork").await.unwrap()
    };
    let says = async |arguments: &[&str], text: &str| {
        let mut said = String::new();
        for _ in 0..1800 {
            let ended = bench.run(arguments).await;
            if ended.out.contains(text) {
                return ended.out;
            }
            said = format!("{ended:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{arguments:?} never said {text:?}: {said}");
    };
    let first = from_fork("harmless").await;
    let new = NewPullRequest {
        head: LocalHead::Fork(first.clone()),
        ..NewPullRequest::new("x".parse().unwrap(), "main".parse().unwrap(), "From a fork")
    };
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    says(&["list"], "needs approval").await;
    let command = format!("maquette approve pr-1 --commit {first}");
    says(&["why", "pr-1"], &command).await;

    // Pushed between the reading and the approval.
    let second = from_fork("other").await;
    bench.forge.push_fork(number, &second).await.unwrap();
    let refused = bench.run(&["approve", "pr-1", "--commit", first.as_str()]).await;
    assert_eq!(refused.code, 6, "{refused:?}");
    let told = format!("{} is not the newest commit, {second} is", first.short());
    assert!(
        refused.err.contains(&told) && refused.err.contains("hint: "),
        "{refused:?}"
    );
    let short = bench.run(&["approve", "pr-1", "--commit", second.short()]).await;
    assert_eq!(short.code, 2, "{short:?}");
    let approved = bench
        .ok(&["approve", "pr-1", "--commit", second.as_str(), "--watch"])
        .await;
    assert_eq!(approved, "pr-1 is live  http://pr-1.localhost:8080\n");
    let why = says(&["why", "pr-1"], "was approved").await;
    assert!(why.contains(&format!("{second} was approved: token:operator")), "{why}");

    let third = from_fork("evil").await;
    bench.forge.push_fork(number, &third).await.unwrap();
    let words = format!("{} is live, {} needs approval", second.short(), third.short());
    for command in ["list", "show", "why"] {
        let arguments = [command, "pr-1"];
        says(if command == "list" { &arguments[..1] } else { &arguments }, &words).await;
    }
    // What the forge shows is written after what the views say, comment and status one after the other.
    let with_code = format!("`{}` is live, `{}` needs approval", second.short(), third.short());
    let mut shown = (Vec::new(), None);
    for _ in 0..1800 {
        shown = (
            bench.forge.comments(number).unwrap(),
            bench.forge.status(&third).unwrap().map(|status| status.description),
        );
        let commented = shown.0.iter().any(|comment| comment.body.contains(&with_code));
        if commented && shown.1.as_ref() == Some(&words) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (comments, status) = shown;
    assert_eq!(comments.len(), 1, "{comments:#?}");
    assert!(comments[0].body.contains(&with_code), "{comments:#?}");
    assert_eq!(status.as_deref(), Some(words.as_str()));
    assert_eq!(bench.json(&["show", "pr-1"]).await["phase"], "live_unapproved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_left_out_and_taken_in_again() {
    let bench = Bench::new().await;
    let compose = format!("{COMPOSE}    depends_on: [cache]\n  cache: {{ image: redis:7 }}\n");
    let files = [FileChange::write("compose.yaml", compose)];
    let change = "change".parse().unwrap();
    bench.forge.commit(&change, None, &files, "A cache").await.unwrap();
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let services = async || {
        let shown = bench.json(&["show", "br-change"]).await;
        let services = shown["services"].as_array().unwrap().clone();
        services
            .iter()
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(services().await, ["cache", "web"]);
    // What is shown after somebody asked for a change is no longer what was before.
    let before = bench.json(&["show", "br-change"]).await;
    let asked = bench.json(&["update", "br-change", "--without", "cache"]).await;
    assert!(asked["newest"].as_u64() > before["newest"].as_u64(), "{asked:#}");
    bench
        .ok(&["update", "br-change", "--without", "cache", "--watch"])
        .await;
    assert_eq!(services().await, ["web"]);
    let why = bench.ok(&["why", "br-change"]).await;
    assert!(
        why.contains("Left out: cache.") && why.contains("asked for no cache"),
        "{why}"
    );
    bench.ok(&["update", "br-change", "--with", "cache", "--watch"]).await;
    assert_eq!(services().await, ["cache", "web"]);
    for (arguments, code, says) in [
        (&["--without", "cahce"][..], 3, "there is no service cahce"),
        (&["--without", "web", "--with", "web"], 1, "both left out and taken in"),
        (
            &["--without", "web", "--without", "cache"],
            6,
            "no service would be left",
        ),
        (&["--service", "web"], 2, "--branch"),
        (&[], 2, "--without"),
    ] {
        let refused = bench.run(&[&["update", "br-change"], arguments].concat()).await;
        assert_eq!(refused.code, code, "{arguments:?}: {refused:?}");
        assert!(refused.err.contains(says), "{arguments:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_baseline_is_listed_and_woken() {
    let bench = Bench::new().await;
    let settings = SETTINGS.replace("{ baseline: none }", "{ baseline: asleep }");
    let files = [FileChange::write("maquette.yaml", settings)];
    let main = "main".parse().unwrap();
    bench.forge.commit(&main, None, &files, "Rule").await.unwrap();
    let mut listed = String::new();
    for _ in 0..1800 {
        listed = bench.ok(&["list"]).await;
        if listed.contains("sleeping") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        listed.contains("baseline main") && listed.contains("sleeping"),
        "{listed}"
    );
    let woken = bench.ok(&["create", "--branch", "main", "--watch"]).await;
    assert_eq!(woken, "base is live  http://base.localhost:8080\n");
    let echoed = bench.run(&["exec", "base", "web", "echo", "awake"]).await;
    assert_eq!(echoed.out, "awake\n", "{echoed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_has_its_exit_code_and_a_hint() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change"]).await;
    let stale = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(stale.path(), "a".repeat(43)).unwrap();
    let stale = stale.path().to_str().unwrap();
    for (arguments, code) in [
        (&["show", "pr-99"][..], 3),
        (&["create", "--branch", "nowhere"][..], 3),
        (&["--token-file", stale, "list"][..], 4),
        (&["--server", "http://127.0.0.1:9", "list"][..], 5),
        (&["--server", "unix:/nonexistent.sock", "list"][..], 5),
        (&["create", "--branch", "change"][..], 6),
    ] {
        let ended = bench.run(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(
            ended.err.starts_with("error: ") && ended.err.contains("\nhint: "),
            "{arguments:?}: {ended:?}"
        );
        assert_eq!(ended.out, "");
    }
    let nowhere = run(&["--state-dir", "/nonexistent", "list"], "").await;
    assert_eq!(nowhere.code, 5, "{nowhere:?}");
    assert_eq!(run(&["frobnicate"], "").await.code, 2);
}
