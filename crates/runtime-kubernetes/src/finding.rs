//! What becomes of that which a cluster can not do as a stack says it: one list, from which messages and documentation are made.

use model::{JobName, NetworkName, ServiceName, VolumeName};
use std::fmt;

/// How much a decision matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The stack would not be what its authors meant: nothing is made.
    Refused,
    /// It has no effect, or another one, and works for most.
    Warned,
}

macro_rules! decisions {
    ($($(#[$doc:meta])* $name:ident, $severity:ident, $key:literal, $reason:literal;)*) => {
        /// Something that a stack may say and a cluster does not do so.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Decision {
            $($(#[$doc])* $name,)*
        }

        impl Decision {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Whether it is refused or warned of.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What the stack says, as the model of a service calls it.
            #[must_use]
            pub fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// Why, and what to do or what happens instead.
            #[must_use]
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

decisions! {
    /// A stack that is a chart or manifests.
    Objects, Refused, "stack", "charts and manifests are not rendered yet: say it as a Compose file";
    /// A workload from the host's packages.
    HostRoot, Refused, "root", "a cluster has no packages of a host: name an image";
    /// An image that nobody has built.
    NotBuilt, Refused, "root.build", "its image was not built yet";
    /// A build where there is no registry for what it makes.
    NoRegistry, Refused, "root.build", "the operator has named no registry for built images";
    /// An image whose name nobody has resolved.
    NotPinned, Warned, "root.image", "nobody knows what the name stands for: each node fetches what it finds";
    /// Files of a checkout.
    SourceMount, Refused, "mounts.source", "files of a commit are not brought to a cluster: copy them into an image by a Dockerfile";
    /// What a build in a checkout left.
    BuiltMount, Refused, "mounts.built", "what a job built is not brought to a cluster: build it in a Dockerfile";
    /// Maquette's own program.
    ProgramMount, Refused, "mounts.program", "Maquette's own program is not in the cluster's images: run a mail catcher from an image";
    /// A volume that is not in the stack.
    UnknownVolume, Refused, "mounts.volume", "the stack has no such volume";
    /// A volume of several services.
    SharedVolume, Refused, "mounts.volume", "several services mount it, and the operator has named no class for shared volumes";
    /// A volume from a snapshot.
    VolumeSnapshot, Refused, "volumes.origin", "snapshots of volumes are not cloned on a cluster yet";
    /// What an image has where a new volume is mounted.
    VolumeNotFilled, Warned, "mounts.volume", "the volume begins empty: what the image has at that path is not copied into it";
    /// The owner or permissions of memory.
    MemoryOwner, Warned, "mounts.tmpfs", "mode, uid and gid have no effect: everybody in the container may write";
    /// The owner of a file.
    FileOwner, Warned, "mounts.content", "uid and gid have no effect: the file belongs to root and to the group of the service";
    /// Files and secret variables that are too large together.
    TooLarge, Refused, "mounts.content", "its files and secrets have more than 1000000 bytes together, which no object of a cluster holds";
    /// A value that can not be given.
    Value, Refused, "environment", "the value can not be given";
    /// A bound of processes.
    Pids, Warned, "limits.pids", "the nodes of the cluster bound processes";
    /// A user by name.
    UserName, Refused, "options.user", "a cluster runs as numbers: write the user as `uid` or `uid:gid`";
    /// A group by name.
    GroupName, Refused, "options.groups", "a cluster runs as numbers: write the group as its gid";
    /// Root.
    RootUser, Refused, "options.user", "it would run as root, which the namespace refuses: set `user`, or have the operator allow `baseline`";
    /// A name that no pod can have.
    Hostname, Warned, "options.hostname", "a pod calls itself by its own name: this is none of lower-case letters, digits and inner dashes";
    /// An address that is none.
    HostAddress, Refused, "options.hosts", "it is no name with an address";
    /// Bounds of the kernel.
    Ulimits, Warned, "options.ulimits", "the bounds of the cluster's nodes apply";
    /// Kernel settings that a namespace does not allow.
    Sysctl, Warned, "options.sysctls", "the cluster does not let pods set it: the node's value applies";
    /// Capabilities that a namespace does not allow.
    Capability, Refused, "options.add_capabilities", "the namespace does not allow this capability: remove it";
    /// An operating system or platform that is unknown.
    Platform, Refused, "options.platform", "it is not `linux/` and an architecture";
    /// The signal to stop with.
    StopSignal, Warned, "stop_signal", "the signal that the image names is sent, or SIGTERM";
    /// A service that is not to be started again.
    Restart, Warned, "restart", "a service of a cluster is started again whenever it ends; one that others wait for to complete is not";
    /// A bound on restarts.
    RestartLimit, Warned, "restart_limit", "restarts are not bounded, the pauses between them grow";
    /// The pause between probes at the start.
    StartInterval, Warned, "health.start_interval_ms", "the interval of the health check applies from the start";
    /// Times in fractions of a second.
    WholeSeconds, Warned, "times", "a cluster counts in whole seconds: times are rounded up";
    /// A name that the cluster's name server can not answer.
    Name, Refused, "name", "others could not find it: names in a cluster are letters, digits and inner dashes, beginning with a letter";
    /// The same of a service that names no port.
    QuietName, Warned, "name", "others can not find it by that name; it names no port, so nobody seems to look";
    /// A name that two services want.
    NameTwice, Refused, "aliases", "another service is found by that name, in this network or another one: a cluster has one name server for all";
    /// Networks with names of their own.
    NetworkNames, Warned, "networks", "a service of another network is found by name, and can not be reached";
    /// A network that is not in the stack.
    UnknownNetwork, Refused, "networks", "the stack has no such network";
    /// A job that builds in a checkout.
    BuildJob, Refused, "jobs.on", "jobs do not build in a checkout on a cluster: build in a Dockerfile";
    /// What a job makes.
    Product, Refused, "jobs.product", "what a job makes is not kept on a cluster: build in a Dockerfile";
    /// A database that is to be prepared.
    Data, Refused, "data", "databases are not migrated and seeded on a cluster yet: say it as a job";
    /// What may be reached outside.
    Egress, Warned, "egress", "the door does not run in a cluster yet: nothing outside is reached";
    /// More than everything may use.
    NoRoom, Refused, "limits", "its services and jobs together may use more than it may: a cluster adds up their limits, so lower these, or have the policy allow more";
    /// A bound of processes for everything.
    AllPids, Warned, "limits.pids", "the nodes of the cluster bound processes";
}

/// Where in a stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Everything.
    Environment,
    /// A service.
    Service(ServiceName),
    /// A job.
    Job(JobName),
    /// A volume.
    Volume(VolumeName),
    /// A network.
    Network(NetworkName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::Service(name) => write!(f, "service `{name}`"),
            Self::Job(name) => write!(f, "job `{name}`"),
            Self::Volume(name) => write!(f, "volume `{name}`"),
            Self::Network(name) => write!(f, "network `{name}`"),
        }
    }
}

/// A decision that applies. Its text says place, key, what the stack has there, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What was decided.
    pub decision: Decision,
    /// What the stack has there, escaped; empty if the key says it all. Never a part of a secret.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.decision.severity() {
            Severity::Refused => "refused",
            Severity::Warned => "warning",
        };
        write!(f, "{}: `{}`", self.place, self.decision.key())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        write!(f, ": {word}: {}", self.decision.reason())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Notes what is so at a place; `detail` is an author's text.
    pub(crate) fn note(&mut self, place: &Place, decision: Decision, detail: &str) {
        let finding = Finding {
            place: place.clone(),
            decision,
            detail: detail.chars().take(200).flat_map(char::escape_debug).collect(),
        };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Notes it if it is so.
    pub(crate) fn note_if(&mut self, so: bool, place: &Place, decision: Decision) {
        if so {
            self.note(place, decision, "");
        }
    }

    /// All of them: what is refused first.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.decision.severity());
        self.0
    }
}
