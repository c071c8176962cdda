//! What people read, as it is printed.

use super::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(10_000_000);

fn environment() -> EnvironmentView {
    serde_json::from_value(json!({
        "id": "eabcdefghi", "project": "shop", "origin": {"kind": "pull_request", "number": 12}, "label": "pr-12",
        "address": "http://pr-12.localhost:8080",
        "addresses": [
            {"service": "web", "url": "http://pr-12.localhost:8080"},
            {"service": "api", "url": "http://api--pr-12.localhost:8080"},
        ],
        "phase": "live_older", "status": "aaaaaaa is live, bbbbbbb failed", "power": "running",
        "pull_request": {
            "source": "shop", "number": 12, "title": "A warmer \u{202e}welcome\u{1b}[31m and a title that is rather long for a table", "author": "ada",
            "branch": "warm", "base": "main", "state": "open", "fork": false, "web_url": "https://git.example.org/shop/pulls/12",
        },
        "commits": {"shop": {"wanted": "b".repeat(40), "live": "a".repeat(40)}},
        "newest": 2, "live": 1, "failed": 2,
        "failure": {
            "step": "data:db", "message": "0004_add.sql failed", "hint": "fix the migration and push",
            "log": ["ERROR:  relation \"orders\" already exists"],
        },
        "notes": ["The data of db was cloned anew: a migration was changed."],
        "reason": "pull request 12", "created": 9_100_000, "live_at": 9_400_000, "ended": null,
        "services": [
            {"name": "db", "state": "ready", "since": 9_100_000, "restarts": 0, "exit": null, "message": null, "url": null},
            {"name": "web", "state": "backing_off", "since": 9_990_000, "restarts": 3, "exit": 1,
             "message": "ended with status 1", "url": "http://pr-12.localhost:8080"},
        ],
    }))
    .unwrap()
}

#[test]
fn environments_in_a_table() {
    let mut branch = environment();
    branch.label = "br-fix".parse().unwrap();
    branch.origin = OriginView::Branch {
        branch: "fix".to_owned(),
    };
    branch.pull_request = None;
    branch.status = "starting".to_owned();
    branch.address = None;
    branch.commits.values_mut().for_each(|commit| commit.live = None);
    insta::assert_snapshot!(list(&[environment(), branch], NOW));
    insta::assert_snapshot!("no_environments", list(&[], NOW));
}

#[test]
fn one_environment() {
    insta::assert_snapshot!(show(&environment(), NOW));
}

#[test]
fn why_it_is_as_it_is() {
    let step = |id: &str, title: &str, state: &str, took: Option<u64>, attempts: u32| {
        json!({"id": id, "title": title, "state": state, "began": 9_000_000, "ended": null, "took_ms": took,
               "attempts": attempts, "next_try": null, "waiting_for": null, "failure": null})
    };
    let view: WhyView = serde_json::from_value(json!({
        "environment": "eabcdefghi", "label": "pr-12", "phase": "starting",
        "summary": "pr-12 is starting; service:web: web ended with status 1 is tried again in 4 s", "reason": "pull request 12",
        "step": null,
        "failure": {"step": "service:web", "message": "web ended with status 1", "hint": null, "log": ["no such table: orders"]},
        "waiting_for": ["db to be ready"], "attempts": 3, "next_try": 10_004_000,
        "services": ["web is backing off after exit status 1, 3 restarts"], "notes": [],
        "door": {"passed": [
            {"name": "old.example.com", "port": 443, "connections": 0, "failed": 2, "failure": "the name has no address", "sent": 0, "received": 0},
            {"name": "good.example.com", "port": 443, "connections": 2, "failed": 0, "failure": null, "sent": 10, "received": 10},
        ], "refused": [
            {"name": "api.stripe.com", "port": null, "count": 12, "last": 9_997_000, "why": null, "allow": "egress: [api.stripe.com]"},
            {"name": "moved.example.com", "port": 443, "count": 1, "last": 9_990_000,
             "why": "the name leads to 10.0.0.5, which is not an address of the public internet", "allow": null},
            {"name": "api.stripe.com", "port": 8443, "count": 2, "last": 9_980_000, "why": null, "from": "orders", "allow": "egress: [\"api.stripe.com:8443\"]"},
            {"name": "203.0.113.9", "port": 8125, "count": 3, "last": 9_970_000, "udp": true, "from": "orders", "allow": null,
             "why": "`orders` sent datagrams (UDP) there, and only connections (TCP) to names are let through"},
        ], "refused_more": 4, "closed": "the process of the door does not run"},
        "steps": [
            step("source:shop", "Fetch the files of shop", "done", Some(84), 1),
            step("data:db", "Migrate and seed db", "done", Some(1_840), 1),
            step("service:web", "Start web", "retrying", Some(70_500), 3),
            step("verify", "Check that it answers", "waiting", None, 0),
        ],
        "events": [{"at": 9_990_000, "kind": "created", "text": "pull request 12"}],
    }))
    .unwrap();
    insta::assert_snapshot!(why(&view, NOW));
}

