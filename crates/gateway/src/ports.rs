//! What the gateway needs from the rest of Maquette: four ports, each small enough to be answered from memory.

mod auth;
mod dial;
mod routes;
mod shared_text;

pub use auth::{AuthState, AuthUnavailable, Projects, Session, Visitor};
pub use dial::{Dial, DialError, NoWake, Target, Wake};
pub use routes::{About, Route, RouteKey, RouteState, Routes, Step, StepState};
