//! Keys of the Compose Specification that are known and not read: which are refused, which only have no effect, and what to
//! do instead.

/// What becomes of a key that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The stack would not be what its authors meant. The text is a hint.
    Refused(&'static str),
    /// Nothing is lost without it. The text says why.
    Ignored(&'static str),
}

/// Keys of services that are read.
pub(crate) const SERVICE_KEYS: [&str; 25] = [
    "command",
    "cpus",
    "depends_on",
    "deploy",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "healthcheck",
    "image",
    "mem_limit",
    "networks",
    "pids_limit",
    "ports",
    "profiles",
    "read_only",
    "restart",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "volumes",
    "working_dir",
    "build",
    "container_name",
    "hostname",
];

const POLICY: &str =
    "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it";
const NETWORK: &str = "the services of an environment share one private network and find each other by name: remove it";
const LATER: &str = "this version of Maquette does not read it: remove it";

/// What becomes of a key of a service that is not read; `None` if the specification does not know it either.
pub(crate) fn service(key: &str) -> Option<Fate> {
    use Fate::{Ignored, Refused};
    Some(match key {
        "privileged"
        | "cap_add"
        | "devices"
        | "device_cgroup_rules"
        | "security_opt"
        | "userns_mode"
        | "pid"
        | "ipc"
        | "uts"
        | "cgroup"
        | "cgroup_parent"
        | "isolation"
        | "runtime"
        | "sysctls"
        | "gpus"
        | "credential_spec"
        | "use_api_socket" => Refused(POLICY),
        "network_mode" | "links" | "external_links" | "dns" | "dns_opt" | "dns_search" | "extra_hosts"
        | "mac_address" | "domainname" => Refused(NETWORK),
        "user" | "group_add" => {
            Refused("every environment has user ids of its own and the runtime chooses among them: remove it")
        }
        "secrets" | "configs" => {
            Refused("secrets and configs come with a later version: use `environment` or a mounted file")
        }
        "extends" => Refused("repeat the settings, or share them by an anchor and `<<`"),
        "scale" => Refused("every service runs once in an environment: remove it"),
        "volumes_from" => Refused("name the volume under `volumes` of both services"),
        "blkio_config" | "cpu_count" | "cpu_percent" | "cpu_period" | "cpu_quota" | "cpu_rt_period"
        | "cpu_rt_runtime" | "cpuset" | "mem_swappiness" | "memswap_limit" | "oom_kill_disable" | "ulimits"
        | "storage_opt" => Refused("limits are given by `mem_limit`, `cpus` and `pids_limit`: remove it"),
        "models" | "provider" | "post_start" | "pre_stop" | "label_file" | "volume_driver" => Refused(LATER),
        "shm_size" => Ignored("shared memory is bounded by the memory limit"),
        "cpu_shares" | "mem_reservation" | "oom_score_adj" => Ignored("nothing is reserved; limits bound a service"),
        "container_name" | "hostname" => Ignored("a service is found by its own name"),
        "labels" | "annotations" => Ignored("no program that reads labels runs beside it"),
        "logging" => Ignored("logs are kept by Maquette, within bounds"),
        "init" => Ignored("the runtime reaps processes itself"),
        "tty" | "stdin_open" | "attach" => Ignored("no terminal is attached"),
        "platform" => Ignored("the runtime's own platform is used"),
        "pull_policy" | "pull_refresh_after" => Ignored("the runtime decides when an image is fetched"),
        "develop" => Ignored("a push brings new files"),
        "cap_drop" => Ignored("services have no capabilities beyond the runtime's default"),
        _ => return None,
    })
}

/// The hint for a top-level key that the specification knows and that is refused.
pub(crate) fn top(key: &str) -> Option<&'static str> {
    Some(match key {
        "secrets" | "configs" => "secrets and configs come with a later version: use `environment` or a mounted file",
        "include" => "put all services into one file",
        "models" => LATER,
        _ => return None,
    })
}