#[test]
fn what_happened_to_a_project_and_to_one_environment() {
    let list = |events: serde_json::Value| -> Vec<EventView> { serde_json::from_value(events).unwrap() };
    let project = list(json!([
        {"environment": "eabcdefghi", "label": "pr-12", "at": 9_990_000, "kind": "live", "text": "1a2b3c4d is live after 5.2 s"},
        {"at": 9_000_000, "kind": "secret", "text": "STRIPE_KEY was set by token:operator"},
        {"environment": "eforgotten", "at": 1_000_000, "kind": "ended", "text": "with a receipt\u{1b}[31m"},
    ]));
    insta::assert_snapshot!("events_of_a_project", events(&project, NOW));
    let one = list(json!([{"at": 9_990_000, "kind": "created", "text": "pull request 12"}]));
    insta::assert_snapshot!("events_of_an_environment", events(&one, NOW));
    assert_eq!(events(&[], NOW), "nothing happened yet\n");
}

#[test]
fn a_ledger_and_a_receipt() {
    let mut view: LedgerView = serde_json::from_value(json!({
        "environment": "eabcdefghi", "label": "pr-12", "complete": false, "reason": null, "began": null, "completed": null, "left": 1,
        "entries": [
            {"kind": "cgroup", "name": "maquette/eabcdefghi", "intended": 9_000_000, "gone": null},
            {"kind": "subvolume", "name": "volumes/eabcdefghi/db.1", "intended": 9_000_000, "gone": 9_999_000},
        ],
    }))
    .unwrap();
    insta::assert_snapshot!("ledger", receipt(&view, NOW));
    view.complete = true;
    view.left = 0;
    view.reason = Some("pull request 12 was merged".to_owned());
    (view.began, view.completed) = (Some(Timestamp(9_998_000)), Some(Timestamp(9_999_250)));
    view.entries[0].gone = Some(Timestamp(9_999_250));
    insta::assert_snapshot!("receipt", receipt(&view, NOW));
}

#[test]
fn lines_of_a_log_can_not_drive_the_terminal() {
    let line = LogLineView {
        at: Timestamp(86_400_000 + 3_723_004),
        name: "web".to_owned(),
        stream: LogStreamView::Stderr,
        text: "red \u{1b}[31m and \u{202e}back\ttab".to_owned(),
    };
    assert_eq!(
        log_line(&line, true),
        "01:02:03.004 web ! red \u{fffd}[31m and \u{fffd}back\ttab\n"
    );
    assert_eq!(
        log_line(&line, false),
        "01:02:03.004 ! red \u{fffd}[31m and \u{fffd}back\ttab\n"
    );
}

#[test]
fn spares_stand_apart() {
    let mut spare = environment();
    spare.label = "spare-sabcdefghi".parse().unwrap();
    spare.origin = OriginView::Spare;
    spare.pull_request = None;
    spare.status = "ready".to_owned();
    spare.address = None;
    insta::assert_snapshot!(list(&[environment(), spare.clone()], NOW));
    let alone = list(&[spare], NOW);
    assert!(alone.starts_with("There are no environments.\n\nSPARE"), "{alone}");
}
