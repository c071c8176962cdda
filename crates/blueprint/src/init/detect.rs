//! What a repository without a Compose file holds, and how a developer of its kind would run it.

use super::{docker, go, java, node, php, python, ruby, rust, site};
use crate::tree::{self, Kind, Tree};
use std::collections::BTreeSet;

/// The most applications that are written down.
const APPLICATIONS_MAX: usize = 8;

/// A command that is needed before the application can start.
#[derive(Clone, Debug, Default)]
pub(super) struct Build {
    pub(super) run: Vec<String>,
    /// Paths from the application's folder; empty if it needs the whole commit.
    pub(super) inputs: Vec<String>,
    /// Paths from the application's folder; empty if all of the checkout is kept.
    pub(super) outputs: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// The word for where its packages come from.
    pub(super) packages: Option<&'static str>,
}

/// An application and how it is run.
#[derive(Clone, Debug)]
pub(super) struct Application {
    /// In words, for the comment in the file.
    pub(super) what: String,
    /// The service's name.
    pub(super) name: String,
    /// The folder that it lies in; empty for the root of the repository.
    pub(super) folder: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) port: u16,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) build: Option<Build>,
    /// Where the folder is mounted, if not where applications usually are.
    pub(super) mounted_at: Option<&'static str>,
    pub(super) needs: Vec<Need>,
    pub(super) dialect: Dialect,
    /// Whether its Dockerfile builds it; it has neither image nor build nor command then.
    pub(super) dockerfile: bool,
    /// The words for where its Dockerfile fetches packages.
    pub(super) packages: BTreeSet<&'static str>,
}

/// An engine that an application's packages talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Postgres,
    RabbitMq,
    Redis,
}

/// The variables by which an application is told where its engines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dialect {
    /// An address for each, as most languages have it.
    #[default]
    Addresses,
    /// Java's own addresses, which hold neither user nor password, for a program without a framework.
    Jdbc,
    Laravel,
    Micronaut,
    Quarkus,
    Spring,
}

/// A folder in which an application may lie.
pub(super) struct Folder<'a> {
    pub(super) tree: &'a dyn Tree,
    pub(super) path: String,
}

impl Folder<'_> {
    /// A path in the folder, from the root of the repository.
    pub(super) fn at(&self, path: &str) -> String {
        if self.path.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.path)
        }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        matches!(self.tree.kind(&self.at(path)), Some(Kind::File { .. }))
    }

    pub(super) fn has_folder(&self, path: &str) -> bool {
        self.tree.kind(&self.at(path)) == Some(Kind::Directory)
    }

    /// The text of a file; nothing if it is none, or too large.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        tree::text(self.tree, &self.at(path)).ok()
    }

    /// The first of these files that is there.
    pub(super) fn first<'p>(&self, paths: &[&'p str]) -> Option<&'p str> {
        paths.iter().find(|path| self.has(path)).copied()
    }

    /// An application with what all kinds have in common.
    pub(super) fn application(&self, what: &str, image: String, port: u16) -> Application {
        Application {
            what: what.to_owned(),
            name: if self.path.is_empty() {
                "web".to_owned()
            } else {
                self.path.clone()
            },
            folder: self.path.clone(),
            image,
            command: Vec::new(),
            port,
            environment: Vec::new(),
            build: None,
            mounted_at: None,
            needs: Vec::new(),
            dialect: Dialect::default(),
            dockerfile: false,
            packages: BTreeSet::new(),
        }
    }
}

/// The applications of a repository: one at its root, or one in each of its folders.
pub(super) fn applications(tree: &dyn Tree) -> Vec<Application> {
    let root = Folder {
        tree,
        path: String::new(),
    };
    if let Some(found) = program(&root) {
        return vec![found];
    }
    let mut found = Vec::new();
    let mut last = String::new();
    for path in tree.list() {
        let Some((folder, _)) = path.split_once('/') else {
            continue;
        };
        let named = super::is_plain(folder) && folder != last && !folder.starts_with('.');
        if !named || found.len() >= APPLICATIONS_MAX {
            continue;
        }
        folder.clone_into(&mut last);
        let inner = Folder {
            tree,
            path: folder.to_owned(),
        };
        // Pages alone in a folder are rather documentation.
        found.extend(program(&inner));
    }
    if found.is_empty() {
        found.extend(site::find(&root));
    }
    found
}

