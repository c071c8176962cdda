//! The keys of the Compose Specification, each with what becomes of it. The reader asks here, and the reference in the
//! documentation is made from here.

use crate::{
    escape::quoted,
    problem::Report,
    suggest,
    yaml::{Key, Node, NodeKind},
};
use Fate::{AsParent, Honoured, Ignored, Refused, Wish};
use model::Feature;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does what it says.
    Honoured,
    /// It does where the runtime has the feature.
    Wish(Feature),
    /// The stack would not be what its authors meant. The text says what to do instead.
    Refused,
    /// Nothing is lost without it. The text says why.
    Ignored,
    /// Its parent is refused or ignored as a whole.
    AsParent,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it stands: `*` is a name that the author chooses, `[]` an item of a list.
    pub(crate) path: &'static str,
    pub(crate) fate: Fate,
    pub(crate) text: &'static str,
}

const POLICY: &str =
    "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it";

const fn entry(path: &'static str, fate: Fate, text: &'static str) -> Entry {
    Entry { path, fate, text }
}

/// What a runtime without the feature does, and whether that is refused.
pub(crate) fn lack(feature: Feature) -> (bool, &'static str) {
    match feature {
        Feature::Builds => (true, "the runtime builds no images"),
        Feature::Content => (true, "the runtime mounts no files but those of the checkout"),
        Feature::VolumePaths => (true, "the runtime mounts whole volumes: mount it without `subpath`"),
        Feature::Networks => (false, "all services of the environment share one network"),
        Feature::Users => (false, "the runtime chooses the user that a service runs as"),
        Feature::Init => (false, "the program is the first process of its container"),
        Feature::Hostname => (false, "a service is called by its own name"),
        Feature::Hosts => (false, "names are answered by the environment's own name server"),
        Feature::Ulimits => (false, "the runtime's own bounds apply"),
        Feature::Sysctls => (false, "the settings of the machine apply"),
        Feature::DropCapabilities => (false, "services have no capabilities beyond the runtime's default"),
        Feature::SharedMemory => (false, "shared memory is bounded by the memory limit"),
        Feature::Terminal => (false, "no terminal is attached"),
        Feature::RestartLimit => (false, "restarts are bounded by a growing pause"),
        Feature::StartInterval => (false, "until it is ready, a service is probed often"),
    }
}

/// What becomes of a key of a section, such as `services.*`; `None` if the specification does not know it.
pub(crate) fn find(section: &str, key: &str) -> Option<&'static Entry> {
    KEYS.iter().find(|entry| parts(entry.path) == (section, key))
}

/// The section and the last part of a path.
pub(crate) fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The keys of a section.
pub(crate) fn of(section: &str) -> Vec<&'static str> {
    KEYS.iter()
        .map(|entry| parts(entry.path))
        .filter(|(of, _)| *of == section)
        .map(|(_, key)| key)
        .collect()
}

/// Those of them that have an effect.
fn honoured(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter(move |entry| parts(entry.path).0 == section && matches!(entry.fate, Honoured | Wish(_)))
        .map(|entry| parts(entry.path).1)
}

/// Whether a key is to be read. If not, that is told: `of` continues "`key` …", as in "of service `web`".
pub(crate) fn admit(report: &Report, section: &str, key: &Key, of: &str) -> bool {
    if key.text.starts_with("x-") {
        return false;
    }
    let Some(entry) = find(section, &key.text) else {
        let place = match of.strip_prefix("of ") {
            Some(place) => format!("in {place}"),
            None => of.to_owned(),
        };
        let known = self::of(section);
        let hint = match suggest::nearest(&key.text, known) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => format!("known here: {}", suggest::listed(honoured(section))),
        };
        if !report.is_full() {
            report.error_hint(key.at, format!("unknown key {} {place}", quoted(&key.text)), hint);
        }
        return false;
    };
    match entry.fate {
        Honoured | Wish(_) => true,
        Refused => {
            report.error_hint(key.at, format!("`{}` {of} is not supported", key.text), entry.text);
            false
        }
        Ignored | AsParent => {
            report.warn(key.at, format!("`{}` {of} has no effect: {}", key.text, entry.text));
            false
        }
    }
}

/// Whether a value says what is the case anyway.
pub(crate) fn says(node: &Node, wanted: &[&str]) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, .. } if wanted.contains(&text.as_str()))
        || matches!(node.kind, NodeKind::Null)
}

