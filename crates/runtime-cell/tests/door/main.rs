//! The door: what real cells reach through a real door process of an ordinary user, what they do not, and what is told about it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod attacks;
mod ends;
mod reach;
mod street;
#[path = "../support/mod.rs"]
mod support;
mod world;

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}
