//! The program as people and scripts use it: run as a process, against a server with a simulated runtime.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod bench;
mod changes;
mod local;
mod remote;
