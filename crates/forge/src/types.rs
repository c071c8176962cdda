//! What forges tell, in words that are the same for all of them.

use crate::{DisplayText, Secret};
use model::{BranchName, CommitId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use url::Url;

/// A name or id that does not look like one from a forge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a {what}")]
pub struct InvalidForgeName {
    /// What was given, cleaned and shortened.
    pub given: String,
    /// What was expected.
    pub what: &'static str,
}

fn invalid(given: &str, what: &'static str) -> InvalidForgeName {
    InvalidForgeName {
        given: crate::display(given, 80).into(),
        what,
    }
}

/// The id by which a forge itself knows a repository. It survives renames, and a repository that is made under an
/// old name has another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryId(String);

impl RepositoryId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u64> for RepositoryId {
    fn from(id: u64) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for RepositoryId {
    type Err = InvalidForgeName;
    fn from_str(text: &str) -> Result<Self, InvalidForgeName> {
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(text, "repository id"))
        }
    }
}

impl TryFrom<String> for RepositoryId {
    type Error = InvalidForgeName;
    fn try_from(text: String) -> Result<Self, InvalidForgeName> {
        text.parse()
    }
}

impl From<RepositoryId> for String {
    fn from(id: RepositoryId) -> Self {
        id.0
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `owner/name`, as people write it when a project is set up. Used once, to learn the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPath {
    owner: String,
    name: String,
}

impl RepositoryPath {
    /// The user or organisation.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name of the repository.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for RepositoryPath {
    type Err = InvalidForgeName;
    fn from_str(text: &str) -> Result<Self, InvalidForgeName> {
        let part = |part: &str| {
            (1..=100).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && !part.bytes().all(|b| b == b'.')
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(Self {
                owner: owner.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(invalid(text, "repository (`owner/name` is expected)")),
        }
    }
}

impl TryFrom<String> for RepositoryPath {
    type Error = InvalidForgeName;
    fn try_from(text: String) -> Result<Self, InvalidForgeName> {
        text.parse()
    }
}

impl From<RepositoryPath> for String {
    fn from(path: RepositoryPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// The number of a pull request within its repository.
    PullRequestNumber
);
number!(
    /// The forge's id of a comment.
    CommentId
);
number!(
    /// The forge's id of a webhook.
    WebhookId
);

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// The forge's id.
    pub id: RepositoryId,
    /// Its present name.
    pub path: RepositoryPath,
    /// The default branch; none while the repository is empty.
    pub default_branch: Option<BranchName>,
    /// Its page for people.
    pub page: Option<Url>,
    /// What our own account may do with it.
    pub ours: Permission,
}

/// What an account may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Nothing, or the account does not exist.
    None,
    /// See it.
    Read,
    /// Push to it.
    Write,
    /// Change its settings.
    Admin,
}

impl Permission {
    /// Whether the account may push.
    #[must_use]
    pub fn may_push(self) -> bool {
        self >= Self::Write
    }
}

/// An account on a forge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// The forge's id.
    pub id: u64,
    /// The name, as the forge writes it.
    pub login: DisplayText,
}

/// Whether a pull request is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestState {
    /// Open.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged, thereby closed.
    Merged,
}

impl PullRequestState {
    /// Whether it is open.
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

/// Where the head of a pull request lives. Only [`HeadOrigin::BaseRepository`] can be trusted, and only together with
/// the push permission of who pushed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadOrigin {
    /// A branch of the repository that the pull request is for, by the forge's id.
    BaseRepository(BranchName),
    /// A branch of another repository.
    Fork {
        /// The forge's id of the fork; none if it was deleted.
        repository: Option<RepositoryId>,
    },
    /// No branch: it was deleted, has a name that we do not accept, or the pull request was pushed without one (such
    /// a push needs no more than the right to read).
    Detached,
}

/// A pull request as it was at the moment of reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// The forge's id of the repository that it is for.
    pub repository: RepositoryId,
    /// Its number there.
    pub number: PullRequestNumber,
    /// Open, closed or merged.
    pub state: PullRequestState,
    /// Where its head lives.
    pub origin: HeadOrigin,
    /// The newest commit.
    pub head: CommitId,
    /// The name of the head branch as text to show, also where it lives in a fork or is not valid for us.
    pub head_label: DisplayText,
    /// The branch that it is for; none if that has a name that we do not accept.
    pub base: Option<BranchName>,
    /// A reference of the base repository under which the head can be fetched, wherever it lives.
    pub fetch_ref: String,
    /// The title.
    pub title: DisplayText,
    /// Who opened it.
    pub author: Account,
    /// The labels, at most 100.
    pub labels: Vec<DisplayText>,
    /// Marked as not ready.
    pub draft: bool,
    /// When it last changed in any way.
    pub updated: Timestamp,
    /// Its page for people.
    pub page: Option<Url>,
}

