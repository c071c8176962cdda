//! The mark by which we find our own comment again.
//!
//! The mark is an HTML comment on the last line. Anybody can copy it, so it counts only together with the account
//! that wrote the comment.

use model::{EnvironmentId, InstanceId};
use std::fmt;

/// Names the installation and the subject that a comment belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Marker(String);

/// Marks are short; whatever follows the opening for longer is not one.
const MAX_KEY_BYTES: usize = 100;
const OPEN: &str = "<!-- maquette:";
const CLOSE: &str = " -->";

impl Marker {
    /// The mark of the one comment that an installation has on a pull request of a project.
    ///
    /// It names the project and not the environment, because a pull request that is opened again gets a new
    /// environment but keeps its comment.
    #[must_use]
    pub fn for_project(instance: &InstanceId, project: &model::ProjectName) -> Self {
        Self(format!("{instance}/{project}"))
    }

    /// The mark of a comment about one environment.
    #[must_use]
    pub fn for_environment(instance: &InstanceId, environment: &EnvironmentId) -> Self {
        Self(format!("{instance}/{environment}"))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}{CLOSE}", self.0)
    }
}

/// Appends the mark to the text of a comment. Whatever looks like a mark in the text itself is defused, so that a
/// title that we quote can not claim a comment.
#[must_use]
pub fn marked(body: &str, marker: &Marker) -> String {
    format!("{}\n\n{marker}\n", body.replace("<!--", "&lt;!--").trim_end())
}

/// The mark at the end of a comment, if it has one of ours.
#[must_use]
pub fn marker_of(body: &str) -> Option<Marker> {
    let line = body.trim_end().lines().next_back()?;
    let key = line.trim().strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '/');
    (key.len() <= MAX_KEY_BYTES && key.chars().all(valid)).then(|| Marker(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker::for_project(&"abc123".parse().unwrap(), &"shop".parse().unwrap())
    }

    #[test]
    fn a_mark_is_found_again_also_with_the_line_ends_of_a_browser() {
        let body = marked("**live** at …", &marker());
        assert_eq!(marker_of(&body), Some(marker()));
        assert_eq!(marker_of(&body.replace('\n', "\r\n")), Some(marker()));
    }

    #[test]
    fn a_mark_within_the_text_is_defused() {
        let other = Marker::for_project(&"zzz999".parse().unwrap(), &"shop".parse().unwrap());
        let body = marked(&format!("title: {other}"), &marker());
        assert_eq!(marker_of(&body), Some(marker()));
        assert_eq!(body.matches("<!--").count(), 1);
    }

    #[test]
    fn a_mark_in_the_middle_of_a_comment_does_not_count() {
        assert_eq!(marker_of(&format!("{}\nI quote this", marker())), None);
        assert_eq!(marker_of(""), None);
        assert_eq!(marker_of("<!-- maquette:A B -->"), None);
    }
}
