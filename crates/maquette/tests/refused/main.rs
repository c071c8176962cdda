//! Bad input, and what people read about it: the comment, the status, `why`, `show`, and what the program prints. Where a real
//! container matters the program runs as root does, with a cell host, a pool and a gateway of its own.
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
mod cells;
mod commits;
mod disk;
mod floods;
mod host_disk;
mod hostile;
mod ports;
mod rig;
mod sockets;
mod taken;
mod told;
mod updates;
