//! The runtime for Kubernetes: the objects of an environment, and two ways to deliver them ([`Delivery`]) of one [`KubernetesRuntime`].
//!
//! | module | what it does |
//! |---|---|
//! | [`build`] | objects from a generation, purely |
//! | `kubernetes` | the port; what was accepted stands in the marker object |
//! | `gitops` | files of an environment in a repository, who writes them, and what is asked of Argo CD |
//! | `observe` | one watch per kind for all environments; facts, and why something does not run |
//! | [`survey`] | what else is on a cluster, and what we may do there |
//! | `api` | requests: bounded, tried again, refusals in the API server's words |
//!
//! [`build`] turns one generation into typed objects. What must stay true of it:
//!
//! - It is pure: no I/O, no clock, no randomness. The same generation, cluster and secrets give the same objects.
//! - What a service is made of depends on that service, never on the generation's number: a push that changes one service
//!   changes the objects of that service and the marker, and restarts nothing else. One exception: a service without limits has a
//!   share of the environment's, which may change when others come and go.
//! - Nothing of a stack is dropped in silence. Every field of a service, job, workload and its options is taken apart by name;
//!   what a cluster can not do is a [`Decision`], and each one that applies is told as a [`Finding`]. A generation with anything
//!   refused gives no objects at all.
//! - Values of secrets are in [`build::SecretObject`] and [`Sensitive`] only, which do not print them.
//! - Names contain what they belong to, are valid for every kind of object, and different things never share one ([`names`]).
//! - Nothing that is made may widen what an environment may do: no token, no rights, no address outside of the namespace.

mod access;
mod api;
pub mod build;
mod cluster;
mod finding;
mod gitops;
mod kind;
mod kubernetes;
pub mod names;
mod observe;
mod quantity;
mod sensitive;
pub mod survey;

pub use access::{Access, client};
pub use cluster::{Cluster, PodSecurity};
pub use finding::{Decision, Finding, Place, Severity};
pub use gitops::{ArgoCd, GitOps, Repository};
pub use kind::Kind;
pub use kubernetes::{Delivery, KubernetesRuntime};
pub use sensitive::Sensitive;
