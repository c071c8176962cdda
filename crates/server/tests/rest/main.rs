//! The server as its callers see it: over HTTP, with a real store, real git and a simulated runtime.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod access;
mod bench;
mod edge;
mod exec;
mod jobs;
mod life;
mod secrets;
mod spares;
mod webhooks;
