//! The program as an operator starts it: as root, with a cell host, a pool and a gateway of its own. Everything of it is removed
//! at the end, whatever happened.

use crate::bench::{Ended, run};
use forge::{
    PullRequestNumber, StatusState,
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::CommitId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Nothing takes longer on a machine that is busy with other tests, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
/// Its processes end within this, or are killed.
const STOP: Duration = Duration::from_secs(20);
/// Ports of rigs, in number: they lie right below those that the kernel chooses itself.
const PORTS: u16 = 12_000;
/// In the environment of the three processes. It must be nowhere else.
pub(crate) const CANARY: &str = "canary-of-the-environment-5d21";
/// In a file of the state directory. It must be nowhere else.
pub(crate) const CANARY_FILE: &str = "canary-of-the-state-directory-88f0";

/// A service that serves its checkout.
pub(crate) const COMPOSE: &str = "services:\n  web:\n    image: python:3\n    command: [\"python3\", \"-m\", \"http.server\", \"8080\"]\n    \
     working_dir: /app\n    volumes: [\".:/app:ro\"]\n    ports: [\"8080:8080\"]\n    restart: unless-stopped\n";
pub(crate) const SETTINGS: &str =
    "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";

pub(crate) struct Rig {
    pub(crate) root: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) forge: LocalForge,
    pub(crate) api: u16,
    pub(crate) gateway: u16,
    server: Option<Child>,
    instance: Option<String>,
    user: (u32, u32),
}

fn nobody() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// A port that nobody has and that nobody gets before it is listened at, or while whoever listens is started again: the kernel gives
/// out others for connections and to whoever asks for any, and each rig of this program takes the next one.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first_of_kernel: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let first = first_of_kernel.saturating_sub(PORTS).max(1024);
    let count = u32::from(first_of_kernel.saturating_sub(first));
    for _ in 0..count {
        // Programs that run side by side begin apart.
        let n = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
            % count;
        let port = first + u16::try_from(n).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn own(path: &Path, (uid, gid): (u32, u32)) {
    // What is renamed meanwhile belongs to whoever renamed it.
    let _ = chown(path, Some(uid), Some(gid));
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if !entry.path().is_symlink() {
                own(&entry.path(), (uid, gid));
            }
        }
    }
}

/// Two directories for a new rig. What a program of the same number has left, which may even run still, is left alone.
fn new_place() -> (PathBuf, PathBuf) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        // No name begins with another one's: processes are found by it.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("maquette-refused-{}-{number:03}", std::process::id());
        let places = (std::env::temp_dir().join(&name), Path::new("/run").join(&name));
        let made = [&places.0, &places.1].map(|place| fs::create_dir(place).map_err(|error| error.kind()));
        if made == [Ok(()), Ok(())] {
            return places;
        }
        for (place, made) in [&places.0, &places.1].into_iter().zip(made) {
            match made {
                Ok(()) => fs::remove_dir(place).unwrap(),
                Err(kind) => assert_eq!(kind, std::io::ErrorKind::AlreadyExists, "{}", place.display()),
            }
        }
    }
}

