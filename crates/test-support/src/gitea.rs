//! A real Gitea on a loopback port, in a temporary directory, as an unprivileged user.

mod api;
mod process;
mod work_tree;

pub use api::{Client, NewRepository};
pub use process::{Error, Gitea};
pub use work_tree::WorkTree;
