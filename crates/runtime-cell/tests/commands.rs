//! Commands that people and health checks run in containers, and the end of the cell host that has begun them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::Generation;
use runtime::{ExecExit, Runtime as _};
use std::collections::BTreeMap;
use support::{Rig, exec, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_outlived_its_host_is_not_taken_for_one_of_the_next() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = spec(rig.environment(), &[("one", service(&["sleep", "1000"], &[]))]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let service = "one".parse().unwrap();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let living = argv(&["sh", "-c", "echo begun; exec sleep 777"]);
    let mut begun = runtime.exec(id, &service, &living, &BTreeMap::new()).await.unwrap();
    assert_eq!(begun.stdout.recv().await.unwrap(), "begun\n");

    rig.kill_host();
    rig.start_host();
    let _ = rig.runtime().await;
    let missing = argv(&["/no/such/program"]);
    let failed = runtime.exec(id, &service, &missing, &BTreeMap::new()).await.unwrap();
    drop(failed.stdin);
    let exit = failed.exit.await.unwrap();
    assert!(matches!(exit, ExecExit::Failed(_)), "it never ran: {exit:?}");
    let list = "import glob\nprint([open(p).read() for p in glob.glob('/proc/[0-9]*/cmdline')])";
    let (_, seen) = exec(&runtime, id, "one", &["python3", "-c", list]).await;
    assert!(seen.contains("777"), "the living command was ended: {seen}");
    runtime.remove(id, Generation(1)).await.unwrap();
}

/// Answers by HTTP as its first argument says, and keeps who asked in a file.
const PAGE: &str = "\
import os, sys, http.server
asked = []
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.headers['User-Agent'].split('/')[0])
        well = {'all': True, 'late': len(asked) > 3, 'own': self.client_address[0] == '127.0.0.1'}[sys.argv[1]]
        # Whole, and before anybody has the answer: who is told that all is well reads it at once.
        with open('/tmp/part', 'w') as part: part.write(' '.join(asked))
        os.rename('/tmp/part', '/tmp/asked')
        self.send_response(200 if well else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(('', 8000), Page).serve_forever()
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_that_is_a_question_is_asked_first_and_decided_by_its_command() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let page = |kind: &str, check: &[&str]| {
        let mut page = service(&["python3", "-c", PAGE, kind], &[8000]);
        page.health = Some(model::HealthCheck {
            test: model::HealthTest::Exec(check.iter().map(|word| (*word).to_owned()).collect()),
            interval_ms: 100,
            timeout_ms: 20_000,
            retries: 1000,
            start_period_ms: 60_000,
            start_interval_ms: None,
        });
        page
    };
    // What can not be run can not say that all is well.
    let nowhere = ["/nowhere/curl", "-f", "http://localhost:8000/health"];
    let real = ["sh", "-c", "curl -fsS http://localhost:8000/health || exit 1"];
    let services = [
        ("all", page("all", &nowhere)),
        ("late", page("late", &nowhere)),
        ("own", page("own", &real)),
    ];
    let made = spec(rig.environment(), &services);
    up(&runtime, &made).await;
    for (name, _) in &services {
        support::ready(&runtime, &made.environment, name).await;
    }
    // Who may ask is not the host, but the command is.
    let (_, asked) = exec(&runtime, &made.environment, "own", &["cat", "/tmp/asked"]).await;
    assert!(asked.ends_with("curl"), "{asked}");
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}
