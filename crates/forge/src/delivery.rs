//! Webhook deliveries: bounded, verified, and only then read. What each forge sends is in its own folder.

use crate::{Account, PullRequestNumber, RepositoryId, Secret};
use hmac::{Hmac, Mac};
use model::{BranchName, CommitId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;

/// The largest body that is looked at, in bytes. Who reads it from the network must stop there, too.
pub const MAX_DELIVERY_BYTES: usize = 2 << 20;

/// The headers of a delivery.
pub type Headers = http::HeaderMap;

/// The forge's id of a delivery, by which a repeated one is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(String);

impl DeliveryId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        ((1..=64).contains(&text.len()) && text.bytes().all(valid)).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What came of a request whose signature was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Something that concerns us.
    Delivery(Delivery),
    /// An event that we do not follow. It is answered like a good one, so that the forge does not switch us off.
    Ignored {
        /// The id.
        id: DeliveryId,
        /// The name of the event, cleaned.
        event: String,
    },
}

/// A verified delivery. It is a nudge: what is true is read from the forge afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// For dropping repetitions.
    pub id: DeliveryId,
    /// The forge's id of the repository.
    pub repository: RepositoryId,
    /// Who caused it.
    pub sender: Option<Account>,
    /// What it is about.
    pub subject: Subject,
}

/// What a delivery is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A pull request was opened, pushed to, closed …
    PullRequest {
        /// Its number.
        number: PullRequestNumber,
        /// What happened, as a hint.
        action: PullRequestAction,
    },
    /// A branch was pushed to, made or deleted.
    Branch {
        /// Its name.
        branch: BranchName,
        /// Its new commit; none if it was deleted or the forge does not say.
        commit: Option<CommitId>,
    },
    /// Somebody wrote a comment on a pull request.
    Comment {
        /// The number of the pull request.
        number: PullRequestNumber,
    },
    /// The repository itself was renamed, moved or deleted.
    Repository,
}

/// What happened to a pull request. It is for logs and measurements; nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestAction {
    /// Opened.
    Opened,
    /// New commits.
    Pushed,
    /// Closed or merged.
    Closed,
    /// Opened again.
    Reopened,
    /// Anything else: title, base, labels, reviews …
    Changed,
}

/// A delivery was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// More than [`MAX_DELIVERY_BYTES`].
    #[error("the delivery is larger than {MAX_DELIVERY_BYTES} bytes")]
    TooLarge,
    /// A header that every delivery has is missing, twice there or malformed.
    #[error("the delivery has no proper `{header}` header")]
    Header {
        /// Its name.
        header: &'static str,
    },
    /// The signature is not ours.
    #[error("the signature of the delivery is wrong")]
    Signature,
    /// Signed, but not what this kind of forge sends.
    #[error("the delivery of event `{event}` can not be read: {reason}")]
    Malformed {
        /// The event, cleaned.
        event: String,
        /// Why, bounded and safe to print.
        reason: String,
    },
}

/// The one value of a header; a header that is there twice is none.
pub(crate) fn header<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, DeliveryError> {
    let error = DeliveryError::Header { header: name };
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| error),
        _ => Err(error),
    }
}

/// Checks a body against its HMAC-SHA-256 in hexadecimal digits, in constant time. An empty secret verifies nothing:
/// a forge on which none is set would otherwise be open to everybody.
pub(crate) fn verify_signature(body: &[u8], secret: &Secret, signature: &str) -> Result<(), DeliveryError> {
    let given = hex::decode(signature).map_err(|_| DeliveryError::Signature)?;
    if secret.expose().is_empty() {
        return Err(DeliveryError::Signature);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).map_err(|_| DeliveryError::Signature)?;
    mac.update(body);
    mac.verify_slice(&given).map_err(|_| DeliveryError::Signature)
}
