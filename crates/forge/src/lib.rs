//! The port to forges, and the forges that implement it.
//!
//! A forge tells what pull requests exist and takes one comment and one commit status for each. Everything that
//! comes from a forge was written by strangers: texts are bounded and cleaned, ids validated, bodies capped before
//! they are parsed. This crate knows nothing of runtimes; what a comment says is written elsewhere.
//!
//! - [`Forge`] is the port; [`gitea`] and [`local`] implement it, with the same file names side by side.
//! - [`Delivery`] is a webhook after its signature was verified.
//! - [`git`] drives the real `git` for mirrors, trees and checkouts.

mod delivery;
mod error;
pub mod git;
pub mod gitea;
pub mod local;
mod marker;
mod port;
mod secret;
mod text;
mod types;

pub use delivery::{
    Delivery, DeliveryError, DeliveryId, Headers, MAX_DELIVERY_BYTES, PullRequestAction, Received, Subject,
};
pub use error::{ForgeError, Result, Unreachable};
pub use marker::{Marker, marked, marker_of};
pub use port::Forge;
pub use secret::Secret;
pub use text::{DisplayText, display};
pub use types::{
    Account, BranchFact, Comment, CommentId, CommitStatus, HeadOrigin, InvalidForgeName, Permission, PullRequest,
    PullRequestFact, PullRequestNumber, PullRequestState, Remark, Remote, RemoteKind, Repository, RepositoryId,
    RepositoryPath, StatusState, WebhookId,
};
