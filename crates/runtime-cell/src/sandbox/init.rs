//! The first process of a container that asks for one: it passes signals on and reaps what others leave behind. A small program of
//! the machine, linked with nothing, so that it runs in any root.

use super::oci::find;
use std::path::PathBuf;

/// The programs that are known, which are the names of their Debian packages up to `-static`. The preferred one first.
pub(crate) const PROGRAMS: [&str; 2] = ["catatonit", "tini-static"];
/// Where it is in containers: in memory, in every root.
pub(crate) const TARGET: &str = "/dev/init";

/// The one that this machine has.
pub(crate) fn program() -> Option<PathBuf> {
    PROGRAMS.into_iter().find_map(find)
}

/// A command that runs behind it.
pub(crate) fn behind(argv: &[String]) -> Vec<String> {
    let words = [TARGET.to_owned(), "--".to_owned()];
    words.into_iter().chain(argv.iter().cloned()).collect()
}
