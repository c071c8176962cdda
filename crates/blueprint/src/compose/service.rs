//! One service of a Compose file.

use super::{
    Scene, build, depend, environment, files, health,
    keys::{self, says},
    limits, mounts, network, options,
};
use crate::{
    escape::quoted,
    problem::At,
    read, words,
    yaml::{Key, Node, NodeKind},
};
use model::{Build, Feature, HealthCheck, Limits, Mount, NetworkMode, Options, Restart, ServiceName, VolumeName};
use std::collections::{BTreeMap, BTreeSet};

/// How long a service may take to stop unless its file says so, in milliseconds; Compose's own default.
const STOP_GRACE_MS: u64 = 10_000;
/// The most words of a command.
const WORDS_MAX: usize = 1000;

/// What a Compose file says of one service.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) image: Option<(At, String)>,
    pub(crate) build: Option<(At, Option<Build>)>,
    pub(crate) entrypoint: Option<(At, Vec<String>)>,
    pub(crate) command: Option<(At, Vec<String>)>,
    pub(crate) environment: BTreeMap<String, (At, String)>,
    /// Variables that it names and that have no value anywhere.
    pub(crate) unset: BTreeSet<String>,
    /// TCP ports: published ones first, then exposed ones.
    pub(crate) ports: Vec<u16>,
    /// Where it says that ports are published.
    pub(crate) published: Option<At>,
    pub(crate) mounts: Vec<(At, Mount)>,
    /// Volumes that nobody declares: those without a name, and those that stand for folders that are not in the repository.
    pub(crate) made: BTreeSet<VolumeName>,
    /// Services whose mounts it has too, and whether it may only read them.
    pub(crate) volumes_from: Vec<(At, String, bool)>,
    pub(crate) working_dir: Option<(At, String)>,
    pub(crate) depends_on: Vec<depend::Need>,
    pub(crate) health: Option<(At, HealthCheck)>,
    /// Whether that of its image is switched off.
    pub(crate) health_off: bool,
    pub(crate) restart: Option<Restart>,
    pub(crate) restart_limit: Option<u32>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) stop_grace_ms: u64,
    pub(crate) read_only: bool,
    pub(crate) limits: Limits,
    pub(crate) aliases: Vec<String>,
    /// Networks by name, each with further names in it.
    pub(crate) networks: Vec<(At, String, Vec<String>)>,
    /// Whether it is connected to any.
    pub(crate) net: NetworkMode,
    /// Names that it gives to others.
    pub(crate) links: Vec<(At, String, String)>,
    pub(crate) options: Options,
    /// What needs a feature of the runtime.
    pub(crate) wishes: Vec<Wish>,
    /// Where it says that it does not run.
    pub(crate) off: Option<At>,
}

/// Something that not every runtime does.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) at: At,
    pub(crate) feature: Feature,
    /// As it is named in a message: "`init` of service `web`".
    pub(crate) what: String,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            image: None,
            build: None,
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            unset: BTreeSet::new(),
            ports: Vec::new(),
            published: None,
            mounts: Vec::new(),
            made: BTreeSet::new(),
            volumes_from: Vec::new(),
            working_dir: None,
            depends_on: Vec::new(),
            health: None,
            health_off: false,
            restart: None,
            restart_limit: None,
            stop_signal: None,
            stop_grace_ms: STOP_GRACE_MS,
            read_only: false,
            limits: Limits::default(),
            aliases: Vec::new(),
            networks: Vec::new(),
            net: NetworkMode::Networks,
            links: Vec::new(),
            options: Options::default(),
            wishes: Vec::new(),
            off: None,
        }
    }
}

impl Body {
    /// Notes that something needs a feature of the runtime.
    pub(super) fn wish(&mut self, at: At, feature: Feature, what: &str) {
        let what = what.to_owned();
        self.wishes.push(Wish { at, feature, what });
    }
}

pub(super) fn read(scene: &Scene<'_>, name: &ServiceName, node: &Node) -> Option<Body> {
    let mut body = Body::default();
    let of = format!("of service `{name}`");
    for (key, value) in read::map(scene.report, node, &format!("service `{name}`"))? {
        if !harmless(key, value) && keys::admit(scene.report, "services.*", key, &of) {
            field(scene, name, &mut body, key, value);
        }
    }
    // `environment` wins over `env_file`, wherever it stands.
    if let Some(files) = node.get("env_file") {
        for (variable, value) in environment::files(scene, files) {
            if !body.unset.contains(&variable) {
                body.environment.entry(variable).or_insert(value);
            }
        }
    }
    limits::quota(scene, node, &mut body);
    network::alone(scene, name, node, &mut body);
    Some(body)
}

