//! Pulling from a real registry, and from registries that lie, stall and limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;
mod image;
mod real;
