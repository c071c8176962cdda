//! Services that write more than they may: to their disk, and to their log.

use crate::rig::{COMPOSE, Rig, Visitor};
use forge::local::FileChange;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Nothing takes longer on a machine that is busy with other tests, too: the pool tells of room once it has written down that there
/// is some, every half a minute.
const PATIENCE: Duration = Duration::from_secs(240);
/// Small enough to be full soon.
const SETTINGS: &str =
    "stack:\n  services:\n    web: { host: true, public: true }\npolicy:\n  limits: { disk: 64MiB }\n";

/// Stores as much as it can, tells of it in far more lines than a log may have, and serves. The pause lies well between the last two
/// times that the log's file is replaced: the part before the newest one is kept by whoever sees that in time.
const FLOOD: &str = "\
import http.server, time
stored = 0
try:
    with open('/data/flood', 'wb', buffering=0) as file:
        while True: stored += file.write(b'x' * (1 << 20))
except OSError as error: trouble = error
for n in range(400000):
    print('line', n, 'of a flood of lines that nobody reads to its end', flush=n == 375000)
    if n == 375000: time.sleep(5)
print('stored', stored >> 20, 'MiB, then:', trouble, flush=True)
http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=8080)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fills_his_own_disk_and_log_is_told_and_troubles_nobody_else() {
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("page.txt", "the page of main\n"),
    ];
    let mut rig = Rig::new(&files).await;
    rig.start().await;
    let given = "[\"python3\", \"-m\", \"http.server\", \"8080\"]";
    let command = serde_json::json!(["python3", "-c", FLOOD]).to_string();
    let compose = COMPOSE
        .replace(given, &command)
        .replace("volumes: [\".:/app:ro\"]", "volumes: [\".:/app:ro\", \"data:/data\"]")
        + "volumes: { data: }\n";
    assert!(compose.contains("FLOOD") || compose.contains("flood"));
    let (other, _) = rig
        .change("other", &[FileChange::write("page.txt", "another page\n")])
        .await;
    rig.comment(other, &["live** with"]).await;
    let neighbour = Visitor::new(&rig, &format!("pr-{other}")).await;
    let (flood, _) = rig.change("flood", &[FileChange::write("compose.yaml", compose)]).await;
    let label = format!("pr-{flood}");
    let told = ["used up its disk", "64 MiB", "policy.limits.disk"];
    rig.comment(flood, &[&told[..], &["live** with"]].concat()).await;
    rig.says(&["show", &label], &told).await;
    rig.says(&["why", &label], &told).await;

    // The end of a log that was cut is what its author looks for, with enough before it.
    let since = Instant::now();
    let lines = loop {
        let all = rig.ok(&["logs", &label, "web"]).await;
        if all.contains("No space left on device") || all.contains("Disk quota exceeded") {
            break all;
        }
        assert!(since.elapsed() < PATIENCE, "{}", &all[all.len().saturating_sub(500)..]);
        sleep(Duration::from_millis(200)).await;
    };
    assert!(lines.len() < 20 << 20, "a log of {} bytes", lines.len());
    assert!(
        lines.contains(" MiB, then: "),
        "{}",
        &lines[lines.len().saturating_sub(500)..]
    );
    let numbers: Vec<u32> = lines
        .lines()
        .filter_map(|line| line.split_once("line ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(numbers.last(), Some(&399_999));
    let tail: Vec<u32> = numbers.iter().rev().take(10_000).rev().copied().collect();
    assert_eq!(
        tail,
        (390_000..400_000).collect::<Vec<_>>(),
        "the newest lines are whole"
    );

    // Everybody else goes on, new ones come, and what is full can be mended by its author.
    assert_eq!(neighbour.get("/page.txt").await, (200, "another page\n".to_owned()));
    let write = [
        "exec",
        &format!("pr-{other}"),
        "web",
        "sh",
        "-c",
        "head -c 20000000 /dev/zero > /tmp/x && echo stored",
    ];
    let written = rig.run(&write).await;
    assert_eq!(written.out, "stored\n", "{written:?}");
    let visitor = Visitor::new(&rig, &label).await;
    assert_eq!(visitor.get("/page.txt").await.0, 200, "it still serves");
    let (late, _) = rig.change("late", &[FileChange::write("page.txt", "late\n")]).await;
    rig.comment(late, &["live** with"]).await;
    rig.ok(&["exec", &label, "web", "rm", "/data/flood"]).await;
    let since = Instant::now();
    loop {
        let show = rig.ok(&["show", &label]).await;
        if !show.contains("used up its disk") {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{show}");
        sleep(Duration::from_millis(200)).await;
    }
}
