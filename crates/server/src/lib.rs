//! The composition root: REST API, webhooks, and what the gateway's process asks for.
//!
//! Handlers are thin. What they show is read from the store by the views; what they change is an intent in the store and a
//! nudge to the reconciler. What must stay true:
//!
//! - Whether a caller may do something is decided by one function (`access::authorise`), called from one layer, which denies
//!   what it does not know.
//! - Every body has a limit and every answer a time, but for the streams that are asked for.
//! - What goes to callers as an error comes out of one map (`problem`); the reasons inside go to the log.

mod access;
mod app;
mod claim;
pub mod config;
mod edge;
mod handle;
mod intent;
mod listen;
pub mod memory;
mod problem;
mod resolve;
mod router;
mod secret;
mod sources;
mod start;
mod view;

pub use app::{App, WebhookSecrets};
pub use claim::listen;
pub use edge::{DialProblem, EdgeClient, EdgeError, EdgeServer, GatewayFront};
pub use listen::{Listening, serve};
pub use reconciler::NoCells;
pub use router::router;
pub use secret::{TokenError, operator_token};
pub use sources::SourceError;
pub use start::{Server, StartError, StateDir};
