//! Host labels: the part of an environment's address in front of the base.

use crate::{Digest, Origin, ProjectName, ServiceName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest DNS label (RFC 1035, section 2.3.4), in bytes.
const LABEL_MAX: usize = 63;

/// Names that Maquette keeps for itself under every base.
const RESERVED: [&str; 8] = ["auth", "oauth", "www", "api", "console", "maquette", "status", "mail"];

/// The text was not a host label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host label: 1 to 63 lower-case letters, digits and inner dashes are expected")]
pub struct InvalidHostLabel;

/// One DNS label under a base, for example `pr-12` or `api--pr-12--shop`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostLabel(String);

impl HostLabel {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostLabel {
    type Err = InvalidHostLabel;
    fn from_str(text: &str) -> Result<Self, InvalidHostLabel> {
        let bytes = text.as_bytes();
        let valid = (1..=LABEL_MAX).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-';
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHostLabel)
        }
    }
}

impl TryFrom<String> for HostLabel {
    type Error = InvalidHostLabel;
    fn try_from(text: String) -> Result<Self, InvalidHostLabel> {
        text.parse()
    }
}

impl From<HostLabel> for String {
    fn from(label: HostLabel) -> Self {
        label.0
    }
}

impl fmt::Display for HostLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters and digits of any text, in lower case, everything else a single dash; empty if nothing is left.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(200) {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// Shortens a label to 63 bytes; what was cut is replaced by a hash of the whole, so that labels stay apart.
fn bounded(label: String, whole: &str) -> HostLabel {
    if label.len() <= LABEL_MAX {
        return HostLabel(label);
    }
    let hash = &Digest::of(whole.as_bytes()).as_str()[..8].to_owned();
    let head = label[..LABEL_MAX - 9].trim_end_matches('-');
    HostLabel(format!("{head}-{hash}"))
}

fn of_branch(kind: &str, branch: &str) -> String {
    let slug = slug(branch);
    if slug == branch {
        return format!("{kind}-{slug}");
    }
    let hash = &Digest::of(branch.as_bytes()).as_str()[..6].to_owned();
    let slug: String = slug.chars().take(30).collect();
    format!("{kind}-{slug}-{hash}").replace("--", "-")
}

/// The label of an environment: `pr-12`, `pr-3-api` where the pull request is of a further source, `prs-fix-login` where it is for all
/// pull requests of that branch, `br-fix-login`, `base`, followed by `--project` where the base is shared by several
/// projects. A branch whose slug says less than its name gets a hash, so that `a/b` and `a-b` do not meet.
#[must_use]
pub fn environment_label(origin: &Origin, shared_base: Option<&ProjectName>) -> HostLabel {
    let own = match origin {
        Origin::PullRequest { number } => format!("pr-{number}"),
        Origin::FurtherPullRequest { source, number } => format!("pr-{number}-{source}"),
        Origin::PullRequests { branch } => of_branch("prs", branch.as_str()),
        Origin::Branch { branch } => of_branch("br", branch.as_str()),
        Origin::Baseline { .. } => "base".to_owned(),
        Origin::Clone { of } => format!("copy-{of}"),
        Origin::Golden => "golden".to_owned(),
        Origin::Spare => "spare".to_owned(),
    };
    let label = match shared_base {
        Some(project) => format!("{own}--{project}"),
        None => own,
    };
    debug_assert!(!RESERVED.contains(&label.as_str()));
    let whole = label.clone();
    bounded(label, &whole)
}

/// The label of a further service of an environment: `api--pr-12`.
#[must_use]
pub fn service_label(service: &ServiceName, environment: &HostLabel) -> HostLabel {
    let whole = format!("{service}--{environment}");
    bounded(format!("{}--{environment}", slug(service.as_str())), &whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> Origin {
        Origin::Branch {
            branch: name.parse().unwrap(),
        }
    }

    #[test]
    fn labels_are_valid_and_stay_apart() {
        let long = format!("feature/{}", "x".repeat(200));
        let labels: Vec<HostLabel> = ["a/b", "a-b", "A-b", "größe", "$(reboot)", long.as_str(), "---", "x--y"]
            .iter()
            .filter_map(|name| name.parse().ok().map(|branch| Origin::Branch { branch }))
            .map(|origin| environment_label(&origin, Some(&"shop".parse().unwrap())))
            .collect();
        for label in &labels {
            assert!(label.as_str().parse::<HostLabel>().is_ok(), "{label}");
        }
        let unique: std::collections::BTreeSet<_> = labels.iter().collect();
        assert_eq!(unique.len(), labels.len(), "{labels:?}");
    }

    #[test]
    fn addresses_read_as_documented() {
        let shop: ProjectName = "shop".parse().unwrap();
        let pr = Origin::PullRequest { number: 12 };
        assert_eq!(environment_label(&pr, None).as_str(), "pr-12");
        assert_eq!(environment_label(&pr, Some(&shop)).as_str(), "pr-12--shop");
        assert_eq!(
            service_label(&"api".parse().unwrap(), &environment_label(&pr, None)).as_str(),
            "api--pr-12"
        );
        assert_eq!(environment_label(&branch("fix-login"), None).as_str(), "br-fix-login");
        let further = Origin::FurtherPullRequest {
            source: "api".parse().unwrap(),
            number: 3,
        };
        assert_eq!(environment_label(&further, Some(&shop)).as_str(), "pr-3-api--shop");
        let joined = Origin::PullRequests {
            branch: "fix-login".parse().unwrap(),
        };
        assert_eq!(environment_label(&joined, None).as_str(), "prs-fix-login");
    }
}
