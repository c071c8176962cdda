//! Tests on a real cluster, which `KUBECONFIG` names: `make test-cluster`. Without one they fail; `cargo test` alone leaves them out.
//!
//! The cluster has to have the image `cluster.invalid/busybox:1` and an Argo CD that calls it `test`, as that of `tools/cluster` does, and
//! it has to reach this machine, where a Gitea has the repository that Argo CD reads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod conformance;
mod cut;
mod gitops;
mod others;
mod outage;
mod repository;
mod rig;
mod told;
mod volumes;
