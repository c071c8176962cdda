//! Databases of environments: prepared, migrated, seeded, read back; and the keys of goldens.
//!
//! PostgreSQL only, in this version. Nothing here dials: every function gets a stream that leads to the engine's way in for
//! its administrator (`runtime::Target::Administration`), where the role [`ADMINISTRATOR`] is accepted and is a superuser.
//! The database is chosen when the stream is opened, so one kind of stream serves all of them.
//!
//! What must stay true:
//!
//! - Each function may be repeated, also after it was killed half-way. What was done is recorded in the database itself, in
//!   the same transaction as the deed wherever PostgreSQL allows that.
//! - The application's role is never a superuser, whatever its name. With the Compose image `POSTGRES_USER` is one, and a
//!   superuser is a shell. `postgres` is a role like any other here, because clusters are initialised with
//!   [`ADMINISTRATOR`] as their bootstrap superuser.
//! - Migrations create objects that belong to the application's role. They run on the administrator's connection under
//!   `SET SESSION AUTHORIZATION`, which gives objects their owner but is no barrier: a file that wants to can take the
//!   administrator's rights back. Isolation of an engine from everything else is the runtime's, not this crate's.

mod contents;
mod error;
mod keys;
mod migrate;
mod prepare;
mod run;
mod script;
mod session;

pub use contents::{Contents, contents};
pub use error::{DataError, StatementError};
pub use keys::{Decision, Divergence, GoldenPlan, golden_for, keep_or_clone};
pub use migrate::{MigrationTiming, migrate, seed};
pub use prepare::prepare;
pub use session::ADMINISTRATOR;
