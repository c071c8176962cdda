//! OCI images: named, resolved, pulled by digest, kept by content and unpacked.
//!
//! - [`Reference`] reads what a Compose file calls an image.
//! - [`Client`] asks registries: which manifest a name stands for now, and its blobs. The name comes from a pull request, so
//!   only public addresses are asked unless the operator named the registry ([`Registries`]).
//! - [`Blobs`] keeps what was pulled under its digest, verified before it has that name.
//! - [`layer`] turns layers into a root file system. It is meant to run in a sandbox of its own, as the owner of nothing but the
//!   target.
//!
//! Formats: OCI image specification 1.1, OCI distribution specification 1.1, and Docker's image manifest version 2, schema 2.

mod auth;
mod base;
mod blobs;
mod client;
mod config;
mod digest;
mod dockerfile;
mod dockerignore;
mod error;
mod facts;
mod guard;
pub mod layer;
mod manifest;
mod pull;
mod reference;
mod registries;
mod user;

pub use base::documented;
pub use blobs::{Blobs, Collected};
pub use client::Client;
pub use config::{ImageConfig, ImageHealth};
pub use digest::{BlobDigest, InvalidDigest};
pub use dockerfile::{DockerfileImage, dockerfile_images};
pub use dockerignore::DockerIgnore;
pub use error::{Error, Result};
pub use manifest::{Layer, Platform};
pub use pull::{Described, Image, Limits, Pace, Progress};
pub use reference::{DEFAULT_REGISTRY, InvalidReference, Reference};
pub use registries::{Credentials, Registries, Registry};
pub use user::{ImageUser, UnknownUser};
