//! Blueprints: `maquette.yaml` and a Compose file, read from a tree of files that the caller gives.
//!
//! `stack:` comes from the commit that an environment is for, `policy:` from the project's policy branch and from nowhere
//! else. All that is wrong is reported at once, each with file, line, column and what to do. Nothing is dropped in silence:
//! what is not supported is refused by name, or warned of where nothing is lost without it.
//!
//! This crate does no I/O, reads no clock and sees no environment of a process: everything it knows is in its arguments. All
//! input is foreign; sizes, depths and numbers are bounded before anything is built from them.

mod assemble;
mod blueprint;
mod compose;
mod context;
mod data;
mod dotenv;
mod engine;
mod escape;
mod explain;
mod glob;
mod init;
mod interpolate;
mod jobs;
mod order;
mod problem;
mod public;
mod read;
mod settings;
mod sources;
mod suggest;
mod tree;
mod units;
mod words;
mod yaml;

pub use assemble::{complete_built, complete_built_workload};
pub use blueprint::{Blueprint, Resolved, compose_resolved};
pub use compose::{reference as compose_reference, reference_keys as compose_keys};
pub use context::{Address, Context, PullRequest};
pub use explain::{Explained, Explanation, Place};
pub use init::{Written, init};
pub use problem::{Excerpt, Problem, Problems, Severity, Whose};
pub use settings::{Baseline, FILE as SETTINGS_FILE, Policy, Triggers, Uncovered, preset as egress_preset, schema};
pub use sources::{Further, FurtherCommit};
pub use tree::{FILE_BYTES_MAX, Kind, MemoryTree, PATHS_MAX, Tree};
