//! The one owner of secret values: encrypted at rest, in types that can not print.
//!
//! Everything else holds a [`model::SecretRef`] and asks the [`Vault`] at the moment of use. The vault is a directory with one file
//! per secret, each sealed with age to the instance's key ([`Key`]), and reads no clock: the time is an argument.
//!
//! A value has a [`Version`], drawn at random when it is set. A version tells whether a value has changed and nothing about the
//! value, so that it may be part of plans, logs and generations.

mod error;
mod file;
mod guard;
mod key;
mod name;
mod value;
mod vault;

pub use error::{Error, Result};
pub use guard::{Kind, Suspicion, suspicion};
pub use key::Key;
pub use name::SecretName;
pub use value::{SecretValue, TooLong};
pub use vault::{Entry, Vault, Version};
