//! What the gateway's process asks of the control plane: routes, sign-in, waking. HTTP with JSON over a Unix socket that only
//! the same user and root may use.
//!
//! The gateway goes on while the control plane restarts: it keeps the routes that it has, and for a while the sessions that it
//! has seen.

mod client;
mod dial;
mod front;
mod serve;
mod table;
mod wire;

pub use client::{EdgeClient, EdgeError};
pub use dial::DialProblem;
pub use front::GatewayFront;
pub use serve::EdgeServer;
