//! What a stack asks of a container beyond what every runtime does. Which of it a runtime honours stands in its capabilities
//! ([`crate::Feature`]); a blueprint is checked against them before anything is made.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Options of a container. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// `user`, `uid` or `uid:gid`, as in the image's own `/etc/passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Further groups, by name or number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether an init process runs in front of the program and reaps what it leaves behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// What the container calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Lines of `/etc/hosts`: a name and its address, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, String)>,
    /// Bounds of the kernel, by their name without `RLIMIT_`, in lower case: `nofile`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Settings of the container's own kernel namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Kernel capabilities that it gives up, without `CAP_`; `ALL` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop_capabilities: Vec<String>,
    /// Kernel capabilities that it keeps or gets, without `CAP_`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_capabilities: Vec<String>,
    /// Bytes of shared memory (`/dev/shm`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// Whether its standard input stays open.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_open: bool,
    /// Where volumes are mounted that start empty, whatever the image has there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub empty_volumes: BTreeSet<String>,
    /// The platform that an image is wanted for: `linux/amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When an image is fetched.
    #[serde(skip_serializing_if = "Pull::is_default")]
    pub pull: Pull,
}

impl Options {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A bound of the kernel; `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What applies.
    pub soft: Option<u64>,
    /// What the program may raise it to.
    pub hard: Option<u64>,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When what its tag stands for is not there.
    #[default]
    Missing,
    /// The tag is looked up for every generation.
    Always,
    /// Never: it must be there.
    Never,
}

impl Pull {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
