//! Starting and stopping the program.

use super::Client;
use crate::held::HeldPort;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A fixture could not be prepared.
#[derive(Debug)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

pub(super) fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Error {
    let what = what.to_owned();
    move |error| Error(format!("{what}: {error}"))
}

/// `nobody` and `nogroup`: Gitea refuses to run as root, and wants a user that has a name.
const NOBODY: u32 = 65534;
const READY_WITHIN: Duration = Duration::from_secs(300);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// The tools that Gitea needs are in these directories on every distribution.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A running Gitea with one administrator. It is ended, and its directory removed, when it is dropped.
#[derive(Debug)]
pub struct Gitea {
    child: Option<Child>,
    dir: TempDir,
    program: PathBuf,
    port: HeldPort,
    admin: String,
}

impl Gitea {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// If it was not built, or does not get ready in time; the message says what to do.
    pub async fn start() -> Result<Self, Error> {
        Self::start_on(Ipv4Addr::LOCALHOST.into()).await
    }

    /// The same on another address of this machine, for those who reach it only there.
    ///
    /// # Errors
    /// As for [`Gitea::start`].
    pub async fn start_on(address: IpAddr) -> Result<Self, Error> {
        let installed = installed()?;
        let dir = tempfile::Builder::new()
            .prefix("maquette-gitea-")
            .tempdir()
            .map_err(failed("temporary directory"))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).map_err(failed("temporary directory"))?;
        let installed = reachable(&installed, dir.path())?;
        let port = HeldPort::take_of(address).map_err(failed("free port"))?;
        let work = dir.path().join("work");
        fs::create_dir_all(work.join("custom/conf")).map_err(failed("work directory"))?;
        fs::write(
            work.join("custom/conf/app.ini"),
            configuration(&work, &installed, port.address())?,
        )
        .map_err(failed("app.ini"))?;
        hand_over(&work)?;
        let mut gitea = Self {
            child: None,
            dir,
            program: installed.join("bin/gitea"),
            port,
            admin: String::new(),
        };
        // It makes its tables at its first start.
        gitea.resume().await?;
        gitea.admin = gitea.make_admin()?;
        Ok(gitea)
    }

    /// One that all tests of a program use together; it ends with the last of them that holds it.
    ///
    /// # Errors
    /// As for [`Gitea::start`].
    pub async fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: tokio::sync::Mutex<Weak<Gitea>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(gitea) = shared.upgrade() {
            return Ok(gitea);
        }
        let gitea = Arc::new(Self::start().await?);
        *shared = Arc::downgrade(&gitea);
        Ok(gitea)
    }

    /// Its address, with a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.port.address())
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The API as the administrator `root-admin`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn admin(&self) -> Result<Client, Error> {
        Client::new(&self.url(), "root-admin", &self.admin)
    }

    /// Ends the program; its data stays.
    pub fn pause(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // The child was not waited for yet, so its number can not belong to another process.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + STOPPED_WITHIN;
        while Instant::now() < until {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts the program again on the same port with the same data, and waits until it answers.
    ///
    /// # Errors
    /// If it does not get ready in time.
    pub async fn resume(&mut self) -> Result<(), Error> {
        let log = self.dir.path().join("gitea.log");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed("gitea.log"))?;
        let err = out.try_clone().map_err(failed("gitea.log"))?;
        let mut command = self.command(&["web"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(failed("starting gitea"))?;
        self.child = Some(child);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build();
        let client = client.map_err(failed("HTTP client"))?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            let ready = client.get(format!("{}api/healthz", self.url())).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > until {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = said.lines().rev().take(20).collect();
                return Err(Error(format!(
                    "gitea is not ready ({ended:?}); its last lines, newest first: {lines:#?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Makes the administrator with the program itself, and returns its token.
    fn make_admin(&self) -> Result<String, Error> {
        let args = [
            "admin",
            "user",
            "create",
            "--admin",
            "--username",
            "root-admin",
            "--password",
            "only-for-tests-1",
            "--email",
            "root-admin@localhost",
            "--must-change-password=false",
            "--access-token",
            "--access-token-name",
            "tests",
            "--access-token-scopes",
            "all",
        ];
        let out = self
            .command(&args)
            .stdin(Stdio::null())
            .output()
            .map_err(failed("running gitea"))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if !out.status.success() {
            return Err(Error(format!(
                "gitea admin user create: {text} {}",
                String::from_utf8_lossy(&out.stderr)
            )));
        }
        let is_token = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(token) = text.split_whitespace().find(is_token) {
            return Ok(token.to_owned());
        }
        Err(Error("gitea printed no token for its administrator".to_owned()))
    }

    fn command(&self, args: &[&str]) -> Command {
        let work = self.dir.path().join("work");
        let mut command = Command::new(&self.program);
        command
            .args(["--work-path"])
            .arg(&work)
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &work)
            .env("GITEA_WORK_DIR", &work)
            .current_dir(&work)
            .process_group(0);
        if is_root() {
            command.env("USER", "nobody").uid(NOBODY).gid(NOBODY);
        } else if let Ok(user) = std::env::var("USER") {
            command.env("USER", user);
        }
        command
    }
}

impl Drop for Gitea {
    fn drop(&mut self) {
        self.pause();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where `tools/gitea/build` put it.
fn installed() -> Result<PathBuf, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("MAQUETTE_CACHE").map_or_else(|| root.join(".cache"), |cache| root.join(cache));
    let dir = std::env::var_os("MAQUETTE_GITEA_DIR").map_or_else(|| cache.join("gitea"), PathBuf::from);
    let whole =
        dir.join("bin/gitea").is_file() && ["templates", "options", "public"].iter().all(|d| dir.join(d).is_dir());
    if whole {
        return dir.canonicalize().map_err(failed("directory of gitea"));
    }
    Err(Error(format!(
        "this test needs Gitea, and there is none in {}.\nhint: run tools/gitea/build once (some minutes), or set \
         MAQUETTE_GITEA_DIR to a directory that it made",
        dir.display()
    )))
}

/// A checkout below a home directory can not be entered by `nobody`: then the program is copied.
fn reachable(installed: &Path, dir: &Path) -> Result<PathBuf, Error> {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o005 == 0o005);
    let program = installed.join("bin/gitea").canonicalize().map_err(failed("gitea"))?;
    if !is_root() || (program.ancestors().all(open) && installed.ancestors().all(open)) {
        return Ok(installed.to_owned());
    }
    let copy = dir.join("program");
    fs::create_dir_all(copy.join("bin")).map_err(failed("copy of gitea"))?;
    fs::copy(&program, copy.join("bin/gitea")).map_err(failed("copy of gitea"))?;
    for folder in ["templates", "options", "public"] {
        copy_folder(&installed.join(folder), &copy.join(folder)).map_err(failed("copy of gitea's folders"))?;
    }
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Gives a directory and all in it to the user that Gitea runs as.
fn hand_over(path: &Path) -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    chown(path, Some(NOBODY), Some(NOBODY)).map_err(failed("work directory"))?;
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed("work directory"))? {
            hand_over(&entry.map_err(failed("work directory"))?.path())?;
        }
    }
    Ok(())
}

fn configuration(work: &Path, installed: &Path, at: SocketAddr) -> Result<Vec<u8>, Error> {
    let (address, port) = (at.ip(), at.port());
    let (work, installed) = (work.display(), installed.display());
    let mut out = Vec::new();
    write!(
        out,
        "\
APP_NAME = Tests
RUN_MODE = prod
WORK_PATH = {work}

[server]
PROTOCOL = http
HTTP_ADDR = {address}
HTTP_PORT = {port}
ROOT_URL = http://{at}/
STATIC_ROOT_PATH = {installed}
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false

[database]
DB_TYPE = sqlite3
PATH = {work}/gitea.db
SQLITE_JOURNAL_MODE = WAL
SQLITE_TIMEOUT = 60000

[security]
INSTALL_LOCK = true
SECRET_KEY = only-for-tests
INTERNAL_TOKEN = {internal}
PASSWORD_HASH_ALGO = pbkdf2$1000$50

[service]
DISABLE_REGISTRATION = true

[webhook]
ALLOWED_HOST_LIST = loopback
DELIVER_TIMEOUT = 60

[repository]
ROOT = {work}/repositories
DEFAULT_BRANCH = main

[actions]
ENABLED = false

[packages]
ENABLED = false

[indexer]
ISSUE_INDEXER_TYPE = db

[cron]
ENABLED = false

[mailer]
ENABLED = false

[picture]
DISABLE_GRAVATAR = true

[log]
MODE = console
LEVEL = Warn
",
        internal = internal_token(),
    )
    .map_err(failed("app.ini"))?;
    Ok(out)
}

/// Any value works: hooks of repositories show it to Gitea's own internal API.
fn internal_token() -> String {
    format!("only-for-tests-{}", std::process::id())
}
