//! Databases of environments: prepared, migrated, seeded, read back; and the keys of goldens.
//!
//! PostgreSQL only, in this version. Nothing here dials: a [`Database`] gets streams. One leads to the engine's way in for its
//! administrator (`runtime::Target::Administration`), where the role [`ADMINISTRATOR`] is accepted and is a superuser; where
//! files are run, another leads to the engine's port. The database is chosen when a stream is opened, so one kind of stream
//! serves all of them.
//!
//! What must stay true:
//!
//! - Each function may be repeated, also after it was killed half-way. What was done is recorded in the database itself, in
//!   the same transaction as the deed wherever PostgreSQL allows that.
//! - The application's role is never a superuser, whatever its name. With the Compose image `POSTGRES_USER` is one, and a
//!   superuser is a shell. `postgres` is a role like any other here, because clusters are initialised with
//!   [`ADMINISTRATOR`] as their bootstrap superuser.
//! - Nothing that the application or a file has made is run with the administrator's rights: files run on a connection that the
//!   application's role has opened with its own password, and the administrator's connection resolves names in `pg_catalog` only
//!   and reads no table that is not its own.

mod contents;
mod database;
mod error;
mod keys;
mod migrate;
mod prepare;
mod run;
mod script;
mod session;

pub use contents::Contents;
pub use database::Database;
pub use error::{DataError, StatementError};
pub use keys::{Decision, Divergence, GoldenPlan, golden_for, keep_or_clone};
pub use migrate::MigrationTiming;
pub use session::ADMINISTRATOR;
