//! What the operator says of a cluster.

use crate::Sensitive;
use model::InstanceId;

/// The Pod Security Standard that a namespace enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// Nothing runs as root and nothing has a capability besides `NET_BIND_SERVICE`.
    #[default]
    Restricted,
    /// Root of a user namespace, with the capabilities that containers usually have: for images that change their user themselves.
    Baseline,
}

impl PodSecurity {
    /// The word of the namespace's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Baseline => "baseline",
        }
    }
}

/// A cluster, as far as objects depend on it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The installation whose environments these are.
    pub instance: InstanceId,
    /// What namespaces enforce.
    pub pod_security: PodSecurity,
    /// The namespace of the gateway's pods, which alone may reach public services. Without one the gateway is outside of the
    /// cluster and comes by forwarded ports.
    pub gateway_namespace: Option<String>,
    /// The class of volumes; the cluster's default if absent.
    pub storage_class: Option<String>,
    /// The class of volumes that several pods mount, maybe on several nodes (`ReadWriteMany`). Without one they are refused.
    pub shared_storage_class: Option<String>,
    /// The repository to which images of Dockerfiles are pushed, one below it per project, for example
    /// `registry.example.com/previews`. Without one such services are refused.
    pub built_images: Option<String>,
    /// What fetches images: a Docker configuration in JSON.
    pub pull_secret: Option<Sensitive>,
    /// The class that lets other pods of the cluster go before those of environments.
    pub priority_class: Option<String>,
}