fn field(scene: &Scene<'_>, name: &ServiceName, body: &mut Body, key: &Key, node: &Node) {
    let report = scene.report;
    let what = format!("`{}` of service `{name}`", key.text);
    match key.text.as_str() {
        "image" => body.image = read::text(report, node, &what).map(|text| (node.at, text.to_owned())),
        "build" if matches!(node.kind, NodeKind::Null) => {}
        "build" => {
            let scene = scene.of_files(name);
            let build = scene.is_built(name).then(|| build::read(&scene, name, node)).flatten();
            body.build = Some((key.at, build));
        }
        "command" => body.command = command(scene, node, &what).map(|words| (node.at, words)),
        "entrypoint" => body.entrypoint = command(scene, node, &what).map(|words| (node.at, words)),
        "environment" => (body.environment, body.unset) = environment::read(scene, node, &what),
        "ports" => network::ports(scene, name, key.at, node, body),
        "expose" => network::expose(scene, node, body),
        "networks" => network::networks(scene, name, node, body),
        "network_mode" => network::mode(scene, key, node, &what, body),
        "links" => network::links(scene, node, &what, body),
        "container_name" => body.aliases.extend(network::alias(scene, node, &what)),
        "volumes" => mounts::volumes(&scene.of_files(name), name, node, body),
        "tmpfs" => mounts::tmpfs(scene, node, body),
        "volumes_from" => mounts::from(scene, node, &what, body),
        "secrets" => files::secrets(scene, name, node, body),
        "configs" => files::configs(scene, name, node, body),
        "working_dir" => body.working_dir = working_dir(scene, node, &what),
        "depends_on" => body.depends_on.append(&mut depend::read(scene, node, &what)),
        "healthcheck" => health::read(scene, name, key, node, body),
        "restart" => restart(scene, node, &what, body),
        "stop_signal" => body.stop_signal = signal(scene, node, &what),
        "stop_grace_period" => body.stop_grace_ms = read::duration_ms(report, node, &what).unwrap_or_default(),
        "read_only" => body.read_only = read::flag(report, node, &what).unwrap_or_default(),
        "mem_limit" | "cpus" | "pids_limit" => limits::simple(scene, key, node, &what, &mut body.limits),
        "deploy" => limits::deploy(scene, name, node, body),
        "scale" => limits::replicas(scene, node, &what, body),
        // Read elsewhere.
        "env_file" | "profiles" | "extends" | "cpu_quota" | "cpu_period" => {}
        _ => options::read(scene, key, node, &what, body),
    }
}

/// Values that say what is the case anyway, of keys that are refused otherwise.
fn harmless(key: &Key, node: &Node) -> bool {
    match key.text.as_str() {
        "privileged" | "use_api_socket" => says(node, &["false"]),
        "cap_add"
        | "devices"
        | "device_cgroup_rules"
        | "external_links"
        | "models"
        | "post_start"
        | "pre_start"
        | "pre_stop" => {
            matches!(&node.kind, NodeKind::Null) || matches!(&node.kind, NodeKind::List(items) if items.is_empty())
        }
        "pid" | "uts" | "userns_mode" | "runtime" => says(node, &["", "private", "runc"]),
        _ => false,
    }
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

fn restart(scene: &Scene<'_>, node: &Node, what: &str, body: &mut Body) {
    let Some(text) = read::text(scene.report, node, "`restart`") else {
        return;
    };
    body.restart = match text {
        "no" | "false" | "" => Some(Restart::Never),
        "always" | "unless-stopped" => Some(Restart::Always),
        "on-failure" => Some(Restart::OnFailure),
        other => {
            let times = other
                .strip_prefix("on-failure:")
                .and_then(|times| times.parse::<u32>().ok());
            match times {
                Some(times) => {
                    body.restart_limit = Some(times);
                    body.wish(node.at, Feature::RestartLimit, &format!("the number in {what}"));
                    Some(Restart::OnFailure)
                }
                None => {
                    let hint = crate::suggest::hint(other, &["no", "always", "on-failure", "unless-stopped"]);
                    scene
                        .report
                        .error_hint(node.at, format!("unknown value {} of `restart`", quoted(other)), hint);
                    None
                }
            }
        }
    };
}

fn signal(scene: &Scene<'_>, node: &Node, what: &str) -> Option<String> {
    const KNOWN: [(u8, &str); 29] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (16, "SIGSTKFLT"),
        (17, "SIGCHLD"),
        (18, "SIGCONT"),
        (20, "SIGTSTP"),
        (21, "SIGTTIN"),
        (22, "SIGTTOU"),
        (23, "SIGURG"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (26, "SIGVTALRM"),
        (27, "SIGPROF"),
        (28, "SIGWINCH"),
        (29, "SIGIO"),
        (30, "SIGPWR"),
    ];
    let text = read::text(scene.report, node, what)?;
    let upper = text.to_ascii_uppercase();
    let named = match KNOWN.iter().find(|(number, _)| number.to_string() == upper) {
        Some((_, name)) => (*name).to_owned(),
        None if upper.starts_with("SIG") => upper,
        None => format!("SIG{upper}"),
    };
    if KNOWN.iter().any(|(_, known)| *known == named) {
        return Some(named);
    }
    let hint = crate::suggest::hint(&named, &KNOWN.map(|(_, known)| known));
    scene.report.error_hint(
        node.at,
        format!("{} is no signal that stops a service", quoted(text)),
        hint,
    );
    None
}
