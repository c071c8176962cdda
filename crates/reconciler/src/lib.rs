//! Observes, asks the planner, carries plans out.
//!
//! Everything here is level-triggered: no task takes an input, and what wakes it says only "look again". A task may be ended
//! at any point and started again; what is true is in the store, on the forge and in the runtime.
//!
//! - One worker per environment (`environment/`): it makes generations, plans, carries out what is ready in parallel.
//! - One file per background task (`task/`): forges, goldens, announcements, left-overs.
//! - `comment` renders what a reviewer reads, without I/O.

mod blueprints;
mod clock;
pub mod comment;
mod context;
mod database;
mod disk;
mod dockerfile;
mod egress;
mod environment;
mod front;
mod golden;
mod handle;
mod heads;
mod id;
mod image;
mod keep;
mod listing;
mod no_cells;
mod nudge;
mod pins;
mod places;
mod project;
mod pulls;
mod repository;
mod scope;
mod secret;
mod service_source;
mod spare;
mod standing;
mod task;
mod text;
mod trust;

pub use clock::{Clock, SystemClock};
pub use context::Settings;
pub use disk::disk_note;
pub use egress::{Presets, presets};
pub use front::{Entrance, Front, FrontError, InFront};
pub use golden::keeper as golden_keeper;
pub use handle::{Handle, Intent, Reconciler, SecretUser, StartError};
pub use id::new_environment_id;
pub use image::{ImageSource, keeper as image_keeper};
pub use keep::{Keep, LostAccess};
pub use no_cells::NoCells;
pub use nudge::Nudges;
pub use pins::{Pin, is_member, pins};
pub use places::Clusters;
pub use project::{Base, Project, Source};
pub use pulls::pull_requests;
pub use repository::RepositoryError;
pub use scope::Scope;
pub use spare::{Memory, MemoryReading, SpareFor, SpareReport, SpareSettings, UnknownMemory};
pub use standing::{notes, standing};
