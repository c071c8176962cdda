//! The reverse proxy that all traffic to environments passes through.
//!
//! A request goes, in this order, through: host → sign-in → route → awake? → strip and set headers → dial → stream.
//! What must stay true:
//!
//! - Before sign-in nothing is looked up: every label under a base gets the same bytes at the same cost.
//! - A path under `/.maquette/` and a secret of Maquette's own never reach a previewed application.
//! - Bodies are streamed in both directions and never copied; every queue, head and count has a limit ([`Limits`]).
//! - The crate knows neither the store nor the reconciler. What it needs of them it asks through its ports: [`Routes`],
//!   [`AuthState`], [`Dial`] and [`Wake`].

mod access;
mod activity;
mod answer;
mod awake;
mod body;
mod config;
mod cookie;
mod gateway;
mod headers;
mod hold;
mod host;
mod listen;
mod memory;
mod origin;
mod pages;
mod pool;
mod ports;
mod probe;
mod proxy;
mod secret;
mod sign_in;
mod status;
mod tunnel;
mod upstream;
mod visitor_kind;
mod websocket;

pub use activity::Activity;
pub use config::{Base, Config, ConfigError, Limits, Scheme, Timing};
pub use gateway::Gateway;
pub use headers::TOKEN_HEADER;
pub use listen::ServeError;
pub use memory::{LinkGrant, MemoryAuth, RouteTable, TcpDial};
pub use ports::{
    About, AuthState, AuthUnavailable, Dial, DialError, NoWake, Projects, Route, RouteKey, RouteState, Routes, Session,
    Step, StepState, Target, Visitor, Wake,
};
pub use probe::{PROBE_HEADER, PROBE_PATH, PROBE_TARGET_HEADER, ProbeAnswer, probe_target};
pub use secret::{Secret, TokenHash};
pub use sign_in::sign_in_address;
