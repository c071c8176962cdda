//! Fixtures for tests: real programs, started for one test and gone with it.

pub mod browser;
pub mod gitea;
pub mod held;
pub mod hooks;
pub mod image;
pub mod registry;
pub mod snapshot;
