//! Containers from images, on a real cell: made from Debian's busybox, with the entrypoints, users and files that official images have,
//! and with what attackers would put into one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test, outside of a test function too"
)]

mod support;

#[path = "images/rig.rs"]
mod rig;

#[path = "images/attacks.rs"]
mod attacks;
#[path = "images/like_official_ones.rs"]
mod like_official_ones;
#[path = "images/unpacking.rs"]
mod unpacking;

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
