//! One service of a Compose file.

use super::{
    Scene, environment, health,
    keys::{self, Fate},
    limits, mounts, network,
};
use crate::{
    escape::quoted,
    problem::At,
    read, words,
    yaml::{Key, Node, NodeKind},
};
use model::{Condition, HealthCheck, Limits, Mount, Restart, ServiceName};
use std::collections::BTreeMap;

/// How long a service may take to stop unless its file says so, in milliseconds; Compose's own default.
const STOP_GRACE_MS: u64 = 10_000;
/// The most words of a command.
const WORDS_MAX: usize = 1000;

/// What a Compose file says of one service.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) image: Option<(At, String)>,
    pub(crate) build: Option<At>,
    pub(crate) entrypoint: Option<(At, Vec<String>)>,
    pub(crate) command: Option<(At, Vec<String>)>,
    pub(crate) environment: BTreeMap<String, (At, String)>,
    /// TCP ports: published ones first, then exposed ones.
    pub(crate) ports: Vec<u16>,
    /// Where it says that ports are published.
    pub(crate) published: Option<At>,
    pub(crate) mounts: Vec<(At, Mount)>,
    pub(crate) working_dir: Option<(At, String)>,
    pub(crate) depends_on: Vec<Need>,
    pub(crate) health: Option<(At, HealthCheck)>,
    pub(crate) restart: Restart,
    pub(crate) stop_signal: String,
    pub(crate) stop_grace_ms: u64,
    pub(crate) read_only: bool,
    pub(crate) limits: Limits,
    pub(crate) aliases: Vec<String>,
}

/// A service that another one needs.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) at: At,
    pub(crate) name: String,
    pub(crate) condition: Condition,
    /// Whether its absence is an error.
    pub(crate) required: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            image: None,
            build: None,
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            ports: Vec::new(),
            published: None,
            mounts: Vec::new(),
            working_dir: None,
            depends_on: Vec::new(),
            health: None,
            restart: Restart::Never,
            stop_signal: "SIGTERM".to_owned(),
            stop_grace_ms: STOP_GRACE_MS,
            read_only: false,
            limits: Limits::default(),
            aliases: Vec::new(),
        }
    }
}

pub(super) fn read(scene: &Scene<'_>, name: &ServiceName, node: &Node) -> Option<Body> {
    let mut body = Body::default();
    for (key, value) in read::map(scene.report, node, &format!("service `{name}`"))? {
        field(scene, name, &mut body, key, value);
    }
    // `environment` wins over `env_file`, wherever it stands.
    if let Some(files) = node.get("env_file") {
        for (variable, value) in environment::files(scene, files) {
            body.environment.entry(variable).or_insert(value);
        }
    }
    Some(body)
}

fn field(scene: &Scene<'_>, name: &ServiceName, body: &mut Body, key: &Key, node: &Node) {
    let report = scene.report;
    let what = format!("`{}` of service `{name}`", key.text);
    match key.text.as_str() {
        "image" => body.image = read::text(report, node, &what).map(|text| (node.at, text.to_owned())),
        "build" => body.build = Some(key.at),
        "command" => body.command = command(scene, node, &what).map(|words| (node.at, words)),
        "entrypoint" => body.entrypoint = command(scene, node, &what).map(|words| (node.at, words)),
        "environment" => body.environment = environment::read(scene, node, &what),
        "env_file" | "profiles" => {}
        "ports" => network::ports(scene, name, key.at, node, body),
        "expose" => network::expose(scene, node, body),
        "networks" => network::networks(scene, name, node, body),
        "volumes" => mounts::volumes(scene, name, node, body),
        "tmpfs" => mounts::tmpfs(scene, node, body),
        "working_dir" => body.working_dir = working_dir(scene, node, &what),
        "depends_on" => body.depends_on = depends_on(scene, node, &what),
        "healthcheck" => body.health = health::read(scene, name, node).map(|health| (key.at, health)),
        "restart" => body.restart = restart(scene, node).unwrap_or(Restart::Never),
        "stop_signal" => body.stop_signal = signal(scene, node, &what).unwrap_or_default(),
        "stop_grace_period" => body.stop_grace_ms = read::duration_ms(report, node, &what).unwrap_or_default(),
        "read_only" => body.read_only = read::flag(report, node, &what).unwrap_or_default(),
        "mem_limit" | "cpus" | "pids_limit" => limits::simple(scene, key, node, &what, &mut body.limits),
        "deploy" => limits::deploy(scene, name, node, &mut body.limits),
        "scale" | "init" | "privileged" if harmless(node) => {}
        other => match keys::service(other) {
            Some(Fate::Refused(hint)) => report.error_hint(key.at, format!("{what} is not supported"), hint),
            Some(Fate::Ignored(why)) => report.warn(key.at, format!("{what} has no effect: {why}")),
            None => read::unknown_key(report, key, &format!("in service `{name}`"), &keys::SERVICE_KEYS),
        },
    }
}

