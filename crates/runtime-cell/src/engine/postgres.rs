//! PostgreSQL: fast to start, bounded, and administered by a way in that services don't see.

use std::time::Duration;

use super::{
    Address, EngineDirectory, EngineError, EngineFile, EngineKind, EngineRequest, EngineRun, Initialise, Installed,
    Probe, Protocol, Sensitive, Stop, base_environment,
};

/// The superuser that Maquette itself uses, over the private socket only.
pub const ADMINISTRATOR: &str = "maquette";

const KIND: EngineKind = EngineKind::Postgres;
const MARKER: &str = "maquette-initialised";

/// The role that Compose asked for. It owns its database and is no superuser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresAccount {
    /// The role.
    pub user: String,
    /// Its password; `None` where Compose asks for none to be checked.
    pub password: Option<Sensitive>,
    /// The database.
    pub database: String,
}

/// Parameters that Maquette's own administration relies on.
const RESERVED: [&str; 9] = [
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_permissions",
];

const INITDB_ALLOWED: [&str; 9] = [
    "--data-checksums",
    "--encoding",
    "--icu-locale",
    "--lc-collate",
    "--lc-ctype",
    "--locale",
    "--locale-provider",
    "--no-data-checksums",
    "--wal-segsize",
];

pub(super) fn run(request: &EngineRequest<'_>, installed: &Installed) -> Result<EngineRun, EngineError> {
    let place = request.place;
    let program = |name: &str| installed.directory.join(name).display().to_string();
    let data = place.data.display().to_string();
    let (sockets, settings) = (place.run.join("postgres"), place.run.join("etc"));
    let (hba, ident) = (settings.join("pg_hba.conf"), settings.join("pg_ident.conf"));
    let port = place.port.unwrap_or(KIND.port());
    let (account, method) = account(request)?;

    let wanted = arguments(request.command)?;
    let mut argv = vec![program("postgres"), "-D".to_owned(), data.clone()];
    let mut set = |name: &str, value: &str| argv.extend(["-c".to_owned(), format!("{name}={value}")]);
    // Nobody's only copy, so nothing has to be safe on disk at commit. After a crash of the machine the host says so.
    for (name, value) in [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("max_connections", "60"),
        ("huge_pages", "off"),
        ("autovacuum", "on"),
        ("max_wal_size", "128MB"),
        ("min_wal_size", "32MB"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("jit", "off"),
    ] {
        set(name, value);
    }
    set(
        "shared_buffers",
        &format!("{}MB", shared_buffers_mb(request.memory_bytes)),
    );
    // These two depend on each other: who sets one gets PostgreSQL's own value of the other.
    if !wanted
        .iter()
        .any(|(name, _)| name == "wal_level" || name == "max_wal_senders")
    {
        set("wal_level", "minimal");
        set("max_wal_senders", "0");
    }
    for (name, value) in &wanted {
        set(name, value);
    }
    // Last, because the last value counts.
    set("listen_addresses", place.listen.as_deref().unwrap_or("*"));
    set("port", &port.to_string());
    set("unix_socket_directories", &sockets.display().to_string());
    set("unix_socket_permissions", "0700");
    set("hba_file", &hba.display().to_string());
    set("ident_file", &ident.display().to_string());

    let mut environment = base_environment(&place.run);
    // Tools like `pg_isready` in a health check shall ask the port, not the private socket.
    environment.insert("PGHOST".to_owned(), "127.0.0.1".to_owned());
    environment.insert("PGPORT".to_owned(), port.to_string());
    environment.insert("PGDATA".to_owned(), data.clone());
    environment.insert("PGUSER".to_owned(), account.user.clone());
    environment.insert("PGDATABASE".to_owned(), account.database.clone());
    let path = environment.get("PATH").cloned().unwrap_or_default();
    environment.insert("PATH".to_owned(), format!("{}:{path}", installed.directory.display()));

    let directory = |path: &std::path::Path| EngineDirectory {
        path: path.to_owned(),
        mode: 0o700,
    };
    let file = |path: &std::path::Path, content: String| EngineFile {
        path: path.to_owned(),
        content: Sensitive::new(content),
        mode: 0o400,
    };
    Ok(EngineRun {
        kind: KIND,
        version: installed.version.clone(),
        argv,
        environment,
        directories: vec![directory(&sockets), directory(&settings)],
        files: vec![file(&hba, hba_content(method)), file(&ident, String::new())],
        initialise: Some(Initialise {
            argv: initdb(request, &program("initdb"), data)?,
            marker: place.data.join(MARKER),
        }),
        port,
        ready: Probe {
            address: Address::Unix(sockets.join(format!(".s.PGSQL.{port}"))),
            protocol: Protocol::Postgres,
        },
        // SIGINT is the fast shutdown: clients are sent away, everything is written, the next start needs no recovery.
        stop: Stop {
            signal: "SIGINT",
            grace: Duration::from_secs(20),
        },
        account: Some(account),
        notes: notes(request),
    })
}

fn shared_buffers_mb(memory: Option<u64>) -> u64 {
    memory.map_or(64, |bytes| (bytes >> 20) / 8).clamp(16, 128)
}

/// The administrator comes in by the private socket and no other way; everybody else by the network and no other way.
fn hba_content(method: &str) -> String {
    format!(
        "local all {ADMINISTRATOR} trust\n\
         local all all reject\n\
         host all {ADMINISTRATOR} all reject\n\
         host all all all {method}\n"
    )
}

fn initdb(request: &EngineRequest<'_>, program: &str, data: String) -> Result<Vec<String>, EngineError> {
    let mut argv: Vec<String> = vec![
        program.to_owned(),
        format!("--pgdata={data}"),
        format!("--username={ADMINISTRATOR}"),
        "--auth-local=trust".to_owned(),
        "--auth-host=scram-sha-256".to_owned(),
        "--encoding=UTF8".to_owned(),
        "--locale=C.UTF-8".to_owned(),
        "--no-sync".to_owned(),
        "--no-instructions".to_owned(),
    ];
    let more = request
        .environment
        .get("POSTGRES_INITDB_ARGS")
        .map_or("", Sensitive::expose);
    for word in more.split_whitespace() {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if !INITDB_ALLOWED.contains(&name) {
            let reason = "has an argument that can't be honoured (write `--name=value`; allowed: --data-checksums, --encoding, \
                          --locale and the like)";
            return Err(EngineError::Variable {
                kind: KIND,
                variable: "POSTGRES_INITDB_ARGS",
                reason,
            });
        }
        argv.push(word.to_owned());
    }
    Ok(argv)
}

fn account(request: &EngineRequest<'_>) -> Result<(PostgresAccount, &'static str), EngineError> {
    let error = |variable, reason| EngineError::Variable {
        kind: KIND,
        variable,
        reason,
    };
    let given = |name: &str| request.environment.get(name).filter(|value| !value.expose().is_empty());
    let method = match given("POSTGRES_HOST_AUTH_METHOD").map(Sensitive::expose) {
        None | Some("scram-sha-256") => "scram-sha-256",
        Some("md5") => "md5",
        Some("trust") => "trust",
        Some("password") => "password",
        Some(_) => {
            return Err(error(
                "POSTGRES_HOST_AUTH_METHOD",
                "is none of scram-sha-256, md5, password, trust",
            ));
        }
    };
    let user = given("POSTGRES_USER").map_or("postgres", Sensitive::expose).to_owned();
    let database = given("POSTGRES_DB").map_or(user.as_str(), Sensitive::expose).to_owned();
    let plain = |text: &str| text.len() <= 63 && !text.chars().any(char::is_control);
    if user == ADMINISTRATOR {
        return Err(error("POSTGRES_USER", "is a name that Maquette needs for itself"));
    }
    if !plain(&user) || user.starts_with("pg_") {
        return Err(error(
            "POSTGRES_USER",
            "is no name that PostgreSQL accepts (at most 63 bytes, not beginning with `pg_`)",
        ));
    }
    if !plain(&database) {
        return Err(error(
            "POSTGRES_DB",
            "is no name that PostgreSQL accepts (at most 63 bytes)",
        ));
    }
    let password = given("POSTGRES_PASSWORD").cloned();
    if password.is_none() && method != "trust" {
        return Err(error(
            "POSTGRES_PASSWORD",
            "is missing; the image would not start without it either",
        ));
    }
    Ok((
        PostgresAccount {
            user,
            password,
            database,
        },
        method,
    ))
}

/// The settings in a Compose command: `postgres -c name=value`, `-cname=value`, `--name=value`, `-N 200`.
fn arguments(command: &[String]) -> Result<Vec<(String, String)>, EngineError> {
    let refuse = |word: &str, reason| {
        Err(EngineError::Command {
            kind: KIND,
            word: word.to_owned(),
            reason,
        })
    };
    let mut words = command.iter().map(String::as_str);
    let mut settings = Vec::new();
    let mut first = true;
    while let Some(word) = words.next() {
        if std::mem::take(&mut first) && !word.starts_with('-') {
            if word.rsplit('/').next() != Some("postgres") {
                return refuse(word, "only `postgres` with settings can be run");
            }
            continue;
        }
        let setting = match word {
            "-c" => words.next(),
            "-N" => {
                settings.extend(
                    words
                        .next()
                        .map(|value| ("max_connections".to_owned(), value.to_owned())),
                );
                continue;
            }
            _ => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        };
        let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) else {
            return refuse(word, "settings are written `-c name=value`");
        };
        let name = name.to_ascii_lowercase().replace('-', "_");
        if RESERVED.contains(&name.as_str()) {
            return refuse(&name, "Maquette sets this itself");
        }
        settings.push((name, value.to_owned()));
    }
    Ok(settings)
}

fn notes(request: &EngineRequest<'_>) -> Vec<String> {
    let mut notes = vec!["the role of POSTGRES_USER owns its database and is no superuser".to_owned()];
    for (name, why) in [
        ("PGDATA", "the data directory is the volume itself"),
        ("POSTGRES_INITDB_WALDIR", "the write-ahead log stays in the data volume"),
    ] {
        if request.environment.contains_key(name) {
            notes.push(format!("{name} is not used: {why}"));
        }
    }
    notes
}
