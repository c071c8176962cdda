//! The parts of Gitea's documents that we read. Texts are taken as they come and cleaned by who converts them.

use crate::{Account, DisplayText};
use model::Timestamp;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) login: String,
}

impl User {
    /// Ids below one stand for ghosts and for the system itself; they own nothing.
    pub(super) fn account(&self) -> Account {
        Account {
            id: u64::try_from(self.id).unwrap_or(0),
            login: DisplayText::new(&self.login),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) full_name: String,
    #[serde(default)]
    pub(super) default_branch: String,
    #[serde(default)]
    pub(super) empty: bool,
    #[serde(default)]
    pub(super) html_url: String,
    #[serde(default)]
    pub(super) permissions: Option<Permissions>,
}

#[derive(Deserialize)]
pub(super) struct Permissions {
    pub(super) admin: bool,
    pub(super) push: bool,
    pub(super) pull: bool,
}

/// A repository of which only the id matters.
#[derive(Deserialize)]
pub(super) struct RepositoryRef {
    pub(super) id: u64,
}

#[derive(Deserialize)]
pub(super) struct PullRequest {
    pub(super) number: u64,
    #[serde(default)]
    pub(super) user: Option<User>,
    pub(super) title: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) labels: Vec<Label>,
    pub(super) state: String,
    #[serde(default)]
    pub(super) draft: bool,
    #[serde(default)]
    pub(super) merged: bool,
    #[serde(default)]
    pub(super) html_url: String,
    pub(super) base: Side,
    pub(super) head: Side,
    #[serde(default)]
    pub(super) updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

/// The head or the base of a pull request.
#[derive(Deserialize)]
pub(super) struct Side {
    /// The name of the branch; empty for a head that was pushed without one.
    #[serde(default)]
    pub(super) label: String,
    /// The name of the branch, or a full reference if there is none.
    #[serde(rename = "ref")]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) sha: String,
    /// -1 if the repository is gone.
    pub(super) repo_id: i64,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    pub(super) commit: BranchCommit,
}

#[derive(Deserialize)]
pub(super) struct BranchCommit {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Collaborator {
    pub(super) permission: String,
}

#[derive(Deserialize)]
pub(super) struct Comment {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) user: Option<User>,
    #[serde(default)]
    pub(super) body: String,
    #[serde(default)]
    pub(super) html_url: String,
    /// The pull request that it is on.
    #[serde(default)]
    pub(super) pull_request_url: String,
    #[serde(default)]
    pub(super) created_at: Option<String>,
    /// Another time than that of its making once somebody has changed it.
    #[serde(default)]
    pub(super) updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) active: bool,
    #[serde(default)]
    pub(super) config: HookConfig,
}

#[derive(Default, Deserialize)]
pub(super) struct HookConfig {
    #[serde(default)]
    pub(super) url: String,
}

/// An entry of a repository's activity feed.
#[derive(Deserialize)]
pub(super) struct Activity {
    pub(super) op_type: String,
    pub(super) repo_id: u64,
    pub(super) act_user: Option<User>,
    #[serde(default)]
    pub(super) ref_name: String,
    #[serde(default)]
    pub(super) content: String,
}

/// What the feed holds, as text, about a push.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PushContent {
    #[serde(default)]
    pub(super) head_commit: Option<PushCommit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PushCommit {
    pub(super) sha1: String,
}

/// Any webhook delivery; which fields are there depends on the event.
#[derive(Deserialize)]
pub(super) struct Delivery {
    #[serde(default)]
    pub(super) action: String,
    #[serde(default)]
    pub(super) number: Option<u64>,
    #[serde(default, rename = "ref")]
    pub(super) reference: String,
    #[serde(default)]
    pub(super) ref_type: String,
    #[serde(default)]
    pub(super) after: String,
    #[serde(default)]
    pub(super) is_pull: bool,
    #[serde(default)]
    pub(super) issue: Option<Numbered>,
    pub(super) repository: RepositoryRef,
    #[serde(default)]
    pub(super) sender: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u64,
}

/// Gitea writes an absent list as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Reads a time as Gitea writes it (RFC 3339, seconds, any zone). What can not be read is the beginning of time: the
/// value only orders.
pub(super) fn time(text: &str) -> Timestamp {
    parse_time(text).unwrap_or_default()
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let field = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (field(0..4)?, field(5..7)?, field(8..10)?);
    let (hour, minute, second) = (field(11..13)?, field(14..16)?, field(17..19)?);
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes().first()? {
        b'Z' => 0,
        sign @ (b'+' | b'-') => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Days since the epoch of a Gregorian date, counting years from March so that a leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    Some(Timestamp(u64::try_from(seconds).ok()? * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_zone_are_read() {
        assert_eq!(time("1970-01-01T00:00:00Z"), Timestamp(0));
        assert_eq!(time("2024-02-29T12:00:00Z"), Timestamp(1_709_208_000_000));
        assert_eq!(time("2024-02-29T14:30:00+02:30"), time("2024-02-29T12:00:00Z"));
        assert_eq!(time("2024-02-29T12:00:00.5-00:00"), time("2024-02-29T12:00:00Z"));
        for bad in [
            "",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "ä024-01-01T00:00:00Z",
        ] {
            assert_eq!(time(bad), Timestamp(0), "{bad}");
        }
    }
}