/// The answer to the question whether a pull request exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullRequestFact {
    /// It does.
    Present(Box<PullRequest>),
    /// The repository was read with the same token at the same time, and has no such pull request.
    Absent,
}

/// The answer to the question where a branch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchFact {
    /// At this commit.
    At(CommitId),
    /// The repository was read with the same token at the same time, and has no such branch.
    Absent,
}

/// A comment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The forge's id.
    pub id: CommentId,
    /// The text, with the mark.
    pub body: String,
    /// Its place on the forge's pages.
    pub page: Option<Url>,
}

/// A comment of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The forge's id.
    pub id: CommentId,
    /// Who wrote it.
    pub author: Account,
    /// The text: anything that its author wants, cut to [`Remark::MAX_BODY`] bytes.
    pub body: String,
    /// Whether it was changed after it was written. Forges let others than its author do that.
    pub edited: bool,
}

impl Remark {
    /// How much of a text is kept, in bytes.
    pub const MAX_BODY: usize = 2000;
    /// The most comments that are read of one pull request: the newest.
    pub const MAX_COUNT: usize = 200;

    /// The text, cut at the end of a character.
    pub(crate) fn cut(mut body: String) -> String {
        body.truncate(body.floor_char_boundary(Self::MAX_BODY));
        body
    }
}

/// The state of our commit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// In progress, or waiting for an approval.
    Pending,
    /// Live and verified.
    Success,
    /// The application's fault.
    Failure,
    /// Ours.
    Error,
}

/// The commit status that we set; its context is always [`CommitStatus::CONTEXT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitStatus {
    /// The state.
    pub state: StatusState,
    /// Cut to [`CommitStatus::MAX_DESCRIPTION`] bytes when it is sent.
    pub description: String,
    /// Where a click leads.
    pub target: Option<Url>,
}

impl CommitStatus {
    /// The name under which forges show it.
    pub const CONTEXT: &str = "maquette";
    /// The longest description in bytes that every forge takes.
    pub const MAX_DESCRIPTION: usize = 140;
}

/// Which transports a remote may be reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// A bare repository on this machine.
    File,
    /// HTTP or HTTPS.
    Http,
}

/// How Git reaches a repository. The credentials are apart from the address, and reach Git neither by argv nor URL.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The address, without user or password.
    pub url: Url,
    /// The transport.
    pub kind: RemoteKind,
    /// The value of the `Authorization` header.
    pub authorization: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_path_can_not_leave_its_place_in_a_url() {
        for bad in [
            "a", "a/b/c", "../x", "a/..", "a/b?x", "a/b#", "a /b", "/b", "a/", "a/b%2f", "ä/b",
        ] {
            assert!(bad.parse::<RepositoryPath>().is_err(), "{bad}");
        }
        assert_eq!(
            "team/shop.web_2".parse::<RepositoryPath>().unwrap().to_string(),
            "team/shop.web_2"
        );
    }

    #[test]
    fn only_write_and_admin_may_push() {
        let may: Vec<bool> = [Permission::None, Permission::Read, Permission::Write, Permission::Admin]
            .map(Permission::may_push)
            .into();
        assert_eq!(may, [false, false, true, true]);
    }
}