impl Rig {
    /// Directories, a repository with these files on `main`, and a configuration. Nothing runs yet.
    pub(crate) async fn new(files: &[FileChange]) -> Self {
        let (root, run_dir) = new_place();
        for directory in ["bin", "state", "forge"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let (built, program) = (env!("CARGO_BIN_EXE_maquette"), root.join("bin/maquette"));
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        let main = "main".parse().unwrap();
        let forge = LocalForge::open(root.join("forge"), &"local/shop".parse().unwrap(), &main)
            .await
            .unwrap();
        forge.commit(&main, None, files, "Begin").await.unwrap();
        let rig = Self {
            run_dir,
            root,
            forge,
            api: free_port(),
            gateway: free_port(),
            server: None,
            instance: None,
            user: nobody(),
        };
        rig.give();
        rig.configure();
        rig
    }

    /// What root wrote to the forge belongs to the user that Maquette runs as.
    pub(crate) fn give(&self) {
        own(&self.root.join("forge"), self.user);
    }

    /// The same of anything below.
    #[allow(dead_code, reason = "only one test program has further repositories")]
    pub(crate) fn give_all(&self, place: &Path) {
        own(place, self.user);
    }

    pub(crate) fn configure(&self) {
        let text = format!(
            "state_dir: {root}/state\nuser: nobody\nlisten: 127.0.0.1:{api}\ndoor: {{ user: bin }}\ngateway: {{ user: daemon, listen: \"127.0.0.1:{gateway}\" }}\n\
             cell: {{ run_dir: {run}, data_dir: {root}/cells, pool_gib: 1 }}\npoll_seconds: 1\n\
             projects:\n  - name: shop\n    sources:\n      - forge: {{ kind: local, path: {root}/forge }}\n",
            root = self.root.display(),
            run = self.run_dir.display(),
            api = self.api,
            gateway = self.gateway,
        );
        fs::write(self.config(), text).unwrap();
    }

    /// User and group that Maquette runs as.
    pub(crate) fn user(&self) -> (u32, u32) {
        self.user
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("maquette-server.yaml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.root.join("bin/maquette"));
        command
            .args([what.as_ref(), "--config".as_ref(), self.config().as_os_str()])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("MAQUETTE_CANARY", CANARY)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Starts `maquette serve` without waiting for it.
    pub(crate) fn spawn(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.root.join("log"))
            .unwrap();
        let child = self
            .command("serve")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.server = Some(child.unwrap());
    }

    /// How `maquette serve` ended by itself.
    pub(crate) async fn ended(&mut self) -> i32 {
        let since = Instant::now();
        loop {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                self.server = None;
                self.learn_instance();
                return status.code().unwrap();
            }
            assert!(since.elapsed() < PATIENCE, "it goes on:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        let since = Instant::now();
        while self.run(&["list"]).await.code != 0 || std::net::TcpStream::connect(("127.0.0.1", self.gateway)).is_err()
        {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && since.elapsed() < PATIENCE,
                "it does not start: {ended:?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
        self.learn_instance();
    }

    /// Runs `maquette stop` and waits for the end of the server, which is our child.
    #[allow(dead_code, reason = "only one test program stops it")]
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        let mut stop = self.command("stop").stdout(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        loop {
            let server = self.server.as_mut().map_or(Ok(None), Child::try_wait).unwrap();
            if let (Some(status), Some(_)) = (stop.try_wait().unwrap(), server) {
                self.server = None;
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not stop\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills every process of it at once, containers too, as a power cut does.
    #[allow(dead_code, reason = "not every test program does that")]
    pub(crate) fn kill_all(&mut self) {
        self.learn_instance();
        let since = Instant::now();
        loop {
            let left = self.ours();
            for pid in left.iter().copied().filter_map(Pid::from_raw) {
                // It may have ended just now.
                let _ = kill_process(pid, Signal::KILL);
            }
            if let Some(mut server) = self.server.take() {
                let _ = server.kill();
                server.wait().unwrap();
            }
            if left.is_empty() {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "these do not end: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the cell host was told; its groups are known by it.
    fn learn_instance(&mut self) {
        let Ok(pid) = fs::read_to_string(self.run_dir.join("cell-host.pid")) else {
            return;
        };
        let words = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        let words: Vec<String> = words
            .split(|b| *b == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let at = words.iter().position(|word| word == "--instance");
        self.instance = at.and_then(|at| words.get(at + 1).cloned()).or(self.instance.take());
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let state = self.state();
        let all: Vec<&str> = ["--state-dir", state.to_str().unwrap()]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        run(&all, "").await
    }

    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}\n{}", self.log());
        ended.out
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        serde_json::from_str(&self.ok(&all).await).unwrap()
    }

    pub(crate) async fn push(&self, branch: &str, files: &[FileChange]) -> CommitId {
        let (branch, main) = (branch.parse().unwrap(), "main".parse().unwrap());
        let commit = self.forge.commit(&branch, Some(&main), files, "Change").await.unwrap();
        self.give();
        commit
    }

    /// Opens a pull request from a branch that is there.
    pub(crate) async fn open(&self, branch: &str, title: &str) -> PullRequestNumber {
        let new = NewPullRequest::new(branch.parse().unwrap(), "main".parse().unwrap(), title);
        self.forge_open(new).await
    }

    pub(crate) async fn forge_open(&self, new: NewPullRequest) -> PullRequestNumber {
        let number = self.forge.open_pull_request(new).await.unwrap().number;
        self.give();
        number
    }

    pub(crate) async fn close(&self, number: PullRequestNumber) {
        self.forge.close(number).await.unwrap();
        self.give();
    }

    /// A pull request with these files.
    pub(crate) async fn change(&self, branch: &str, files: &[FileChange]) -> (PullRequestNumber, CommitId) {
        let commit = self.push(branch, files).await;
        (self.open(branch, "A change").await, commit)
    }

    /// Waits until our comment says all of this.
    pub(crate) async fn comment(&self, number: PullRequestNumber, wanted: &[&str]) -> String {
        let since = Instant::now();
        loop {
            let comments = self.forge.comments(number).unwrap_or_default();
            if let [only] = comments.as_slice()
                && wanted.iter().all(|text| only.body.contains(text))
            {
                return only.body.clone();
            }
            if since.elapsed() > PATIENCE {
                let why = self.run(&["why", &format!("pr-{number}")]).await;
                panic!(
                    "it never said {wanted:?}: {comments:#?}\n{}\n{}\n{}",
                    why.out,
                    why.err,
                    self.log()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn status(&self, commit: &CommitId, wanted: StatusState) -> String {
        let since = Instant::now();
        loop {
            let found = self.forge.status(commit).unwrap_or_default();
            if let Some(status) = found.as_ref().filter(|status| status.state == wanted) {
                return status.description.clone();
            }
            assert!(
                since.elapsed() < PATIENCE,
                "never {wanted:?}: {found:?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a command's output says this.
    pub(crate) async fn says(&self, arguments: &[&str], wanted: &[&str]) -> String {
        let since = Instant::now();
        loop {
            let ended = self.run(arguments).await;
            if wanted.iter().all(|text| ended.out.contains(text)) {
                return ended.out;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{arguments:?} never said {wanted:?}: {ended:?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The pid, on this machine, of the main process of a service, by a word of its command. What that has started may come and go,
    /// with the same word.
    pub(crate) fn process(&self, environment: &str, word: &str) -> Pid {
        let mut found = processes(|pid| {
            let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            group.contains(environment) && String::from_utf8_lossy(&words).contains(word) && is_first_of_its_own(pid)
        });
        Pid::from_raw(found.pop().unwrap()).unwrap()
    }

    fn ours(&self) -> Vec<i32> {
        let group = self.instance.as_ref().map(|id| format!("/maquette-{id}/"));
        let (root, run) = (self.root.display().to_string(), self.run_dir.display().to_string());
        processes(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            group.as_ref().is_some_and(|group| groups.contains(group)) || words.contains(&root) || words.contains(&run)
        })
    }
}

/// Whether it is the first process of the innermost namespace that it has a number in.
fn is_first_of_its_own(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().next_back()) == Some("1")
}

fn processes(is: impl Fn(i32) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != std::process::id().cast_signed() && is(*pid))
        .collect()
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
        self.learn_instance();
        // Whether or not it ends as it should: what is left is killed by its number.
        let stop = self.command("stop").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let since = Instant::now();
        if let Some(mut server) = self.server.take() {
            // Until its end was noted it counts as running.
            while matches!(server.try_wait(), Ok(None)) && since.elapsed() < STOP {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        if let Ok(mut stop) = stop {
            while matches!(stop.try_wait(), Ok(None)) && since.elapsed() < STOP {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = stop.kill();
            let _ = stop.wait();
        }
        for _ in 0..200 {
            let left = self.ours();
            if left.is_empty() {
                break;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(id) = &self.instance {
            for entry in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                remove_groups(&entry.path().join(format!("maquette-{id}")));
            }
            remove_groups(&Path::new("/sys/fs/cgroup").join(format!("maquette-{id}")));
        }
        // One that is in use goes with its last user. Afterwards its file may be out of reach.
        let image = self.root.join("cells/pool.img");
        let devices = Command::new("losetup").arg("-j").arg(&image).output();
        for line in devices.iter().flat_map(|found| found.stdout.split(|b| *b == b'\n')) {
            if let Some((device, _)) = String::from_utf8_lossy(line).split_once(':') {
                let _ = Command::new("losetup").args(["-d", device]).status();
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours =
            |point: &&str| Path::new(point).starts_with(&self.root) || Path::new(point).starts_with(&self.run_dir);
        for point in points.filter(ours).collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", point]).status();
        }
        let _ = fs::remove_dir_all(&self.root);
        let _ = fs::remove_dir_all(&self.run_dir);
    }
}

/// Somebody with a browser who has signed in to one environment.
pub(crate) struct Visitor {
    client: reqwest::Client,
    origin: String,
    cookie: String,
}

impl Visitor {
    /// Signs in with a link that the program prints. A control plane that is too busy to answer the gateway in time is asked again.
    pub(crate) async fn new(rig: &Rig, label: &str) -> Self {
        let since = Instant::now();
        loop {
            match Self::try_new(rig, label).await {
                Ok(visitor) => return visitor,
                Err(answer) => assert!(
                    answer.status().as_u16() == 503 && since.elapsed() < PATIENCE,
                    "{answer:?}\n{}",
                    rig.log()
                ),
            }
        }
    }

    async fn try_new(rig: &Rig, label: &str) -> Result<Self, reqwest::Response> {
        let link = rig.ok(&["open", label]).await;
        let (origin, token) = link.trim().split_once("/.maquette/sign-in#token=").unwrap();
        let host = format!("{label}.localhost");
        let client = reqwest::Client::builder()
            .resolve(&host, ([127, 0, 0, 1], rig.gateway).into())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let answer = client
            .post(format!("{origin}/.maquette/session"))
            .header("origin", origin)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}&next=/"))
            .send()
            .await
            .unwrap();
        if answer.status().as_u16() != 303 {
            return Err(answer);
        }
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        Ok(Self {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            origin: origin.to_owned(),
            client,
        })
    }

    /// Status and text of a page.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let request = self.client.get(format!("{}{path}", self.origin));
        let answer = request.header("cookie", &self.cookie).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}
