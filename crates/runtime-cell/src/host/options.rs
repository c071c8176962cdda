//! What an author asks of a container beyond what every container has: how it calls itself, names with addresses, bounds of the
//! kernel. The host takes none of it as it comes.

use model::{Feature, Options, Ulimit, is_harmless_sysctl};
use rustix::process::{Resource, getrlimit};
use std::{collections::BTreeMap, net::IpAddr};

/// What this runtime does for those who ask. Terminals are none of it: crun would give the machine's `/dev/null` to a container that
/// has one.
pub const FEATURES: [Feature; 14] = [
    Feature::Content,
    Feature::DropCapabilities,
    Feature::Hostname,
    Feature::Hosts,
    Feature::NativeBuilds,
    Feature::RestartLimit,
    Feature::SharedMemory,
    Feature::StartInterval,
    Feature::Sysctls,
    Feature::Ulimits,
    Feature::Users,
    Feature::VolumePaths,
    Feature::BroughtImages,
    Feature::Program,
];

/// The most lines of `/etc/hosts`.
const HOSTS_MAX: usize = 100;
/// The longest name of a user or group, `user:group` together.
const USER_MAX: usize = 200;
/// The most further groups.
const GROUPS_MAX: usize = 32;
/// The most settings of kernel namespaces, and the longest value of one.
const SETTINGS_MAX: usize = 100;
const SETTING_MAX: usize = 200;
/// The bounds that may be set. Priorities are none of them: raising one is a privilege.
const BOUNDS: [(&str, Resource); 13] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The options that this runtime honours, or why one of them can not be.
pub(crate) fn checked(options: &Options) -> Result<Options, String> {
    if let Some(name) = &options.hostname
        && !is_name(name, 63)
    {
        return Err(format!("`{}` can not be the name of a container", name.escape_debug()));
    }
    if options.hosts.len() > HOSTS_MAX {
        return Err(format!("more than {HOSTS_MAX} names with addresses"));
    }
    for (name, address) in &options.hosts {
        if !is_name(name, 253) || address.parse::<IpAddr>().is_err() {
            return Err(format!(
                "`{}` with `{}` is no name with an address",
                name.escape_debug(),
                address.escape_debug()
            ));
        }
    }
    let words = options.user.iter().chain(&options.groups);
    if let Some(word) = words
        .clone()
        .find(|word| word.len() > USER_MAX || word.chars().any(char::is_control))
    {
        return Err(format!("`{}` can not be a user or group", word.escape_debug()));
    }
    if options.groups.len() > GROUPS_MAX {
        return Err(format!("more than {GROUPS_MAX} groups"));
    }
    Ok(Options {
        user: options.user.clone(),
        groups: options.groups.clone(),
        hostname: options.hostname.clone(),
        hosts: options.hosts.clone(),
        ulimits: bounds(&options.ulimits)?,
        init: options.init,
        sysctls: settings(&options.sysctls)?,
        drop_capabilities: options.drop_capabilities.clone(),
        add_capabilities: options.add_capabilities.clone(),
        shm_bytes: options.shm_bytes,
        empty_volumes: options.empty_volumes.clone(),
        ..Options::default()
    })
}

fn is_name(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Settings that a container has for itself and can harm nobody with. Their names become paths.
fn settings(wanted: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if wanted.len() > SETTINGS_MAX {
        return Err(format!("more than {SETTINGS_MAX} settings of the kernel"));
    }
    for (name, value) in wanted {
        // The list of the control plane is not taken for granted.
        if !is_harmless_sysctl(name) {
            return Err(format!(
                "`{}` is no setting that a container may have for itself",
                name.escape_debug()
            ));
        }
        if value.len() > SETTING_MAX || value.chars().any(char::is_control) {
            return Err(format!("`{name}` can not be `{}`", value.escape_debug()));
        }
    }
    Ok(wanted.clone())
}

/// Bounds as far as the machine's own allow them: what this process may not raise, a container may not either.
fn bounds(wanted: &BTreeMap<String, Ulimit>) -> Result<BTreeMap<String, Ulimit>, String> {
    let mut found = BTreeMap::new();
    for (name, bound) in wanted {
        let Some((_, resource)) = BOUNDS.iter().find(|(known, _)| known == name) else {
            return Err(format!("the bound `{}` can not be set", name.escape_debug()));
        };
        let most = getrlimit(*resource).maximum;
        let within = |value: Option<u64>| match (value, most) {
            (Some(value), Some(most)) => Some(value.min(most)),
            (value, most) => value.or(most),
        };
        let hard = within(bound.hard);
        let soft = match (within(bound.soft), hard) {
            (Some(soft), Some(hard)) => Some(soft.min(hard)),
            (soft, hard) => soft.or(hard),
        };
        found.insert(name.clone(), Ulimit { soft, hard });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_as_it_comes() {
        let hostname = |name: &str| Options {
            hostname: Some(name.into()),
            ..Options::default()
        };
        let hosts = |name: &str, address: &str| Options {
            hosts: vec![(name.into(), address.into())],
            ..Options::default()
        };
        let bound = |name: &str, hard: Option<u64>| Options {
            ulimits: [(name.to_owned(), Ulimit { soft: Some(9), hard })].into(),
            ..Options::default()
        };
        let setting = |name: &str, value: &str| Options {
            sysctls: [(name.to_owned(), value.to_owned())].into(),
            ..Options::default()
        };
        for good in [
            hostname("web-1.x"),
            hosts("a", "::1"),
            bound("nofile", Some(5)),
            setting("net.ipv4.ip_local_port_range", "1024 65535"),
            setting("kernel.shmmax", "1"),
            setting("fs.mqueue.msg_max", "10"),
        ] {
            assert!(checked(&good).is_ok(), "{good:?}");
        }
        for bad in [
            hostname(""),
            hostname("a b"),
            hostname("a\n127.0.0.1 b"),
            hosts("a\n", "10.0.0.1"),
            hosts("a", "10.0.0.1 b"),
            bound("rtprio", None),
            bound("nice", None),
            setting("vm.overcommit_memory", "1"),
            setting("kernel.core_pattern", "|/x"),
            setting("kernel.shm/../core_pattern", "1"),
            setting("net...x", "1"),
            setting("net.ipv4.tcp_fin_timeout", "1\n2"),
            setting("net.ipv4.ip_nonlocal_bind", "1"),
            setting("net.ipv4.ip_forward", "1"),
            setting("net.ipv4.conf.all.proxy_arp", "1"),
        ] {
            assert!(checked(&bad).is_err(), "{bad:?}");
        }
        let low = &checked(&bound("nofile", Some(5))).unwrap().ulimits["nofile"];
        assert_eq!((low.soft, low.hard), (Some(5), Some(5)));
        let high = &checked(&bound("nofile", None)).unwrap().ulimits["nofile"];
        assert_eq!(high.hard, getrlimit(Resource::Nofile).maximum);
    }
}
