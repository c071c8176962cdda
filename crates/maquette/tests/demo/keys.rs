//! With a terminal: keys, and what is found when it is started again.

use crate::{
    bench::run,
    place::{Place, TURN},
};
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Nothing takes longer on a machine that is busy with other tests, too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Gives a program a terminal, whose other end is standard input and output.
const TERMINAL: &str = "import os, pty, sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))\n";

struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    fn open(place: &Place) -> Self {
        Self::with(&place.arguments())
    }

    fn with(arguments: &[String]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_maquette")])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            keys: child.stdin.take().unwrap(),
            screen: child.stdout.take().unwrap(),
            child,
            seen: String::new(),
        }
    }

    async fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// Waits until the screen has said this since the last time it was asked, and returns all that it said.
    async fn says(&mut self, wanted: &str) -> String {
        let since = Instant::now();
        let mut bytes = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(wanted) {
                let rest = self.seen.split_off(at + wanted.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = PATIENCE.saturating_sub(since.elapsed());
            match timeout(left, self.screen.read(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => self.seen.push_str(&String::from_utf8_lossy(&bytes[..count])),
                other => panic!("it never said {wanted:?} ({other:?}), but:\n{}", self.seen),
            }
        }
    }

    /// Waits for the end, and returns the exit code.
    async fn ended(mut self) -> i32 {
        // A terminal that nobody reads would hold it up.
        let mut rest = Vec::new();
        timeout(PATIENCE, self.screen.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        self.child.wait().await.unwrap().code().unwrap()
    }
}

const KEYS: &str = "[x] close, remove and quit";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_push_and_close_and_the_next_start_finds_what_was_left_open() {
    let _turn = TURN.lock().await;
    let place = Place::new();
    let mut terminal = Terminal::open(&place);
    let opened = terminal.says(KEYS).await;
    assert!(
        opened.contains("pull request opened") && opened.contains("Sign in   http://"),
        "{opened}"
    );
    assert!(opened.contains("live** with"), "the comment is shown: {opened}");
    a_second_demo_is_told(&place).await;
    terminal.press("p").await;
    let pushed = terminal.says(KEYS).await;
    assert!(
        pushed.contains("the front page will say") && pushed.contains("live at"),
        "{pushed}"
    );
    terminal.press("q").await;
    terminal.says("start the demo again to find it").await;
    assert_eq!(terminal.ended().await, 0);
    assert!(!place.left().is_empty(), "the environment runs on");

    let mut terminal = Terminal::open(&place);
    let found = terminal.says(KEYS).await;
    assert!(
        found.contains("is still open from last time") && !found.contains("pull request opened"),
        "{found}"
    );
    terminal.press("c").await;
    let closed = terminal.says("[o] open a pull request").await;
    assert!(
        closed.contains("each verified gone") && closed.contains("verified gone"),
        "{closed}"
    );
    terminal.press("o").await;
    terminal.says(KEYS).await;
    terminal.press("x").await;
    assert_eq!(terminal.ended().await, 0);
    place.is_empty().await;
}

/// What runs is not disturbed by a second one, which is told what it can do.
async fn a_second_demo_is_told(place: &Place) {
    let config = fs::read_to_string(place.root.join("maquette-server.yaml")).unwrap();
    let elsewhere = Place::new();
    let mut other_ports = elsewhere.arguments();
    let state = other_ports.iter().position(|word| word == "--state").unwrap();
    other_ports[state + 1] = place.root.display().to_string();
    let runs = format!("{} runs already", place.root.display());
    for arguments in [place.arguments(), other_ports] {
        let second = second(&arguments).await;
        assert!(second.contains(&runs) && second.contains("--state"), "{second}");
    }
    let mut other_state = place.arguments();
    other_state[state + 1] = elsewhere.root.display().to_string();
    let second = second(&other_state).await;
    assert!(
        second.matches("can not be used").count() == 2 && second.contains("with --api-port and --port"),
        "{second}"
    );
    let after = fs::read_to_string(place.root.join("maquette-server.yaml")).unwrap();
    assert_eq!(after, config);
}

async fn second(arguments: &[String]) -> String {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = run(&arguments, "").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    ended.err
}

/// Only the second look that the demo gives its branch starts.
const PICKY: &str = "services:
  web:
    image: python:3
    command: [\"sh\", \"-c\", \"grep -q 5b4a8a web/theme.json || { echo this colour does not suit us; exit 4; }; exec python3 -m http.server 8080\"]
    working_dir: /app
    volumes: [\".:/app:ro\"]
    ports: [\"8080:8080\"]
    restart: \"no\"
";
const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_works_while_the_environment_has_failed() {
    let _turn = TURN.lock().await;
    let place = Place::new();
    let shop = tempfile::tempdir().unwrap();
    fs::write(shop.path().join("compose.yaml"), PICKY).unwrap();
    fs::write(shop.path().join("maquette.yaml"), SETTINGS).unwrap();
    let mut terminal = Terminal::with(&place.arguments_for(shop.path()));
    let why = [
        "✗ the environment failed",
        "web ended with status 4",
        "this colour does not suit us",
    ];
    let all = |text: &str| assert!(why.iter().all(|line| text.contains(line)), "{text}");
    let opened = terminal.says(KEYS).await;
    assert!(opened.contains("pull request opened"), "{opened}");
    all(&opened);
    // There is nothing to sign in to, and a key without a meaning does nothing.
    terminal.press("s").await;
    all(&terminal.says(KEYS).await);
    terminal.press("?").await;
    terminal.says(KEYS).await;
    terminal.press("c").await;
    let closed = terminal.says("[o] open a pull request").await;
    assert!(closed.contains("each verified gone"), "{closed}");

    terminal.press("o").await;
    let live = terminal.says(KEYS).await;
    assert!(live.contains("live at") && live.contains("Sign in   http://"), "{live}");
    // The update fails; what was live stays, and can be closed.
    terminal.press("p").await;
    all(&terminal.says(KEYS).await);
    terminal.press("x").await;
    assert_eq!(terminal.ended().await, 0);
    place.is_empty().await;
}