fn program(folder: &Folder<'_>) -> Option<Application> {
    let inside = written(folder);
    docker::find(folder, inside.clone()).or(inside)
}

fn written(folder: &Folder<'_>) -> Option<Application> {
    // Where a tool for pages lies beside a server's language, the server is meant: it serves the pages.
    python::find(folder)
        .or_else(|| ruby::find(folder))
        .or_else(|| php::find(folder))
        .or_else(|| java::find(folder))
        .or_else(|| go::find(folder))
        .or_else(|| rust::find(folder))
        .or_else(|| node::find(folder))
}

/// Words as they are run.
pub(super) fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// A line for a shell, where one is needed.
pub(super) fn shell(line: &str) -> Vec<String> {
    words(&["sh", "-c", line])
}

/// The engines that packages of these names talk to.
pub(super) fn needs<'a>(packages: impl IntoIterator<Item = &'a str>) -> Vec<Need> {
    const KNOWN: [(&str, Need); 41] = [
        ("activerecord-postgresql-adapter", Need::Postgres),
        ("asyncpg", Need::Postgres),
        ("diesel", Need::Postgres),
        ("ext-pdo_pgsql", Need::Postgres),
        ("ext-pgsql", Need::Postgres),
        ("ext-redis", Need::Redis),
        ("github.com/jackc/pgx", Need::Postgres),
        ("github.com/lib/pq", Need::Postgres),
        ("knex-postgres", Need::Postgres),
        ("org.postgresql", Need::Postgres),
        ("pg", Need::Postgres),
        ("pg-promise", Need::Postgres),
        ("postgres", Need::Postgres),
        ("postgresql", Need::Postgres),
        ("psycopg", Need::Postgres),
        ("psycopg2", Need::Postgres),
        ("psycopg2-binary", Need::Postgres),
        ("quarkus-jdbc-postgresql", Need::Postgres),
        ("r2dbc-postgresql", Need::Postgres),
        ("tokio-postgres", Need::Postgres),
        ("@prisma/client", Need::Postgres),
        ("amqplib", Need::RabbitMq),
        ("bunny", Need::RabbitMq),
        ("github.com/rabbitmq/amqp091-go", Need::RabbitMq),
        ("lapin", Need::RabbitMq),
        ("php-amqplib/php-amqplib", Need::RabbitMq),
        ("pika", Need::RabbitMq),
        ("quarkus-messaging-rabbitmq", Need::RabbitMq),
        ("spring-boot-starter-amqp", Need::RabbitMq),
        ("bull", Need::Redis),
        ("bullmq", Need::Redis),
        ("github.com/redis/go-redis", Need::Redis),
        ("ioredis", Need::Redis),
        ("predis/predis", Need::Redis),
        ("quarkus-redis-client", Need::Redis),
        ("redis", Need::Redis),
        ("rq", Need::Redis),
        ("sidekiq", Need::Redis),
        ("spring-boot-starter-data-redis", Need::Redis),
        ("spring-boot-starter-data-redis-reactive", Need::Redis),
        ("django-redis", Need::Redis),
    ];
    let mut found: Vec<Need> = packages
        .into_iter()
        .filter_map(|package| {
            let package = package.trim().to_ascii_lowercase();
            let is =
                |known: &str| package == known || package.strip_prefix(known).is_some_and(|rest| rest.starts_with('/'));
            KNOWN.iter().find(|(known, _)| is(known)).map(|(_, need)| *need)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The port that a program's text names: `listen(3000`, `":8080"`, `0.0.0.0:8000`.
pub(super) fn port_in(text: &str) -> Option<u16> {
    let marks = ["listen(", "ListenAndServe(\":", "0.0.0.0:", "\":", "[::]:"];
    marks.iter().find_map(|mark| {
        text.match_indices(mark).find_map(|(at, _)| {
            let rest = text.get(at + mark.len()..)?;
            let digits: &str = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok().filter(|port| *port >= 80)
        })
    })
}

/// The first whole number of a version such as `^20.1`, `>=3.11,<4` or `v22`.
pub(super) fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The first two numbers of a version, with a dot.
pub(super) fn minor(version: &str) -> Option<String> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (parts.next()?, parts.next()?);
    let plain = |part: &str| (1..=3).contains(&part.len());
    (plain(major) && plain(minor)).then(|| format!("{major}.{minor}"))
}
