//! Repositories, branches, accounts and permissions on Gitea.

use super::{Gitea, client::Client, wire};
use crate::{
    Account, BranchFact, ForgeError, Permission, Remote, RemoteKind, Repository, RepositoryId, RepositoryPath, Result,
    Secret,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{BranchName, CommitId};
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use url::Url;

/// How long the present name of a repository is believed. Most functions of the API want the name, not the id.
const PATH_LIFE: Duration = Duration::from_secs(30);
/// The most names that are kept; there is one for each project.
const PATHS_MAX: usize = 1000;
/// How far back the record of pushes is read, in pages of [`super::pull_request::PAGE`].
const FEED_PAGES: usize = 4;

/// The present names of repositories.
#[derive(Debug, Default)]
pub(super) struct Paths(Mutex<HashMap<RepositoryId, (RepositoryPath, Instant)>>);

impl Paths {
    fn get(&self, id: &RepositoryId) -> Option<RepositoryPath> {
        let paths = self.0.lock().ok()?;
        paths
            .get(id)
            .filter(|(_, since)| since.elapsed() < PATH_LIFE)
            .map(|(path, _)| path.clone())
    }

    fn put(&self, id: &RepositoryId, path: &RepositoryPath) {
        if let Ok(mut paths) = self.0.lock() {
            if paths.len() >= PATHS_MAX {
                paths.clear();
            }
            paths.insert(id.clone(), (path.clone(), Instant::now()));
        }
    }
}

impl Gitea {
    /// The present name of a repository, perhaps some seconds old.
    pub(super) async fn path(&self, id: &RepositoryId) -> Result<RepositoryPath> {
        match self.paths.get(id) {
            Some(path) => Ok(path),
            None => Ok(read(self, id).await?.path),
        }
    }

    /// The address of a function of a repository.
    pub(super) fn repository_url(&self, path: &RepositoryPath, rest: &[&str]) -> Url {
        let mut segments = vec!["repos", path.owner(), path.name()];
        segments.extend(rest);
        self.client.url(&segments)
    }

    /// Turns "not found" for something within a repository into a positive absence, or into the error that reading
    /// the repository itself gives: a forge answers the same when something is gone and when we may not see it.
    pub(super) async fn absent_if_visible(&self, id: &RepositoryId, path: &RepositoryPath) -> Result<()> {
        let repository = read(self, id).await?;
        if repository.path != *path {
            return Err(ForgeError::invalid(
                format!("repository {id}"),
                "it was renamed while it was read",
            ));
        }
        if repository.ours < Permission::Read {
            return Err(ForgeError::Forbidden {
                what: format!("repository {id}"),
            });
        }
        Ok(())
    }
}

pub(super) async fn account(client: &Client) -> Result<Account> {
    let user: wire::User = client.get("our account", &client.url(&["user"])).await?;
    Ok(user.account())
}

pub(super) async fn find(gitea: &Gitea, path: &RepositoryPath) -> Result<Repository> {
    let what = format!("repository {path}");
    let found: wire::Repository = gitea.client.get(&what, &gitea.repository_url(path, &[])).await?;
    convert(gitea, &what, found)
}

pub(super) async fn read(gitea: &Gitea, id: &RepositoryId) -> Result<Repository> {
    let what = format!("repository {id}");
    let found: wire::Repository = gitea
        .client
        .get(&what, &gitea.client.url(&["repositories", id.as_str()]))
        .await?;
    if RepositoryId::from(found.id) != *id {
        return Err(ForgeError::invalid(what, "the forge answered with another repository"));
    }
    convert(gitea, &what, found)
}

fn convert(gitea: &Gitea, what: &str, found: wire::Repository) -> Result<Repository> {
    let path: RepositoryPath = found
        .full_name
        .parse()
        .map_err(|error: crate::InvalidForgeName| ForgeError::invalid(what, error.to_string()))?;
    let ours = match found.permissions {
        Some(wire::Permissions { admin: true, .. }) => Permission::Admin,
        Some(wire::Permissions { push: true, .. }) => Permission::Write,
        Some(wire::Permissions { pull: true, .. }) => Permission::Read,
        _ => Permission::None,
    };
    let id = RepositoryId::from(found.id);
    gitea.paths.put(&id, &path);
    Ok(Repository {
        id,
        path,
        default_branch: if found.empty {
            None
        } else {
            found.default_branch.parse().ok()
        },
        page: page(&found.html_url),
        ours,
    })
}

/// An address for people to click on: nothing but HTTP.
pub(super) fn page(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

pub(super) async fn branch(gitea: &Gitea, id: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
    // The name is read anew: nothing in the answer says which repository it is about.
    let path = read(gitea, id).await?.path;
    let what = format!("branch `{branch}` of {path}");
    let url = gitea.repository_url(&path, &["branches", branch.as_str()]);
    match gitea.client.get::<wire::Branch>(&what, &url).await {
        Ok(found) => Ok(BranchFact::At(commit(&what, &found.commit.id)?)),
        Err(ForgeError::NotFound { .. }) => {
            gitea.absent_if_visible(id, &path).await?;
            Ok(BranchFact::Absent)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn commit(what: &str, text: &str) -> Result<CommitId> {
    text.parse()
        .map_err(|error: model::InvalidCommitId| ForgeError::invalid(what, error.to_string()))
}

pub(super) async fn permission(gitea: &Gitea, id: &RepositoryId, login: &str) -> Result<Permission> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=100).contains(&login.len()) || !login.bytes().all(valid) || login.bytes().all(|b| b == b'.') {
        return Ok(Permission::None);
    }
    let path = read(gitea, id).await?.path;
    let what = format!("permission of {login} for {path}");
    let url = gitea.repository_url(&path, &["collaborators", login, "permission"]);
    match gitea.client.get::<wire::Collaborator>(&what, &url).await {
        Ok(found) => Ok(match found.permission.as_str() {
            "owner" | "admin" => Permission::Admin,
            "write" => Permission::Write,
            "read" => Permission::Read,
            _ => Permission::None,
        }),
        Err(ForgeError::NotFound { .. }) => {
            gitea.absent_if_visible(id, &path).await?;
            Ok(Permission::None)
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn pusher(
    gitea: &Gitea,
    id: &RepositoryId,
    branch: &BranchName,
    commit: &CommitId,
) -> Result<Option<Account>> {
    let path = gitea.path(id).await?;
    let what = format!("record of pushes of {path}");
    let reference = format!("refs/heads/{branch}");
    for page in 1..=FEED_PAGES {
        let mut url = gitea.repository_url(&path, &["activities", "feeds"]);
        url.query_pairs_mut()
            .append_pair("limit", "50")
            .append_pair("page", &page.to_string());
        let entries: Vec<wire::Activity> = gitea.client.get(&what, &url).await?;
        if entries.is_empty() {
            break;
        }
        let pushed = entries.into_iter().find(|entry| {
            entry.op_type == "commit_repo"
                && RepositoryId::from(entry.repo_id) == *id
                && entry.ref_name == reference
                && serde_json::from_str::<wire::PushContent>(&entry.content)
                    .is_ok_and(|push| push.head_commit.is_some_and(|head| head.sha1 == commit.as_str()))
        });
        if let Some(entry) = pushed {
            return Ok(entry.act_user.filter(|user| user.id > 0).map(|user| user.account()));
        }
    }
    Ok(None)
}

pub(super) async fn remote(gitea: &Gitea, id: &RepositoryId) -> Result<Remote> {
    let path = gitea.path(id).await?;
    let mut url = gitea.client.base().clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments
            .pop_if_empty()
            .extend([path.owner(), &format!("{}.git", path.name())]);
    }
    // Gitea takes a token as the password of any user.
    let credentials = format!("maquette:{}", gitea.client.token().expose());
    let authorization = Secret::new(format!("Basic {}", STANDARD.encode(credentials)));
    Ok(Remote {
        url,
        kind: RemoteKind::Http,
        authorization: Some(authorization),
    })
}
