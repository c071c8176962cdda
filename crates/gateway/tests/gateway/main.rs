//! The gateway from outside: real sockets on the loopback, a browser's or an attacker's bytes on one side, a service on the
//! other.

// clippy allows these in test functions, not in what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity)]

mod limits;
mod pool;
mod probes;
mod proxying;
mod sign_in;
mod smuggling;
mod strangers;
mod support;
mod waiting;
mod websockets;
