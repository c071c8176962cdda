//! Which engines the host has: the one part of this module that looks at the machine.

use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{EngineError, EngineKind};

/// How long a program may take to tell its version. A machine that was just started and has much to do reads it from its disk first,
/// and an engine that is not found is missing until the next start.
const VERSION_BOUND: Duration = Duration::from_secs(60);

/// One installed engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The engine.
    pub kind: EngineKind,
    /// Its major version.
    pub major: u32,
    /// Its exact version, for example `15.18`.
    pub version: String,
    /// The directory of its programs; RabbitMQ's own directory.
    pub directory: PathBuf,
}

/// What the host has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostEngines {
    /// The installed engines.
    pub installed: Vec<Installed>,
}

impl HostEngines {
    /// The highest installed version in the range.
    pub(super) fn pick(&self, kind: EngineKind, majors: &RangeInclusive<u32>) -> Result<&Installed, EngineError> {
        let of_kind = || self.installed.iter().filter(|installed| installed.kind == kind);
        of_kind()
            .filter(|installed| majors.contains(&installed.major))
            .max_by_key(|installed| installed.major)
            .ok_or_else(|| {
                let present: Vec<&str> = of_kind().map(|installed| installed.version.as_str()).collect();
                EngineError::Missing {
                    kind,
                    wanted: words(majors),
                    present: if present.is_empty() {
                        "no version is".to_owned()
                    } else {
                        format!("{} is", present.join(", "))
                    },
                    package: kind.package((*majors.end() < 1000).then_some(*majors.end())),
                }
            })
    }
}

fn words(majors: &RangeInclusive<u32>) -> String {
    match (*majors.start(), *majors.end()) {
        (first, last) if first == last => first.to_string(),
        (0, u32::MAX) => "(any version)".to_owned(),
        (first, u32::MAX) => format!("{first} or newer"),
        (first, last) => format!("{first} to {last}"),
    }
}

/// Looks for engines where Debian's packages put them. Other `postgres` programs on the search path are not taken: their
/// files and libraries may be anywhere.
#[must_use]
pub fn probe_host() -> HostEngines {
    let mut installed = Vec::new();
    for directory in subdirectories(Path::new("/usr/lib/postgresql")) {
        let directory = directory.join("bin");
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let version = version_of(&directory.join("postgres"), &["--version"])
            .and_then(|text| Some(text.split_whitespace().nth(2)?.to_owned()));
        installed.extend(version.and_then(|version| found(EngineKind::Postgres, version, directory)));
    }
    // "Redis server v=7.0.15 sha=…"
    let redis = Path::new("/usr/bin/redis-server");
    let version = version_of(redis, &["--version"]).and_then(|text| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix("v=").map(str::to_owned))
    });
    installed.extend(version.and_then(|version| found(EngineKind::Redis, version, "/usr/bin".into())));
    if Path::new("/usr/bin/erl").exists() {
        for directory in subdirectories(Path::new("/usr/lib/rabbitmq/lib")) {
            let name = directory
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let version = name.strip_prefix("rabbitmq_server-").map(str::to_owned);
            installed.extend(version.and_then(|version| found(EngineKind::Rabbitmq, version, directory)));
        }
    }
    HostEngines { installed }
}

fn found(kind: EngineKind, version: String, directory: PathBuf) -> Option<Installed> {
    let major = version.split('.').next()?.parse().ok()?;
    Some(Installed {
        kind,
        major,
        version,
        directory,
    })
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// What a program prints when asked for its version, bounded in time and length.
pub(crate) fn version_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begun.elapsed() > VERSION_BOUND {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}
