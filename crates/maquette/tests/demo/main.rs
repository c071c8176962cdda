//! The demo, as a newcomer runs it: the example shop with all of its engines, on real cells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
mod keys;
mod once;
#[path = "../../src/demo/outside.rs"]
#[allow(dead_code, reason = "the demo uses more of it")]
mod outside;
mod place;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;
