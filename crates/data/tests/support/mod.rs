//! A PostgreSQL of its own for one test: unprivileged, on a Unix socket in a temporary directory, gone with the value.

use std::{
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::net::UnixStream;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

/// The uid of `nobody`, which has nothing anywhere: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

pub(crate) struct Postgres {
    directory: tempfile::TempDir,
    server: Child,
}

fn program(name: &str) -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL's server is not installed (package `postgresql`)");
    let mut found: Vec<_> = versions
        .flatten()
        .map(|entry| entry.path().join("bin").join(name))
        .filter(|p| p.exists())
        .collect();
    found.sort();
    found.pop().expect("no PostgreSQL server below /usr/lib/postgresql")
}

fn unprivileged(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        // The administrator comes by the socket and needs no password; everybody else does.
        let made = unprivileged("initdb")
            .args([
                "--username=maquette",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--pgdata",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut rules = std::fs::File::create(data.join("pg_hba.conf")).unwrap();
        writeln!(rules, "local all maquette trust\nlocal all all scram-sha-256").unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let server = unprivileged("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=20",
                "-c",
                "log_statement=all",
            ])
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Self { directory, server };
        let deadline = Instant::now() + Duration::from_secs(180);
        while postgres.client("maquette", None, "postgres").await.is_err() {
            assert!(
                Instant::now() < deadline,
                "PostgreSQL did not start: {}",
                postgres.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        postgres
    }

    /// What a runtime's `dial` to the engine's way in for its administrator gives.
    pub(crate) async fn stream(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join(".s.PGSQL.5432"))
            .await
            .unwrap()
    }

    pub(crate) async fn client(&self, user: &str, password: Option<&str>, database: &str) -> Result<Client, String> {
        let socket = self.directory.path().join(".s.PGSQL.5432");
        let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        let mut config = Config::new();
        config
            .user(user)
            .dbname(database)
            .password(password.unwrap_or_default());
        let (client, connection) = config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|error: Error| error.to_string())?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The first column of all rows of a query that this role runs.
    pub(crate) async fn query(
        &self,
        user: &str,
        password: &str,
        database: &str,
        sql: &str,
    ) -> Result<Vec<String>, String> {
        let client = self.client(user, Some(password), database).await?;
        let messages = client.simple_query(sql).await.map_err(|error| {
            error
                .as_db_error()
                .map_or_else(|| error.to_string(), |db| db.message().to_owned())
        })?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            })
            .collect())
    }

    /// What the server wrote to its log, all statements included.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.server.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
