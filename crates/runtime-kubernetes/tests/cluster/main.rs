//! Tests on a real cluster, which `KUBECONFIG` names: `make test-cluster`. Without one they fail; `cargo test` alone leaves them out.
//!
//! The cluster has to have the image `cluster.invalid/busybox:1`, as that of `tools/cluster` does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod conformance;
mod cut;
mod others;
mod outage;
mod rig;
mod told;
mod volumes;
