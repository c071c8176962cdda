//! What people read, whole.

use super::*;

fn report(phase: Phase) -> Report {
    Report {
        phase,
        label: "pr-7".into(),
        head: "b".repeat(40).parse().unwrap(),
        live: Some("a".repeat(40).parse().unwrap()),
        addresses: vec![Address {
            service: "web".into(),
            url: "http://pr-7.preview.example".into(),
        }],
        services: vec!["web".into(), "postgres".into()],
        took_ms: Some(840),
        steps: vec![
            ShownStep {
                title: "Fetch the files of shop".into(),
                state: ShownState::Done,
            },
            ShownStep {
                title: "Start web".into(),
                state: ShownState::Running,
            },
        ],
        failure: None,
        notes: Vec::new(),
        ended: None,
        receipt_entries: None,
    }
}

#[test]
fn comments_read_well() {
    let mut all = String::new();
    for phase in [
        Phase::NeedsApproval,
        Phase::Starting,
        Phase::Live,
        Phase::Updating,
        Phase::LiveUnapproved,
        Phase::Sleeping,
        Phase::Ending,
    ] {
        let _ = writeln!(all, "=== {}\n{}", phase.word(), comment(&report(phase)));
    }
    let mut failed = report(Phase::LiveOlder);
    failed.failure = Some(ShownFailure {
        message: "the migration db/migrations/0004.sql failed in line 3: column \"x\" does not exist".into(),
        hint: Some("the copy of the data that was kept is back".into()),
        log: vec!["ERROR: column \"x\" does not exist".into()],
    });
    let _ = writeln!(all, "=== failed\n{}", comment(&failed));
    let mut ended = report(Phase::Ended);
    ended.receipt_entries = Some(23);
    let _ = writeln!(all, "=== ended\n{}", comment(&ended));
    ended.ended = Some(ShownEnd {
        reason: "pull request 7 has none of the labels that ask for a preview (`preview`)".into(),
        again: "A new one is made as soon as that changes.",
    });
    let _ = writeln!(all, "=== ended while its pull request is open\n{}", comment(&ended));
    let _ = writeln!(all, "=== its status\n{}", status(&ended));
    insta::assert_snapshot!(all);
}

#[test]
fn a_commit_that_is_not_live_is_not_told_to_be() {
    let mut report = report(Phase::Live);
    assert_eq!(status(&report), "aaaaaaa is live");
    report.phase = Phase::LiveUnapproved;
    assert_eq!(status(&report), "aaaaaaa is live, bbbbbbb needs approval");
    report.phase = Phase::LiveOlder;
    assert_eq!(status(&report), "aaaaaaa is live, bbbbbbb failed");
    report.phase = Phase::NeedsApproval;
    assert_eq!(status(&report), NEEDS_APPROVAL);
}

#[test]
fn hostile_text_stays_text() {
    let mut report = report(Phase::Failed);
    report.failure = Some(ShownFailure {
        message: "<img src=x> @everyone [a](javascript:1)\u{202e}\n# big &#64;all see http://192.0.2.1/ #1 www.x"
            .into(),
        hint: None,
        log: vec!["````".into(), "</details><script>".into(), "\u{1b}[31mred".into()],
    });
    let text = comment(&report);
    assert!(
        !text.contains("<img")
            && !text.contains("@everyone")
            && !text.contains("&#64;")
            && !text.contains("#1")
            && !text.contains("://1")
            && !text.contains("www.x")
            && !text.contains('\u{202e}')
            && !text.contains('\u{1b}')
    );
    assert_eq!(text.matches("````").count(), 2, "{text}");
    assert!(
        status(&report).contains("<img src=x> @everyone"),
        "a status is shown as it is"
    );
}
