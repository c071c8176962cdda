//! Maquette's processes are killed at every step of the life of a pull request, with real containers, a real database and a real
//! pool. The points are those that an undisturbed life went through, not a list by hand.
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
mod built;
mod crossed;
mod every_step;
mod first_start;
mod golden;
mod keeper;
mod kill;
mod left;
mod life;
mod lost_store;
#[path = "../../src/demo/outside.rs"]
mod outside;
mod power;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;
