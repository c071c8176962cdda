//! The embedded runtime: an environment is a private network of sandboxed services on this machine.

pub mod doctor;
pub mod engine;
pub mod pool;
mod sandbox;
mod sys;