/// Every key, by section.
pub(crate) static KEYS: [Entry; 351] = [
    entry(
        "name",
        Honoured,
        "`${COMPOSE_PROJECT_NAME}` is that name. Environments are named by Maquette.",
    ),
    entry("version", Ignored, "Compose has no versions any more"),
    entry(
        "include",
        Honoured,
        "Files of the repository, with their own folder and values. What the including file says wins.",
    ),
    entry("services", Honoured, "At most 100."),
    entry(
        "networks",
        Honoured,
        "Services find each other in the networks that they share.",
    ),
    entry("volumes", Honoured, "Each environment has volumes of its own."),
    entry("secrets", Honoured, "Given as files to the services that name them."),
    entry("configs", Honoured, "Given as files to the services that name them."),
    entry(
        "models",
        Refused,
        "models are not run: name a service that answers instead",
    ),
    entry(
        "include[].path",
        Honoured,
        "One file, or several that are put together.",
    ),
    entry(
        "include[].project_directory",
        Honoured,
        "Where its relative paths start; the folder of its file otherwise.",
    ),
    entry(
        "include[].env_file",
        Honoured,
        "Values for its interpolation; `.env` in its folder otherwise. Values of the including application win.",
    ),
    entry(
        "services.*.annotations",
        Ignored,
        "no program that reads annotations runs beside it",
    ),
    entry("services.*.attach", Ignored, "logs are read with `maquette logs`"),
    entry(
        "services.*.blkio_config",
        Ignored,
        "the environment has a share of the disk as a whole",
    ),
    entry(
        "services.*.build",
        Wish(Feature::Builds),
        "Built from the checkout, where the runtime builds images.",
    ),
    entry("services.*.cap_add", Refused, POLICY),
    entry(
        "services.*.cap_drop",
        Wish(Feature::DropCapabilities),
        "Services have none beyond the runtime's default.",
    ),
    entry("services.*.cgroup", Honoured, "Only `private`, which is so anyway."),
    entry("services.*.cgroup_parent", Refused, POLICY),
    entry(
        "services.*.command",
        Honoured,
        "A list of words, or a text that is split; no shell is involved.",
    ),
    entry("services.*.configs", Honoured, "Short and long form."),
    entry(
        "services.*.container_name",
        Honoured,
        "A further name under which other services find it.",
    ),
    entry("services.*.cpu_count", Ignored, "`cpus` bounds a service"),
    entry("services.*.cpu_percent", Ignored, "`cpus` bounds a service"),
    entry("services.*.cpu_period", Honoured, "Together with `cpu_quota`."),
    entry(
        "services.*.cpu_quota",
        Honoured,
        "As `cpus`: the quota divided by the period (100 ms unless `cpu_period` says otherwise).",
    ),
    entry("services.*.cpu_rt_period", Ignored, "no service has real-time priority"),
    entry(
        "services.*.cpu_rt_runtime",
        Ignored,
        "no service has real-time priority",
    ),
    entry(
        "services.*.cpu_shares",
        Ignored,
        "nothing is reserved; limits bound a service",
    ),
    entry("services.*.cpus", Honoured, "An upper bound."),
    entry(
        "services.*.cpuset",
        Ignored,
        "the machine decides which CPUs an environment runs on",
    ),
    entry(
        "services.*.credential_spec",
        Refused,
        "it is for Windows containers: remove it",
    ),
    entry("services.*.depends_on", Honoured, "Short and long form."),
    entry("services.*.deploy", Honoured, "Its limits and its restart policy."),
    entry("services.*.develop", Ignored, "a push brings new files"),
    entry("services.*.device_cgroup_rules", Refused, POLICY),
    entry("services.*.devices", Refused, POLICY),
    entry(
        "services.*.dns",
        Ignored,
        "names are answered by the environment's own name server",
    ),
    entry(
        "services.*.dns_opt",
        Ignored,
        "names are answered by the environment's own name server",
    ),
    entry(
        "services.*.dns_search",
        Ignored,
        "names are answered by the environment's own name server",
    ),
    entry("services.*.domainname", Ignored, "a service is found by its own name"),
    entry("services.*.entrypoint", Honoured, "As `command`."),
    entry(
        "services.*.env_file",
        Honoured,
        "Files of the repository; `environment` wins over them, a later file over an earlier one.",
    ),
    entry(
        "services.*.environment",
        Honoured,
        "A name without a value takes the documented value of that name, or is left out.",
    ),
    entry(
        "services.*.expose",
        Honoured,
        "TCP ports; the first one is probed where there is no health check.",
    ),
    entry(
        "services.*.extends",
        Honoured,
        "Of the same file or of another one of the repository.",
    ),
    entry(
        "services.*.external_links",
        Refused,
        "what runs outside of the environment is reached through the door, if the policy allows it: remove it",
    ),
    entry(
        "services.*.extra_hosts",
        Wish(Feature::Hosts),
        "Lines of `/etc/hosts`. `host-gateway` is refused: the machine is not reached from an environment.",
    ),
    entry("services.*.gpus", Refused, "no runtime offers GPUs yet: remove it"),
    entry("services.*.group_add", Wish(Feature::Users), ""),
    entry("services.*.healthcheck", Honoured, "Tells when the service is ready."),
    entry("services.*.hostname", Wish(Feature::Hostname), ""),
    entry(
        "services.*.image",
        Honoured,
        "Official images of PostgreSQL, Redis and RabbitMQ run as engines of the runtime.",
    ),
    entry("services.*.init", Wish(Feature::Init), ""),
    entry(
        "services.*.ipc",
        Honoured,
        "Only `private` and `shareable`; others are refused.",
    ),
    entry(
        "services.*.isolation",
        Ignored,
        "the runtime decides how services are isolated",
    ),
    entry(
        "services.*.label_file",
        Ignored,
        "no program that reads labels runs beside it",
    ),
    entry(
        "services.*.labels",
        Ignored,
        "no program that reads labels runs beside it",
    ),
    entry(
        "services.*.links",
        Honoured,
        "A dependency; the name after the colon is one under which all services find the other one.",
    ),
    entry(
        "services.*.logging",
        Ignored,
        "logs are kept by Maquette, within bounds",
    ),
    entry("services.*.mac_address", Ignored, "the runtime gives addresses"),
    entry("services.*.mem_limit", Honoured, "An upper bound."),
    entry(
        "services.*.mem_reservation",
        Ignored,
        "nothing is reserved; limits bound a service",
    ),
    entry("services.*.mem_swappiness", Ignored, "limits bound a service"),
    entry("services.*.memswap_limit", Ignored, "limits bound a service"),
    entry(
        "services.*.models",
        Refused,
        "models are not run: name a service that answers instead",
    ),
    entry(
        "services.*.network_mode",
        Honoured,
        "Only `bridge`; `host`, `none`, `service:` and `container:` are refused.",
    ),
    entry("services.*.networks", Honoured, "Names and aliases."),
    entry(
        "services.*.oom_kill_disable",
        Ignored,
        "a service beyond its memory is ended",
    ),
    entry(
        "services.*.oom_score_adj",
        Ignored,
        "a service beyond its memory is ended",
    ),
    entry("services.*.pid", Refused, POLICY),
    entry("services.*.pids_limit", Honoured, "An upper bound."),
    entry(
        "services.*.platform",
        Honoured,
        "The platform that its image is wanted for.",
    ),
    entry(
        "services.*.ports",
        Honoured,
        "The ports in the container: people reach them through the gateway. The host's side has no effect.",
    ),
    entry(
        "services.*.post_start",
        Refused,
        "say it as a job under `stack.jobs` of maquette.yaml",
    ),
    entry(
        "services.*.pre_start",
        Refused,
        "say it as a job under `stack.jobs` of maquette.yaml",
    ),
    entry(
        "services.*.pre_stop",
        Refused,
        "say it as a job under `stack.jobs` of maquette.yaml",
    ),
    entry("services.*.privileged", Refused, POLICY),
    entry(
        "services.*.profiles",
        Honoured,
        "A service of a profile runs if `stack.profiles` of maquette.yaml, or `COMPOSE_PROFILES` in `.env`, names one of its profiles.",
    ),
    entry(
        "services.*.provider",
        Refused,
        "programs of the host are not run: remove it",
    ),
    entry(
        "services.*.pull_policy",
        Honoured,
        "`always`, `missing`, `if_not_present`, `never`; others have no effect.",
    ),
    entry(
        "services.*.pull_refresh_after",
        Ignored,
        "a tag is looked up when a generation is made",
    ),
    entry("services.*.read_only", Honoured, ""),
    entry("services.*.restart", Honoured, "Pauses between restarts grow."),
    entry(
        "services.*.runtime",
        Refused,
        "the runtime is chosen by whoever runs Maquette: remove it",
    ),
    entry("services.*.scale", Honoured, "0 leaves it out; more than 1 runs once."),
    entry(
        "services.*.secrets",
        Honoured,
        "Short and long form; files below `/run/secrets` unless the target is absolute.",
    ),
    entry(
        "services.*.security_opt",
        Honoured,
        "`no-new-privileges` is so anyway, `label` has no effect, others are refused.",
    ),
    entry("services.*.shm_size", Wish(Feature::SharedMemory), ""),
    entry("services.*.stdin_open", Wish(Feature::Terminal), ""),
    entry("services.*.stop_grace_period", Honoured, ""),
    entry("services.*.stop_signal", Honoured, ""),
    entry("services.*.storage_opt", Ignored, "limits bound a service"),
    entry("services.*.sysctls", Wish(Feature::Sysctls), ""),
    entry("services.*.tmpfs", Honoured, "Its size; other options have no effect."),
    entry("services.*.tty", Wish(Feature::Terminal), ""),
    entry("services.*.ulimits", Wish(Feature::Ulimits), ""),
    entry("services.*.umask", Ignored, "a program sets it itself"),
    entry("services.*.use_api_socket", Refused, POLICY),
    entry("services.*.user", Wish(Feature::Users), ""),
    entry("services.*.userns_mode", Refused, POLICY),
    entry("services.*.uts", Refused, POLICY),
    entry(
        "services.*.volumes",
        Honoured,
        "Volumes of the environment, files of the checkout, memory; short and long form.",
    ),
    entry(
        "services.*.volumes_from",
        Refused,
        "name the volume under `volumes` of both services",
    ),
    entry("services.*.working_dir", Honoured, "An absolute path."),
    entry("services.*.blkio_config.device_read_bps", AsParent, ""),
    entry("services.*.blkio_config.device_read_iops", AsParent, ""),
    entry("services.*.blkio_config.device_write_bps", AsParent, ""),
    entry("services.*.blkio_config.device_write_iops", AsParent, ""),
    entry("services.*.blkio_config.weight", AsParent, ""),
    entry("services.*.blkio_config.weight_device", AsParent, ""),
    entry(
        "services.*.build.context",
        Honoured,
        "A folder of the repository; addresses are refused.",
    ),
    entry("services.*.build.dockerfile", Honoured, "From the context."),
    entry("services.*.build.dockerfile_inline", Honoured, ""),
    entry("services.*.build.entitlements", Refused, POLICY),
    entry(
        "services.*.build.args",
        Honoured,
        "A name without a value takes the documented value of that name. Secrets are refused: arguments stay in layers.",
    ),
    entry(
        "services.*.build.ssh",
        Refused,
        "a build has no keys of anyone: remove it",
    ),
    entry("services.*.build.labels", Honoured, ""),
    entry(
        "services.*.build.cache_from",
        Ignored,
        "builds have a cache per project",
    ),
    entry("services.*.build.cache_to", Ignored, "builds have a cache per project"),
    entry("services.*.build.no_cache", Honoured, ""),
    entry(
        "services.*.build.additional_contexts",
        Honoured,
        "Folders of the repository, images (`docker-image://`) and other services (`service:`).",
    ),
    entry(
        "services.*.build.network",
        Ignored,
        "a build reaches what the policy allows",
    ),
    entry("services.*.build.provenance", Ignored, "images stay in the environment"),
    entry("services.*.build.sbom", Ignored, "images stay in the environment"),
    entry(
        "services.*.build.pull",
        Ignored,
        "a tag is looked up when a generation is made",
    ),
    entry("services.*.build.target", Honoured, ""),
    entry("services.*.build.shm_size", Ignored, "the policy bounds builds"),
    entry(
        "services.*.build.extra_hosts",
        Ignored,
        "a build reaches what the policy allows",
    ),
    entry(
        "services.*.build.isolation",
        Ignored,
        "the runtime decides how builds are isolated",
    ),
    entry("services.*.build.privileged", Refused, POLICY),
    entry(
        "services.*.build.secrets",
        Honoured,
        "Short form and `source`, `target`.",
    ),
    entry("services.*.build.tags", Honoured, ""),
    entry("services.*.build.ulimits", Ignored, "the policy bounds builds"),
    entry(
        "services.*.build.platforms",
        Ignored,
        "images are built for the runtime's own platform",
    ),
    entry("services.*.build.secrets[].source", Honoured, ""),
    entry("services.*.build.secrets[].target", Honoured, ""),
    entry(
        "services.*.build.secrets[].uid",
        Ignored,
        "a secret of a build is readable while it is built",
    ),
    entry(
        "services.*.build.secrets[].gid",
        Ignored,
        "a secret of a build is readable while it is built",
    ),
    entry(
        "services.*.build.secrets[].mode",
        Ignored,
        "a secret of a build is readable while it is built",
    ),
    entry("services.*.build.ulimits.*.soft", AsParent, ""),
    entry("services.*.build.ulimits.*.hard", AsParent, ""),
    entry("services.*.credential_spec.config", AsParent, ""),
    entry("services.*.credential_spec.file", AsParent, ""),
    entry("services.*.credential_spec.registry", AsParent, ""),
    entry(
        "services.*.depends_on.*.condition",
        Honoured,
        "`service_started`, `service_healthy`, `service_completed_successfully`.",
    ),
    entry("services.*.depends_on.*.required", Honoured, ""),
    entry(
        "services.*.depends_on.*.restart",
        Honoured,
        "The service is started again when the other one changes.",
    ),
    entry("services.*.deploy.mode", Ignored, "every service runs once"),
    entry(
        "services.*.deploy.endpoint_mode",
        Ignored,
        "a service is found by its own name",
    ),
    entry(
        "services.*.deploy.replicas",
        Honoured,
        "0 leaves it out; more than 1 runs once.",
    ),
    entry(
        "services.*.deploy.labels",
        Ignored,
        "no program that reads labels runs beside it",
    ),
    entry(
        "services.*.deploy.rollback_config",
        Ignored,
        "a generation that fails is followed by the one that was live",
    ),
    entry(
        "services.*.deploy.update_config",
        Ignored,
        "a service is replaced when its description changes",
    ),
    entry("services.*.deploy.resources", Honoured, ""),
    entry(
        "services.*.deploy.restart_policy",
        Honoured,
        "Unless `restart` says otherwise.",
    ),
    entry(
        "services.*.deploy.placement",
        Ignored,
        "an environment runs on one machine",
    ),
    entry("services.*.deploy.rollback_config.parallelism", AsParent, ""),
    entry("services.*.deploy.rollback_config.delay", AsParent, ""),
    entry("services.*.deploy.rollback_config.failure_action", AsParent, ""),
    entry("services.*.deploy.rollback_config.monitor", AsParent, ""),
    entry("services.*.deploy.rollback_config.max_failure_ratio", AsParent, ""),
    entry("services.*.deploy.rollback_config.order", AsParent, ""),
    entry("services.*.deploy.update_config.parallelism", AsParent, ""),
    entry("services.*.deploy.update_config.delay", AsParent, ""),
    entry("services.*.deploy.update_config.failure_action", AsParent, ""),
    entry("services.*.deploy.update_config.monitor", AsParent, ""),
    entry("services.*.deploy.update_config.max_failure_ratio", AsParent, ""),
    entry("services.*.deploy.update_config.order", AsParent, ""),
    entry("services.*.deploy.resources.limits", Honoured, ""),
    entry(
        "services.*.deploy.resources.reservations",
        Ignored,
        "nothing is reserved",
    ),
    entry("services.*.deploy.resources.limits.cpus", Honoured, ""),
    entry("services.*.deploy.resources.limits.memory", Honoured, ""),
    entry("services.*.deploy.resources.limits.pids", Honoured, ""),
    entry("services.*.deploy.resources.reservations.cpus", AsParent, ""),
    entry("services.*.deploy.resources.reservations.memory", AsParent, ""),
    entry(
        "services.*.deploy.resources.reservations.generic_resources",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.devices",
        Refused,
        "no runtime offers GPUs or other devices yet: remove it",
    ),
    entry(
        "services.*.deploy.restart_policy.condition",
        Honoured,
        "`none`, `on-failure`, `any`.",
    ),
    entry(
        "services.*.deploy.restart_policy.delay",
        Ignored,
        "pauses between restarts grow",
    ),
    entry(
        "services.*.deploy.restart_policy.max_attempts",
        Wish(Feature::RestartLimit),
        "",
    ),
    entry(
        "services.*.deploy.restart_policy.window",
        Ignored,
        "pauses between restarts grow",
    ),
    entry("services.*.deploy.placement.constraints", AsParent, ""),
    entry("services.*.deploy.placement.preferences", AsParent, ""),
    entry("services.*.deploy.placement.max_replicas_per_node", AsParent, ""),
    entry("services.*.develop.watch", AsParent, ""),
    entry("services.*.develop.watch[].action", AsParent, ""),
    entry("services.*.develop.watch[].exec", AsParent, ""),
    entry("services.*.develop.watch[].ignore", AsParent, ""),
    entry("services.*.develop.watch[].include", AsParent, ""),
    entry("services.*.develop.watch[].initial_sync", AsParent, ""),
    entry("services.*.develop.watch[].path", AsParent, ""),
    entry("services.*.develop.watch[].target", AsParent, ""),
    entry("services.*.devices[].source", AsParent, ""),
    entry("services.*.devices[].target", AsParent, ""),
    entry("services.*.devices[].permissions", AsParent, ""),
    entry("services.*.env_file[].path", Honoured, ""),
    entry("services.*.env_file[].format", Honoured, "`raw`, or nothing."),
    entry("services.*.env_file[].required", Honoured, ""),
    entry("services.*.extends.service", Honoured, ""),
    entry(
        "services.*.extends.file",
        Honoured,
        "From the folder of the file that names it.",
    ),
    entry("services.*.gpus[].capabilities", AsParent, ""),
    entry("services.*.gpus[].count", AsParent, ""),
    entry("services.*.gpus[].device_ids", AsParent, ""),
    entry("services.*.gpus[].driver", AsParent, ""),
    entry("services.*.gpus[].options", AsParent, ""),
    entry("services.*.healthcheck.disable", Honoured, ""),
    entry("services.*.healthcheck.interval", Honoured, ""),
    entry("services.*.healthcheck.retries", Honoured, ""),
    entry(
        "services.*.healthcheck.test",
        Honoured,
        "`NONE`, `CMD`, `CMD-SHELL`, or a text for the shell of the container.",
    ),
    entry("services.*.healthcheck.timeout", Honoured, ""),
    entry("services.*.healthcheck.start_period", Honoured, ""),
    entry(
        "services.*.healthcheck.start_interval",
        Wish(Feature::StartInterval),
        "",
    ),
    entry("services.*.logging.driver", AsParent, ""),
    entry("services.*.logging.options", AsParent, ""),
    entry("services.*.models.*.endpoint_var", AsParent, ""),
    entry("services.*.models.*.model_var", AsParent, ""),
    entry("services.*.networks.*.aliases", Honoured, ""),
    entry(
        "services.*.networks.*.interface_name",
        Ignored,
        "the runtime gives addresses: use names",
    ),
    entry(
        "services.*.networks.*.ipv4_address",
        Ignored,
        "the runtime gives addresses: use names",
    ),
    entry(
        "services.*.networks.*.ipv6_address",
        Ignored,
        "the runtime gives addresses: use names",
    ),
    entry(
        "services.*.networks.*.link_local_ips",
        Ignored,
        "the runtime gives addresses: use names",
    ),
    entry(
        "services.*.networks.*.mac_address",
        Ignored,
        "the runtime gives addresses: use names",
    ),
    entry(
        "services.*.networks.*.driver_opts",
        Ignored,
        "the network is made by the runtime",
    ),
    entry(
        "services.*.networks.*.priority",
        Ignored,
        "the network is made by the runtime",
    ),
    entry(
        "services.*.networks.*.gw_priority",
        Ignored,
        "the network is made by the runtime",
    ),
    entry("services.*.ports[].target", Honoured, ""),
    entry(
        "services.*.ports[].published",
        Ignored,
        "people reach it through the gateway, at an address of its own",
    ),
    entry(
        "services.*.ports[].host_ip",
        Ignored,
        "people reach it through the gateway, at an address of its own",
    ),
    entry(
        "services.*.ports[].protocol",
        Honoured,
        "`tcp`; `udp` is not reached from outside.",
    ),
    entry(
        "services.*.ports[].mode",
        Ignored,
        "people reach it through the gateway, at an address of its own",
    ),
    entry("services.*.ports[].name", Honoured, "For people."),
    entry("services.*.ports[].app_protocol", Honoured, "For people."),
    entry("services.*.post_start[].command", AsParent, ""),
    entry("services.*.post_start[].user", AsParent, ""),
    entry("services.*.post_start[].privileged", AsParent, ""),
    entry("services.*.post_start[].working_dir", AsParent, ""),
    entry("services.*.post_start[].environment", AsParent, ""),
    entry("services.*.pre_stop[].command", AsParent, ""),
    entry("services.*.pre_stop[].user", AsParent, ""),
    entry("services.*.pre_stop[].privileged", AsParent, ""),
    entry("services.*.pre_stop[].working_dir", AsParent, ""),
    entry("services.*.pre_stop[].environment", AsParent, ""),
    entry("services.*.pre_start[].command", AsParent, ""),
    entry("services.*.pre_start[].user", AsParent, ""),
    entry("services.*.pre_start[].privileged", AsParent, ""),
    entry("services.*.pre_start[].working_dir", AsParent, ""),
    entry("services.*.pre_start[].environment", AsParent, ""),
    entry("services.*.provider.type", AsParent, ""),
    entry("services.*.provider.options", AsParent, ""),
    entry("services.*.secrets[].source", Honoured, ""),
    entry("services.*.secrets[].target", Honoured, ""),
    entry("services.*.secrets[].uid", Wish(Feature::Content), ""),
    entry("services.*.secrets[].gid", Wish(Feature::Content), ""),
    entry("services.*.secrets[].mode", Wish(Feature::Content), ""),
    entry("services.*.configs[].source", Honoured, ""),
    entry("services.*.configs[].target", Honoured, ""),
    entry("services.*.configs[].uid", Wish(Feature::Content), ""),
    entry("services.*.configs[].gid", Wish(Feature::Content), ""),
    entry("services.*.configs[].mode", Wish(Feature::Content), ""),
    entry("services.*.ulimits.*.soft", Honoured, ""),
    entry("services.*.ulimits.*.hard", Honoured, ""),
    entry(
        "services.*.volumes[].type",
        Honoured,
        "`volume`, `bind` (inside the repository) and `tmpfs`; others are refused.",
    ),
    entry("services.*.volumes[].source", Honoured, ""),
    entry("services.*.volumes[].target", Honoured, ""),
    entry("services.*.volumes[].read_only", Honoured, ""),
    entry(
        "services.*.volumes[].consistency",
        Ignored,
        "what is written is seen at once",
    ),
    entry("services.*.volumes[].bind", Honoured, ""),
    entry("services.*.volumes[].volume", Honoured, ""),
    entry("services.*.volumes[].tmpfs", Honoured, ""),
    entry(
        "services.*.volumes[].image",
        Refused,
        "images are no volumes here: remove it",
    ),
    entry(
        "services.*.volumes[].bind.propagation",
        Ignored,
        "nothing is mounted later",
    ),
    entry(
        "services.*.volumes[].bind.create_host_path",
        Honoured,
        "Nothing is created: what is mounted must be in the repository.",
    ),
    entry(
        "services.*.volumes[].bind.recursive",
        Ignored,
        "nothing is mounted in the checkout",
    ),
    entry(
        "services.*.volumes[].bind.selinux",
        Ignored,
        "the runtime labels files itself",
    ),
    entry(
        "services.*.volumes[].volume.labels",
        Ignored,
        "volumes belong to the environment",
    ),
    entry("services.*.volumes[].volume.nocopy", Honoured, ""),
    entry("services.*.volumes[].volume.subpath", Wish(Feature::VolumePaths), ""),
    entry("services.*.volumes[].tmpfs.size", Honoured, ""),
    entry(
        "services.*.volumes[].tmpfs.mode",
        Ignored,
        "the memory belongs to the service",
    ),
    entry("services.*.volumes[].image.subpath", AsParent, ""),
    entry("networks.*.name", Ignored, "every environment has networks of its own"),
    entry("networks.*.driver", Ignored, "the network is made by the runtime"),
    entry("networks.*.driver_opts", Ignored, "the network is made by the runtime"),
    entry("networks.*.ipam", Ignored, "the runtime gives addresses"),
    entry(
        "networks.*.external",
        Ignored,
        "every environment has networks of its own",
    ),
    entry(
        "networks.*.internal",
        Honoured,
        "Nothing outside is reached from it, whatever the policy allows.",
    ),
    entry("networks.*.enable_ipv4", Ignored, "the network is made by the runtime"),
    entry("networks.*.enable_ipv6", Ignored, "the network is made by the runtime"),
    entry("networks.*.attachable", Ignored, "the network is made by the runtime"),
    entry("networks.*.labels", Ignored, "networks belong to the environment"),
    entry("networks.*.ipam.driver", AsParent, ""),
    entry("networks.*.ipam.config", AsParent, ""),
    entry("networks.*.ipam.options", AsParent, ""),
    entry("networks.*.ipam.config[].subnet", AsParent, ""),
    entry("networks.*.ipam.config[].ip_range", AsParent, ""),
    entry("networks.*.ipam.config[].gateway", AsParent, ""),
    entry("networks.*.ipam.config[].aux_addresses", AsParent, ""),
    entry("volumes.*.name", Ignored, "every environment has volumes of its own"),
    entry("volumes.*.driver", Honoured, "Only `local`; others are refused."),
    entry(
        "volumes.*.driver_opts",
        Honoured,
        "`type: tmpfs`, and `o: bind` of a folder of the repository; others are refused.",
    ),
    entry(
        "volumes.*.external",
        Ignored,
        "every environment has volumes of its own, which are empty at first",
    ),
    entry("volumes.*.labels", Ignored, "volumes belong to the environment"),
    entry("secrets.*.name", Ignored, "every environment has secrets of its own"),
    entry(
        "secrets.*.environment",
        Honoured,
        "A granted secret, or a documented value.",
    ),
    entry(
        "secrets.*.file",
        Honoured,
        "A file of the repository, or the granted secret of that name where there is none.",
    ),
    entry("secrets.*.external", Honoured, "The granted secret of that name."),
    entry("secrets.*.labels", Ignored, "secrets belong to the environment"),
    entry("secrets.*.driver", Refused, "secrets come from Maquette: remove it"),
    entry(
        "secrets.*.driver_opts",
        Refused,
        "secrets come from Maquette: remove it",
    ),
    entry(
        "secrets.*.template_driver",
        Refused,
        "files are given as they are: remove it",
    ),
    entry("configs.*.name", Ignored, "every environment has configs of its own"),
    entry("configs.*.content", Honoured, ""),
    entry(
        "configs.*.environment",
        Honoured,
        "A granted secret, or a documented value.",
    ),
    entry("configs.*.file", Honoured, "A file of the repository."),
    entry(
        "configs.*.external",
        Refused,
        "there is nothing outside of the environment that it could name: give it `content` or a `file`",
    ),
    entry("configs.*.labels", Ignored, "configs belong to the environment"),
    entry(
        "configs.*.template_driver",
        Refused,
        "files are given as they are: remove it",
    ),
    entry("models.*.name", AsParent, ""),
    entry("models.*.model", AsParent, ""),
    entry("models.*.context_size", AsParent, ""),
    entry("models.*.runtime_flags", AsParent, ""),
    entry("secrets.*.external.name", Honoured, "The name of the granted secret."),
    entry("configs.*.external.name", AsParent, ""),
    entry("networks.*.external.name", AsParent, ""),
    entry("volumes.*.external.name", AsParent, ""),
    entry("services.*.blkio_config.device_read_bps[].path", AsParent, ""),
    entry("services.*.blkio_config.device_read_bps[].rate", AsParent, ""),
    entry("services.*.blkio_config.device_read_iops[].path", AsParent, ""),
    entry("services.*.blkio_config.device_read_iops[].rate", AsParent, ""),
    entry("services.*.blkio_config.device_write_bps[].path", AsParent, ""),
    entry("services.*.blkio_config.device_write_bps[].rate", AsParent, ""),
    entry("services.*.blkio_config.device_write_iops[].path", AsParent, ""),
    entry("services.*.blkio_config.device_write_iops[].rate", AsParent, ""),
    entry("services.*.blkio_config.weight_device[].path", AsParent, ""),
    entry("services.*.blkio_config.weight_device[].weight", AsParent, ""),
    entry("services.*.deploy.placement.preferences[].spread", AsParent, ""),
    entry(
        "services.*.deploy.resources.reservations.devices[].capabilities",
        AsParent,
        "",
    ),
    entry("services.*.deploy.resources.reservations.devices[].count", AsParent, ""),
    entry(
        "services.*.deploy.resources.reservations.devices[].device_ids",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.devices[].driver",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.devices[].options",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec.kind",
        AsParent,
        "",
    ),
    entry(
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec.value",
        AsParent,
        "",
    ),
    entry("services.*.develop.watch[].exec.command", AsParent, ""),
    entry("services.*.develop.watch[].exec.environment", AsParent, ""),
    entry("services.*.develop.watch[].exec.privileged", AsParent, ""),
    entry("services.*.develop.watch[].exec.user", AsParent, ""),
    entry("services.*.develop.watch[].exec.working_dir", AsParent, ""),
];
