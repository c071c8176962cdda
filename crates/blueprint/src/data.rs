//! What databases are made from: volumes, roles, migrations and seeds of the PostgreSQL services.

use crate::{
    assemble::Assembly,
    compose::Body,
    escape::quoted,
    glob, interpolate,
    problem::{At, Report},
    settings::Data,
    tree,
};
use model::{DataSet, Digest, Migration, Mount, MountKind, SeedFile, ServiceName, VolumeName};

/// Where the official images keep their data; newer ones keep it one level up.
pub(crate) const DATA_DIRS: [&str; 2] = ["/var/lib/postgresql/data", "/var/lib/postgresql"];
/// The most files of one kind.
const FILES_MAX: usize = 5_000;
/// The most bytes of all files of one kind together.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most patterns of one kind, and the longest one in bytes.
const PATTERNS_MAX: usize = 50;
const PATTERN_MAX: usize = 250;
/// The longest name of a role or database in PostgreSQL, in bytes.
const NAME_MAX: usize = 63;

/// The database of a PostgreSQL service, and the mount of its data directory if the Compose file has none.
pub(crate) fn postgres(
    assembly: &Assembly<'_>,
    name: &ServiceName,
    at: At,
    body: &Body,
    data: Option<&Data>,
) -> Option<(DataSet, Option<Mount>)> {
    let report = assembly.compose;
    let value = |variable: &str| {
        body.environment
            .get(variable)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    };
    for variable in [
        "POSTGRES_PASSWORD_FILE",
        "POSTGRES_USER_FILE",
        "POSTGRES_DB_FILE",
        "POSTGRES_INITDB_ARGS",
    ] {
        if let Some((at, _)) = body.environment.get(variable) {
            let message = format!("`{variable}` of service `{name}` is not supported");
            report.error_hint(
                *at,
                message,
                "use `POSTGRES_USER`, `POSTGRES_PASSWORD` and `POSTGRES_DB`",
            );
        }
    }
    let trusting = value("POSTGRES_HOST_AUTH_METHOD") == Some("trust");
    let user = value("POSTGRES_USER").unwrap_or("postgres").to_owned();
    let database = value("POSTGRES_DB").unwrap_or(&user).to_owned();
    let password = value("POSTGRES_PASSWORD");
    if password.is_none() && !trusting && !body.environment.contains_key("POSTGRES_PASSWORD_FILE") {
        report.error_hint(
            at,
            format!("service `{name}` has no `POSTGRES_PASSWORD`"),
            "the image refuses to start without one; it is only used inside of the environment's own network",
        );
    }
    for (what, text) in [("POSTGRES_USER", &user), ("POSTGRES_DB", &database)] {
        if text.contains('\0') {
            report.error(at, format!("`{what}` of service `{name}` can not be a secret"));
        } else if text.len() > NAME_MAX {
            report.error(
                at,
                format!("`{what}` of service `{name}` is longer than {NAME_MAX} bytes"),
            );
        }
    }
    let files = |patterns: &[(At, String)]| files(assembly, patterns);
    let migrations = data.map_or_else(Vec::new, |data| files(&data.migrations));
    let seeds = data.map_or_else(Vec::new, |data| files(&data.seed));
    let (volume, implicit) = volume(report, name, body)?;
    let set = DataSet {
        volume,
        database,
        user,
        password: interpolate::value(password.unwrap_or_default()),
        migrations: migrations
            .into_iter()
            .map(|(path, digest)| Migration { path, digest })
            .collect(),
        seeds: seeds
            .into_iter()
            .map(|(path, digest)| SeedFile { path, digest })
            .collect(),
    };
    Some((set, implicit))
}

/// The volume of the data directory: the one that is mounted there, or one that the service gets.
fn volume(report: &Report, name: &ServiceName, body: &Body) -> Option<(VolumeName, Option<Mount>)> {
    let mounted = body
        .mounts
        .iter()
        .find(|(_, mount)| DATA_DIRS.contains(&mount.target.as_str()));
    match mounted {
        Some((
            _,
            Mount {
                kind: MountKind::Volume { volume },
                ..
            },
        )) => Some((volume.clone(), None)),
        Some((at, mount)) => {
            report.error_hint(
                *at,
                format!(
                    "the data directory of service `{name}`, {}, must be a volume",
                    quoted(&mount.target)
                ),
                "name one under `volumes`, or remove the mount",
            );
            None
        }
        None => {
            let volume: VolumeName = format!("{name}-data").parse().ok().or_else(|| {
                report.error(None, format!("the name of service `{name}` is too long for an engine"));
                None
            })?;
            let kind = MountKind::Volume { volume: volume.clone() };
            Some((
                volume,
                Some(Mount {
                    target: DATA_DIRS[0].to_owned(),
                    kind,
                    read_only: false,
                }),
            ))
        }
    }
}

/// The paths that a pattern stands for; a path without a wildcard stands for itself, whether it is there or not. `None` after a
/// problem was told.
pub(crate) fn matching(assembly: &Assembly<'_>, paths: &[String], at: At, pattern: &str) -> Option<Vec<String>> {
    let report = assembly.settings;
    let path = match tree::join("", pattern) {
        Ok(path) if path.len() > PATTERN_MAX => {
            report.error(at, format!("{} is longer than {PATTERN_MAX} bytes", quoted(pattern)));
            return None;
        }
        Ok(path) => path,
        Err(error) => {
            report.error(at, format!("{} {error}", quoted(pattern)));
            return None;
        }
    };
    if !glob::is_pattern(&path) {
        return Some(vec![path]);
    }
    if path.contains('[') {
        let message = format!("{} is no pattern", quoted(pattern));
        report.error_hint(at, message, "known are `*`, `?` and `**`");
        return None;
    }
    let candidates = paths.iter();
    let found: Vec<String> = candidates
        .filter(|candidate| glob::matches(&path, candidate))
        .cloned()
        .collect();
    if found.is_empty() {
        let hint = "patterns start at the root of the repository; `*` does not cross a `/`";
        report.error_hint(at, format!("no file matches {}", quoted(pattern)), hint);
        return None;
    }
    Some(found)
}

/// The files that patterns stand for, in the order of the patterns and by name within one, each once.
fn files(assembly: &Assembly<'_>, patterns: &[(At, String)]) -> Vec<(String, Digest)> {
    let report = assembly.settings;
    let mut out: Vec<(String, Digest)> = Vec::new();
    let mut left = BYTES_MAX;
    if let Some((at, _)) = patterns.get(PATTERNS_MAX) {
        report.error(*at, format!("at most {PATTERNS_MAX} paths and patterns are read"));
        return out;
    }
    for (at, pattern) in patterns {
        for path in matching(assembly, assembly.paths(), *at, pattern).unwrap_or_default() {
            if out.iter().any(|(known, _)| *known == path) {
                continue;
            }
            if out.len() >= FILES_MAX {
                report.error(*at, format!("more than {FILES_MAX} files match {}", quoted(pattern)));
                break;
            }
            match tree::bytes(assembly.tree, &path) {
                Ok(bytes) if bytes.len() > left => {
                    report.error(*at, format!("the files are larger than {BYTES_MAX} bytes together"));
                    return out;
                }
                Ok(bytes) => {
                    left -= bytes.len();
                    out.push((path, Digest::of(&bytes)));
                }
                Err(error) => report.error(*at, format!("{} {error}", quoted(&path))),
            }
        }
    }
    out
}
