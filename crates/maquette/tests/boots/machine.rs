//! The machine: what is installed on it, its units, and its power.

use crate::application::FORGE;
use forge::PullRequestNumber;
use model::CommitId;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// In the order of the guide.
pub(crate) const UNITS: [&str; 4] = ["maquette-cell-host", "maquette-door", "maquette-gateway", "maquette"];
/// Nothing takes longer, on a slow machine in a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(480);
/// What a user has fetched: the repository's files, as far as the guide needs them.
const CHECKOUT: &str = "/host/checkout";
const NOTES: &str = "/root/notes.json";

const CONFIG: &str = "state_dir: /var/lib/maquette
gateway:
  listen: 0.0.0.0:80
  bases: [{ domain: localhost }]
cell: { pool_gib: 2 }
poll_seconds: 2
projects:
  - name: shop
    sources:
      - forge: { kind: local, path: /srv/forge }
";

/// Asks again until there is an answer; tells the last reason otherwise.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, String>>>(what: &str, ask: impl Fn() -> F) -> T {
    let since = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if since.elapsed() > PATIENCE => panic!("{what}: {why}\n{}", journal()),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The output of a program that has to succeed.
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{words:?}: {}\n{out}\n{err}\n{}",
        output.status,
        journal()
    );
    out.into_owned()
}

fn journal() -> String {
    let mut command = Command::new("journalctl");
    command.args(["--boot", "--no-pager", "--output=short-monotonic", "--lines=200"]);
    for unit in UNITS {
        command.arg(format!("--unit={unit}"));
    }
    command.output().map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// The first commands of a page of the guide.
fn commands(page: &str) -> String {
    let text = fs::read_to_string(Path::new(CHECKOUT).join(page)).unwrap();
    let (_, rest) = text.split_once("```sh\n").expect("a block of commands");
    rest.split_once("```").unwrap().0.to_owned()
}

/// Runs lines of the guide as they stand there, where a user would.
fn follow(lines: &str) {
    let path = PathBuf::from("/root/guide");
    fs::write(&path, lines).unwrap();
    let mut command = Command::new("bash");
    command
        .arg("-eux")
        .arg(&path)
        .current_dir(CHECKOUT)
        .stdin(Stdio::null());
    let status = command.status().unwrap();
    assert!(
        status.success(),
        "the guide does not work: {status}\n{lines}\n{}",
        journal()
    );
}

/// Installs Maquette by the guide's own commands.
pub(crate) fn install() {
    fs::write(Path::new(CHECKOUT).join("maquette-server.yaml"), CONFIG).unwrap();
    let first = commands("docs/guide/getting-started.md");
    let packages: Vec<&str> = first.lines().filter(|line| line.contains("install-packages")).collect();
    assert_eq!(packages.len(), 1, "{first}");
    follow(packages[0]);
    // As the guide says of a local forge.
    let settings = Path::new("/etc/systemd/system/maquette.service.d");
    fs::create_dir_all(settings).unwrap();
    fs::write(
        settings.join("forge.conf"),
        format!("[Service]\nReadWritePaths={FORGE}\n"),
    )
    .unwrap();
    follow(&commands("docs/guide/systemd.md"));
    run(&["maquette", "doctor"]);
    give_forge();
}

/// Root writes to the forge here; it belongs to Maquette's user.
pub(crate) fn give_forge() {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let Some(line) = users.lines().find(|line| line.starts_with("maquette:")) else {
        return;
    };
    let fields: Vec<&str> = line.split(':').collect();
    own(Path::new(FORGE), fields[2].parse().unwrap(), fields[3].parse().unwrap());
}

fn own(path: &Path, uid: u32, gid: u32) {
    // What is renamed meanwhile belongs to whoever renamed it.
    let _ = chown(path, Some(uid), Some(gid));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if !entry.path().is_symlink() {
            own(&entry.path(), uid, gid);
        }
    }
}

/// What systemd knows of a unit.
fn shown(unit: &str, property: &str) -> String {
    let property = format!("--property={property}");
    run(&["systemctl", "show", "--value", &property, unit])
        .trim()
        .to_owned()
}

pub(crate) fn main_pid(unit: &str) -> String {
    shown(unit, "MainPID")
}

pub(crate) fn restart(unit: &str) {
    run(&["systemctl", "restart", unit]);
}

pub(crate) fn kill(unit: &str) {
    run(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit]);
}

/// Waits until a unit has another main process.
pub(crate) async fn runs_anew(unit: &str, before: String) {
    patiently(unit, || async {
        let (state, pid) = (shown(unit, "ActiveState"), main_pid(unit));
        if state == "active" && pid != before && pid != "0" {
            return Ok(());
        }
        Err(format!("{state}, {pid}"))
    })
    .await;
}

/// Waits until all units run: systemd has started them.
pub(crate) async fn units_run() {
    for unit in UNITS {
        runs_anew(unit, String::new()).await;
    }
}

/// The step at which the power is cut: another one may be chosen from outside.
pub(crate) fn point(usual: &str) -> String {
    std::env::var("CUT_AT").unwrap_or_else(|_| usual.to_owned())
}

/// Tells whoever runs the machine to cut its power.
pub(crate) fn ask_for_cut() {
    fs::write("/host/.vm/cut", "").unwrap();
}

/// Cuts the power.
pub(crate) async fn cut() -> ! {
    ask_for_cut();
    sleep(PATIENCE).await;
    panic!("the power was not cut");
}

/// What one boot tells the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) commit: String,
    pub(crate) cookie: String,
    pub(crate) orders: Vec<String>,
    pub(crate) second: u64,
}

impl Notes {
    pub(crate) fn read() -> Self {
        serde_json::from_slice(&fs::read(NOTES).unwrap()).unwrap()
    }

    /// So that a power cut leaves it.
    pub(crate) fn write(&self) {
        let mut file = fs::File::create(NOTES).unwrap();
        file.write_all(&serde_json::to_vec(self).unwrap()).unwrap();
        file.sync_all().unwrap();
        fs::File::open("/root").unwrap().sync_all().unwrap();
    }

    pub(crate) fn number(&self) -> PullRequestNumber {
        PullRequestNumber(self.number)
    }

    pub(crate) fn second(&self) -> PullRequestNumber {
        PullRequestNumber(self.second)
    }

    pub(crate) fn commit(&self) -> CommitId {
        self.commit.parse().unwrap()
    }
}

/// Waits until of all environments nothing is on the machine, whatever it is called: goldens and the processes themselves stay.
pub(crate) async fn nothing_is_left() {
    patiently("nothing is left", || async {
        let mut found = Vec::new();
        for place in [
            "/run/maquette/net",
            "/run/maquette/cells",
            "/run/maquette/mounts",
            "/var/lib/maquette-cells/environments",
            "/var/lib/maquette-cells/pool/environments",
        ] {
            found.extend(entries(Path::new(place)));
        }
        for group in entries(Path::new("/sys/fs/cgroup")) {
            if group.file_name().unwrap().to_string_lossy().starts_with("maquette-") {
                found.extend(
                    entries(&group)
                        .into_iter()
                        .filter(|path| path.is_dir() && !path.ends_with("host")),
                );
            }
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:#?}"))
        }
    })
    .await;
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).into_iter().flatten().flatten();
    all.map(|entry| entry.path()).collect()
}
