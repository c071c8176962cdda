//! The real `git`, driven safely.
//!
//! What must stay true:
//! - arguments are an array, never a shell's line; names are validated and none of them begins with `-`;
//! - the environment is empty but for what is set here; no configuration of the machine, the user or a repository's
//!   author has a say: no hooks, no filters, no helpers, no redirects, no transports but the allowed one;
//! - credentials reach git by its environment, not by argv or URL;
//! - every call is bounded in time and output, and its whole process group ends with it.

mod branch;
mod command;
mod error;
mod export;
mod history;
mod mirror;
mod objects;
mod tree;

pub use branch::{Author, Branch, Files, FolderCommit, Pushed};
pub(crate) use command::Run;
pub use command::{Git, GitLimits};
pub use error::GitError;
pub use export::{ExportLimits, Exported, Finding};
pub use history::{Change, ChangeKind, CommitSummary};
pub use mirror::Mirror;
pub(crate) use mirror::{reference, remove_leftovers};
pub(crate) use tree::check_path;
pub use tree::{EntryKind, ObjectId, TreeEntry, TreeLimits};
