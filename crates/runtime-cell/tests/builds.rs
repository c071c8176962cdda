//! Builds on a real cell: Dockerfiles from nothing and from an image of Debian's busybox, with what builders are known for; builds that
//! do not end, take too much, look around, or are in the way of newer ones.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test, outside of a test function too"
)]

mod support;

#[path = "builds/rig.rs"]
mod rig;

#[path = "builds/attacks.rs"]
mod attacks;
#[path = "builds/dockerfiles.rs"]
mod dockerfiles;
#[path = "builds/ends.rs"]
mod ends;
#[path = "builds/priority.rs"]
mod priority;

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[test]
#[ignore = "run by the cell host to unpack an image"]
fn unpacker_process() {
    // It says itself why it could not.
    let _ = runtime_cell::unpacker::main();
}
