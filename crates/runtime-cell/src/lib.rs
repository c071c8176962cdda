//! The embedded runtime: an environment is a private network of sandboxed services on this machine.

mod client;
pub mod doctor;
pub mod door;
pub mod engine;
pub mod host;
mod names;
pub mod pool;
mod protocol;
mod sandbox;
mod sys;
pub mod unpacker;

pub use client::{CellDialer, CellRuntime};
