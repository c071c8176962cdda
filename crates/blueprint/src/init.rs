//! Writes a first `maquette.yaml` from what a repository holds, and a Compose file where it has none.

mod detect;
mod docker;
mod go;
mod java;
mod node;
mod php;
mod python;
mod ruby;
mod rust;
mod site;
mod write;

use crate::{
    compose::DEFAULT_FILES,
    engine,
    problem::Whose,
    settings::{FILE, Policy},
    tree::{self, PATHS_MAX, Tree},
    units,
    yaml::{self, Node, NodeKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Folders in which migrations are looked for.
const MIGRATION_FOLDERS: [&str; 4] = ["migrations", "migration", "migrate", "sql"];
/// Where a program in Java looks for migrations that it runs itself when it starts. Run before that, they fail it.
const OWN_MIGRATIONS: &str = "src/main/resources/db/";

/// A file that `init` would write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its path in the repository.
    pub path: &'static str,
    /// Its text.
    pub text: String,
    /// What was found that it is for, in words; nothing for the settings.
    pub found: Vec<String>,
}

/// A commented `maquette.yaml` for the repository, and before it a Compose file if there is none and it is clear what there is to
/// run. Guesses that might be wrong are written as comments. Nothing is written anywhere: that is for the caller.
#[must_use]
pub fn init(tree: &dyn Tree) -> Vec<Written> {
    let there = DEFAULT_FILES.iter().find(|path| tree.kind(path).is_some()).copied();
    let applications = match there {
        Some(_) => Vec::new(),
        None => detect::applications(tree),
    };
    let settings = Written {
        path: FILE,
        text: settings(tree, there, &applications),
        found: Vec::new(),
    };
    if applications.is_empty() {
        return vec![settings];
    }
    let described = |application: &detect::Application| format!("{} ({})", application.name, application.what);
    let compose = Written {
        path: DEFAULT_FILES[0],
        text: write::compose(&applications),
        found: applications.iter().map(described).collect(),
    };
    vec![compose, settings]
}

fn settings(tree: &dyn Tree, there: Option<&str>, applications: &[detect::Application]) -> String {
    let mut out = format!(
        "# {FILE}: what a Compose file can't say about the environments of this repository.\n\
         # `maquette check` explains every value, `maquette plan` shows what would be made.\n\nstack:\n"
    );
    let mut packages = write::packages(applications);
    match there {
        None if !applications.is_empty() => {
            line(&mut out, &format!("  compose: {}", DEFAULT_FILES[0]));
            write::stack(&mut out, tree, applications);
        }
        Some(path) => {
            line(&mut out, &format!("  compose: {path}"));
            let (report, opened) = tree::open(tree, Whose::Head, path);
            match if opened { yaml::load(&report) } else { None } {
                Some(root) => {
                    packages.extend(docker::of_compose(tree, &root));
                    stack(&mut out, tree, &root);
                }
                None => line(
                    &mut out,
                    "  # The Compose file could not be read: `maquette check` says why.",
                ),
            }
        }
        None => {
            line(
                &mut out,
                "  # There is no Compose file yet. Name it here if it has another name than compose.yaml.",
            );
            line(&mut out, "  # compose: compose.yaml");
        }
    }
    policy(&mut out, &packages);
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

/// A name as a YAML key; names with other characters are left to the author.
fn is_plain(name: &str) -> bool {
    name.parse::<model::ServiceName>().is_ok() && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn stack(out: &mut String, tree: &dyn Tree, root: &Node) {
    let Some(NodeKind::Map(services)) = root.get("services").map(|node| &node.kind) else {
        return;
    };
    let engine = |node: &Node| match node.get("image").map(|image| &image.kind) {
        Some(NodeKind::Scalar { text, .. }) => engine::recognise(text),
        _ => None,
    };
    let (engines, own): (Vec<_>, Vec<_>) = services
        .iter()
        .filter(|(key, _)| is_plain(&key.text))
        .partition(|(_, node)| engine(node).is_some());
    let published = |node: &Node| matches!(node.get("ports").map(|ports| &ports.kind), Some(NodeKind::List(ports)) if !ports.is_empty());
    let public = own
        .iter()
        .find(|(key, node)| key.text == "web" && published(node))
        .or_else(|| own.iter().find(|(_, node)| published(node)));
    if !own.is_empty() {
        line(out, "  services:");
        line(
            out,
            "    # host: run from the packages of the host instead of the image, with the `command` of the Compose file.",
        );
        line(out, "    # public: people can visit it, at its first port.");
    }
    for (key, node) in &own {
        let is_public = public.is_some_and(|(public, _)| public.text == key.text);
        let mounts_checkout = matches!(node.get("volumes").map(|v| &v.kind), Some(NodeKind::List(items)) if items.iter().any(|item| {
            matches!(&item.kind, NodeKind::Scalar { text, .. } if text.starts_with('.'))
        }));
        // An image with nothing else holds a program that the host does not have.
        let host = mounts_checkout
            && node.get("build").is_none()
            && (node.get("command").is_some() || node.get("entrypoint").is_some());
        line(
            out,
            &match (host, is_public) {
                (true, true) => format!("    {}: {{ host: true, public: true }}", key.text),
                (true, false) => format!("    {}: {{ host: true }}", key.text),
                (false, true) => format!("    {}: {{ public: true }} # host: true", key.text),
                (false, false) => format!("    # {}: {{ host: true }}", key.text),
            },
        );
    }
    if !engines.is_empty() {
        line(out, "  data:");
        line(
            out,
            "    # versions: the majors that the stack works with, for example \"15-17\".",
        );
    }
    let sql = Sql::find(tree);
    for (key, node) in engines {
        let Some((known, range)) = engine(node) else { continue };
        line(out, &format!("    {}:", key.text));
        match range {
            engine::ANY => line(out, "      versions: \"0-9999\" # The image names none: any will do."),
            range => line(out, &format!("      versions: \"{}\"", engine::show(range))),
        }
        if known.kind == "postgres" {
            sql.write(out);
        }
    }
    line(out, "  # jobs:");
    line(
        out,
        "  #   warm: { service: web, run: [program, argument], on: create, timeout: 5m }",
    );
}

/// SQL files that look like migrations and seeds.
#[derive(Default)]
struct Sql {
    migrations: Option<String>,
    seeds: Vec<String>,
}

impl Sql {
    fn find(tree: &dyn Tree) -> Self {
        let mut paths = tree.list();
        paths.truncate(PATHS_MAX);
        // What a repository holds is foreign text; only what needs no quoting in YAML is written.
        let plain = |path: &str| {
            path.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'))
        };
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let files: Vec<&String> = paths
            .iter()
            .filter(|path| path.ends_with(".sql") && plain(path))
            .collect();
        let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in &files {
            let folder = tree::parent(path);
            let own = path.starts_with(OWN_MIGRATIONS) || path.contains(&format!("/{OWN_MIGRATIONS}"));
            let of_migrations = folder.split('/').any(|part| MIGRATION_FOLDERS.contains(&part));
            if of_migrations && !own && !name(path).contains("seed") {
                folders.entry(folder).or_default().push(path);
            }
        }
        let migrations = folders
            .iter()
            .max_by_key(|(_, files)| files.len())
            .map(|(folder, files)| {
                let up = files.iter().any(|file| file.ends_with(".up.sql"));
                format!("{folder}/*{}.sql", if up { ".up" } else { "" })
            });
        let seeds = files
            .iter()
            .filter(|path| name(path).contains("seed"))
            .take(5)
            .map(|path| (*path).clone())
            .collect();
        Self { migrations, seeds }
    }

    fn write(&self, out: &mut String) {
        match &self.migrations {
            Some(pattern) => line(out, &format!("      migrations: {pattern}")),
            None => line(out, "      # migrations: db/migrations/*.sql"),
        }
        match &self.seeds[..] {
            [] => line(out, "      # seed: [db/seed.sql]"),
            seeds => line(out, &format!("      seed: [{}]", seeds.join(", "))),
        }
    }
}

fn policy(out: &mut String, packages: &BTreeSet<&str>) {
    let policy = Policy::default();
    let limits = policy.limits;
    line(
        out,
        "\n# Read from the project's policy branch only. These are the defaults.",
    );
    line(out, "policy:");
    line(out, "  triggers: { pull_requests: true, drafts: true }");
    line(out, &format!("  baseline: {}", policy.baseline.word()));
    line(
        out,
        &format!(
            "  limits: {{ memory: {}, cpus: {}, disk: {}, pids: {} }}",
            units::show_bytes(limits.memory_bytes.unwrap_or_default()),
            units::show_millis(limits.cpu_millis.unwrap_or_default()),
            units::show_bytes(limits.disk_bytes.unwrap_or_default()),
            limits.pids.unwrap_or_default(),
        ),
    );
    if !packages.is_empty() {
        let words: Vec<&str> = packages.iter().copied().collect();
        line(
            out,
            "  # Where builds fetch packages: presets of the server, or names such as `packages.example.com`.",
        );
        line(out, &format!("  egress: [{}]", words.join(", ")));
    }
}
