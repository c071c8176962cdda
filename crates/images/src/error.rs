//! What can go wrong between a name and a root file system, said for the person who wrote the name.

use crate::{digest::BlobDigest, reference::Reference};
use std::{path::PathBuf, time::Duration};

/// What this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry knows no such image.
    #[error("{image} does not exist at {registry}")]
    NotFound {
        /// Which image.
        image: Box<Reference>,
        /// Who was asked.
        registry: String,
    },
    /// The registry wants credentials, or others. Many say so of images that do not exist.
    #[error("{registry} does not let us read {image}: {}", if *.with_credentials { "the credentials do not suffice, or there is no such image" } else { "it wants credentials, or there is no such image" })]
    Denied {
        /// Which image.
        image: Box<Reference>,
        /// Who was asked.
        registry: String,
        /// Whether the operator gave credentials for that registry.
        with_credentials: bool,
    },
    /// The registry wants us to wait.
    #[error("{registry} limits how often we may ask")]
    RateLimited {
        /// Who was asked.
        registry: String,
        /// How long it wants us to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// The registry can not be reached, or does not work.
    #[error("{registry} can not be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        registry: String,
        /// In words.
        reason: String,
    },
    /// The registry sends, but so little that it would never end.
    #[error("{registry} sends too slowly: {got} bytes within {} s, where {least} are the least", .within.as_secs_f32())]
    Slow {
        /// Who was asked.
        registry: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come at least.
        least: u64,
        /// In which time.
        within: Duration,
    },
    /// The address is not one that a name from a pull request may lead to.
    #[error("{host} is not a public address, and the operator has named no such registry")]
    NotPublic {
        /// Host that was to be asked.
        host: String,
    },
    /// The registry answered something that it should not.
    #[error("{registry} answered something unexpected about {image}: {reason}")]
    Protocol {
        /// Which image.
        image: Box<Reference>,
        /// Who was asked.
        registry: String,
        /// In words.
        reason: String,
    },
    /// Something is larger than is allowed.
    #[error("{what} of {image} is larger than {limit} bytes")]
    TooLarge {
        /// Which image.
        image: Box<Reference>,
        /// What is too large: a manifest, its layers, …
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
    },
    /// What came is not what its digest says.
    #[error("{registry} sent something else than {wanted} for {image}: its digest is {got}")]
    Mismatch {
        /// Which image.
        image: Box<Reference>,
        /// Who was asked.
        registry: String,
        /// The digest that was asked for.
        wanted: BlobDigest,
        /// The digest of what came.
        got: BlobDigest,
    },
    /// The image exists, but not for this machine.
    #[error("{image} has no variant for {wanted}; it has {}", .available.join(", "))]
    NoPlatform {
        /// Which image.
        image: Box<Reference>,
        /// Operating system and architecture.
        wanted: String,
        /// Those that it has.
        available: Vec<String>,
    },
    /// A manifest or configuration that is not understood.
    #[error("{image} can not be used: {reason}")]
    Unsupported {
        /// Which image.
        image: Box<Reference>,
        /// In words.
        reason: String,
    },
    /// The store of blobs can not be read or written.
    #[error("{path} can not be {what}")]
    Io {
        /// What was tried: `read`, `written`, …
        what: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Mismatch { .. } | Self::Io { .. }) || self.is_of_registry()
    }

    /// Whether the registry does not work, or does not want to be asked now: nothing can be concluded about the image.
    #[must_use]
    pub fn is_of_registry(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Unreachable { .. } | Self::Slow { .. }
        )
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => "check the name and the tag; was the image pushed?",
            Self::Denied { .. } => "check the name; for a private image the operator adds credentials for its registry",
            Self::RateLimited { .. } => "it is tried again; credentials or a mirror raise the limit",
            Self::NotPublic { .. } => {
                "an operator who trusts that registry adds it to the configuration, with `private = true`"
            }
            Self::NoPlatform { .. } => "build the image for this machine's architecture too",
            _ => return None,
        })
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