/// `scale: 1`, `init: false` and `privileged: false` say what is the case anyway.
fn harmless(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, .. } if text == "1" || text == "false")
}

/// A command: a list of words as they are, or one text that is split. Nothing resets what the image says.
pub(super) fn command(scene: &Scene<'_>, node: &Node, what: &str) -> Option<Vec<String>> {
    let words = match &node.kind {
        NodeKind::Null => return None,
        NodeKind::Scalar { text, .. } => match words::split(text) {
            Ok(words) => words,
            Err(error) => {
                let hint = "write the words as a list; what needs a shell is `[sh, -c, \"…\"]`";
                scene
                    .report
                    .error_hint(node.at, format!("{what} can not be split into words: {error}"), hint);
                return None;
            }
        },
        _ => read::texts(scene.report, node, what, false)?
            .into_iter()
            .map(|(_, text)| text)
            .collect(),
    };
    if words.len() > WORDS_MAX {
        scene
            .report
            .error(node.at, format!("{what} has more than {WORDS_MAX} words"));
        return None;
    }
    Some(words)
}

fn working_dir(scene: &Scene<'_>, node: &Node, what: &str) -> Option<(At, String)> {
    let text = read::text(scene.report, node, what)?;
    match mounts::target(text) {
        Some(path) => Some((node.at, path)),
        None => {
            scene.report.error(
                node.at,
                format!("{what} must be an absolute path, and this is {}", quoted(text)),
            );
            None
        }
    }
}

fn depends_on(scene: &Scene<'_>, node: &Node, what: &str) -> Vec<Need> {
    let report = scene.report;
    if let NodeKind::List(_) = node.kind {
        let names = read::texts(report, node, what, false).unwrap_or_default();
        return names
            .into_iter()
            .map(|(at, name)| Need {
                at,
                name,
                condition: Condition::Started,
                required: true,
            })
            .collect();
    }
    let mut needs = Vec::new();
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        let place = format!("in {what}");
        let (mut condition, mut required) = (Condition::Started, true);
        for (option, value) in read::map(report, value, &format!("{} in {what}", quoted(&key.text))).unwrap_or_default()
        {
            match option.text.as_str() {
                "condition" => condition = self::condition(scene, value).unwrap_or(Condition::Started),
                "required" => required = read::flag(report, value, "`required`").unwrap_or(true),
                "restart" => report.warn(option.at, format!("`restart` {place} has no effect")),
                _ => read::unknown_key(report, option, &place, &["condition", "required", "restart"]),
            }
        }
        needs.push(Need {
            at: key.at,
            name: key.text.clone(),
            condition,
            required,
        });
    }
    needs
}

fn condition(scene: &Scene<'_>, node: &Node) -> Option<Condition> {
    let known = ["service_started", "service_healthy", "service_completed_successfully"];
    match read::text(scene.report, node, "`condition`")? {
        "service_started" => Some(Condition::Started),
        "service_healthy" => Some(Condition::Healthy),
        "service_completed_successfully" => Some(Condition::Completed),
        other => {
            let hint = crate::suggest::hint(other, &known);
            scene
                .report
                .error_hint(node.at, format!("unknown condition {}", quoted(other)), hint);
            None
        }
    }
}

fn restart(scene: &Scene<'_>, node: &Node) -> Option<Restart> {
    let text = read::text(scene.report, node, "`restart`")?;
    match text {
        "no" | "false" => Some(Restart::Never),
        "always" | "unless-stopped" => Some(Restart::Always),
        "on-failure" => Some(Restart::OnFailure),
        other
            if other
                .strip_prefix("on-failure:")
                .is_some_and(|n| n.parse::<u32>().is_ok()) =>
        {
            scene.report.warn(
                node.at,
                "the number in `restart` has no effect: restarts are bounded by a growing pause",
            );
            Some(Restart::OnFailure)
        }
        other => {
            let hint = crate::suggest::hint(other, &["no", "always", "on-failure", "unless-stopped"]);
            scene
                .report
                .error_hint(node.at, format!("unknown value {} of `restart`", quoted(other)), hint);
            None
        }
    }
}

fn signal(scene: &Scene<'_>, node: &Node, what: &str) -> Option<String> {
    const KNOWN: [&str; 9] = [
        "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGWINCH", "SIGABRT",
    ];
    let text = read::text(scene.report, node, what)?;
    let upper = text.to_ascii_uppercase();
    let named = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    if KNOWN.contains(&named.as_str()) {
        return Some(named);
    }
    let hint = crate::suggest::hint(&named, &KNOWN);
    scene.report.error_hint(
        node.at,
        format!("{} is no signal that stops a service", quoted(text)),
        hint,
    );
    None
}
