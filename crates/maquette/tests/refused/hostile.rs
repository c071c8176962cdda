//! Names and texts that attack whoever reads them, through a real environment. What Gitea's pages make of them is shown in the
//! server's tests.

use crate::rig::{COMPOSE, Rig, Visitor};
use forge::{
    DisplayText,
    local::{FileChange, NewPullRequest},
};

/// What turns, hides or erases text, or ends a line where none should end.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn assert_tame(what: &str, text: &str) {
    assert!(!text.contains(is_harmful), "{what}: {text:?}");
    assert!(text.len() < 20_000, "{what} has {} bytes", text.len());
}

pub(crate) async fn names_titles_and_labels(rig: &Rig) {
    let nasty = "$(touch /tmp/owned);`id`&&reboot|'\"<img src=x onerror=alert(1)> \u{202e}\u{1b}[2J\u{7}\r\n@everyone";
    for name in [&"x".repeat(10_000), "a\u{202e}b", "a\u{1b}b", "a..b", "a b"] {
        let refused = rig.run(&["create", "--branch", name]).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains("branch name: at most 255 bytes"), "{refused:?}");
    }
    // Git itself forbids blanks and a few signs in names of branches.
    let branch = "$(touch${IFS}owned);`id`&&reboot|'\"<img>@everyone#1";
    let environment =
        "    environment:\n      BRANCH: \"${MAQUETTE_BRANCH}\"\n      TITLE: \"${MAQUETTE_TITLE}\"\n    restart:";
    let compose = COMPOSE.replace("    restart:", environment);
    rig.push(branch, &[FileChange::write("compose.yaml", compose)]).await;
    let title = nasty.repeat(10_000 / nasty.len() + 1);
    assert!(title.len() > 10_000);
    let new = NewPullRequest {
        labels: vec![DisplayText::new(nasty), DisplayText::new(&title)],
        ..NewPullRequest::new(branch.parse().unwrap(), "main".parse().unwrap(), &title)
    };
    let number = rig.forge_open(new).await;
    let body = rig.comment(number, &["live** with"]).await;
    assert_tame("the comment", &body);
    let label = format!("pr-{number}");
    for command in [
        &["list"][..],
        &["show", &label],
        &["why", &label],
        &["logs", &label, "web"],
    ] {
        assert_tame(command[0], &rig.ok(command).await);
    }
    let env = rig.ok(&["exec", &label, "web", "env"]).await;
    let given = env.lines().find_map(|line| line.strip_prefix("BRANCH="));
    assert_eq!(given, Some(branch), "the application gets the name as it is");
    assert!(env.contains("TITLE=$(touch /tmp/owned);`id`&&reboot|'\"<img"), "{env}");
    let visitor = Visitor::new(rig, &label).await;
    assert_eq!(visitor.get("/").await.0, 200);
    for place in ["/tmp/owned", "/owned"] {
        assert!(!std::path::Path::new(place).exists(), "a shell ran");
        let listed = rig.run(&["exec", &label, "web", "ls", place]).await;
        assert_ne!(listed.code, 0, "a shell ran in the container: {listed:?}");
    }
    assert!(!rig.log().contains(|c: char| is_harmful(c) && c != '\u{1b}'), "the log");
    rig.close(number).await;
    let body = rig.comment(number, &["verified gone"]).await;
    assert_tame("the last comment", &body);
}
