//! As whom a pod runs, and what it may do: the user, groups and capabilities.

use super::{super::Order, Unit, seccomp};
use crate::{
    PodSecurity,
    finding::{Decision, Findings},
};
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SecurityContext};
use model::{Engine, Root};

/// What `restricted` lets a container add.
const RESTRICTED: &[&str] = &["NET_BIND_SERVICE"];

/// What `baseline` lets a container add.
const BASELINE: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// As whom a pod runs; absent where the image says it.
#[derive(Default)]
pub(super) struct Identity {
    user: Option<i64>,
    group: Option<i64>,
    groups: Vec<i64>,
}

/// As whom a unit runs.
pub(super) fn of(order: &Order<'_>, unit: &Unit<'_>, findings: &mut Findings) -> Identity {
    let options = &unit.workload.options;
    let mut identity = Identity::default();
    let named = options.user.as_deref().filter(|user| !user.is_empty());
    match named {
        Some(text) => match numbers(text) {
            Some((user, group)) => (identity.user, identity.group) = (Some(user), group),
            None => findings.note(&unit.place, Decision::UserName, text),
        },
        None => {
            if let Root::Engine(engine) = &unit.workload.root
                && let Some((user, group)) = engine_user(engine)
            {
                (identity.user, identity.group) = (Some(user), Some(group));
            }
        }
    }
    let is_refused = named.is_some() && identity.user.is_none();
    if order.cluster.pod_security == PodSecurity::Restricted
        && !is_refused
        && may_be_root(&identity, &unit.workload.root)
    {
        findings.note(&unit.place, Decision::RootUser, "");
    }
    for group in &options.groups {
        match number(group) {
            Some(number) => identity.groups.push(number),
            None => findings.note(&unit.place, Decision::GroupName, group),
        }
    }
    identity
}

/// Whether it is known that root would run. What an image says is part of a generation as soon as the image has a digest; one
/// without runs as root if nobody says otherwise, and the cluster looks itself at one that nobody has looked at.
fn may_be_root(identity: &Identity, root: &Root) -> bool {
    match identity.user {
        Some(user) => user == 0,
        None => root.image().is_some() || matches!(root, Root::Engine(_)),
    }
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // The kernel's last id means "no id".
    text.parse().ok().filter(|id| digits && *id < i64::from(u32::MAX))
}

/// `uid` or `uid:gid`.
fn numbers(text: &str) -> Option<(i64, Option<i64>)> {
    match text.split_once(':') {
        Some((user, group)) => Some((number(user)?, Some(number(group)?))),
        None => Some((number(text)?, None)),
    }
}

/// The user that the official image of an engine changes to when it is started as root, which it is not here.
fn engine_user(engine: &Engine) -> Option<(i64, i64)> {
    let alpine = engine.image.contains("alpine");
    match (engine.kind.as_str(), alpine) {
        ("postgres", true) => Some((70, 70)),
        ("redis", true) => Some((999, 1000)),
        ("rabbitmq", true) => Some((100, 101)),
        ("postgres" | "redis" | "rabbitmq", false) => Some((999, 999)),
        _ => None,
    }
}

impl Identity {
    /// What a pod says of all its containers. Volumes belong to the group, so that the user can write them.
    pub(super) fn pod(&self, order: &Order<'_>) -> PodSecurityContext {
        let owner = self.group.or(self.user);
        PodSecurityContext {
            run_as_non_root: (order.cluster.pod_security == PodSecurity::Restricted).then_some(true),
            run_as_user: self.user,
            run_as_group: self.group,
            fs_group: owner,
            fs_group_change_policy: owner.map(|_| "OnRootMismatch".to_owned()),
            supplemental_groups: (!self.groups.is_empty()).then(|| self.groups.clone()),
            seccomp_profile: Some(seccomp()),
            ..PodSecurityContext::default()
        }
    }
}

/// What a container says of itself.
pub(super) fn container(
    order: &Order<'_>,
    unit: &Unit<'_>,
    read_only: bool,
    findings: &mut Findings,
) -> SecurityContext {
    let options = &unit.workload.options;
    let restricted = order.cluster.pod_security == PodSecurity::Restricted;
    let allowed = if restricted { RESTRICTED } else { BASELINE };
    let mut add = options.add_capabilities.clone();
    add.retain(|name| {
        let fits = allowed.contains(&name.as_str());
        if !fits {
            findings.note(&unit.place, Decision::Capability, name);
        }
        fits
    });
    let drop = if restricted {
        vec!["ALL".to_owned()]
    } else {
        options.drop_capabilities.clone()
    };
    let any = !add.is_empty() || !drop.is_empty();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: any.then(|| Capabilities {
            add: (!add.is_empty()).then_some(add),
            drop: (!drop.is_empty()).then_some(drop),
        }),
        read_only_root_filesystem: read_only.then_some(true),
        ..SecurityContext::default()
    }
}
