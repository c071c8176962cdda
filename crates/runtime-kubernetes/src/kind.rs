//! The kinds of objects that an environment consists of, and how the API server and the ledger call them.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{
        ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, Secret, Service, ServiceAccount,
    },
    networking::v1::NetworkPolicy,
};
use kube::core::ApiResource;

macro_rules! kinds {
    ($($name:ident $word:literal,)*) => {
        /// A kind of object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is the kind of that name")]
        pub enum Kind {
            $($name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its word in the ledger.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Where the API server has it.
            pub(crate) fn resource(self) -> ApiResource {
                match self { $(Self::$name => ApiResource::erase::<$name>(&()),)* }
            }
        }
    };
}

kinds! {
    Namespace "namespace",
    LimitRange "limit-range",
    ResourceQuota "resource-quota",
    NetworkPolicy "network-policy",
    ServiceAccount "service-account",
    Secret "secret",
    ConfigMap "config-map",
    PersistentVolumeClaim "volume-claim",
    StatefulSet "stateful-set",
    Job "job",
    Deployment "deployment",
    Service "service",
}
