//! The one repository of a local forge.

use super::{LocalForge, client::git_failed};
use crate::{
    Account, BranchFact, ForgeError, Permission, Remote, RemoteKind, Repository, RepositoryId, RepositoryPath, Result,
    git::GitError,
};
use model::{BranchName, CommitId};
use std::collections::HashMap;
use url::Url;

pub(super) fn find(forge: &LocalForge, path: &RepositoryPath) -> Result<Repository> {
    if *path == forge.path {
        return read(forge, &forge.id);
    }
    Err(ForgeError::NotFound {
        what: format!("repository {path}"),
    })
}

pub(super) fn read(forge: &LocalForge, id: &RepositoryId) -> Result<Repository> {
    forge.check(id)?;
    Ok(Repository {
        id: forge.id.clone(),
        path: forge.path.clone(),
        default_branch: Some(forge.default_branch.clone()),
        page: None,
        ours: Permission::Admin,
    })
}

pub(super) async fn branch(forge: &LocalForge, id: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
    forge.check(id)?;
    Ok(head(forge, branch).await?.map_or(BranchFact::Absent, BranchFact::At))
}

/// Where a branch stands.
pub(super) async fn head(forge: &LocalForge, branch: &BranchName) -> Result<Option<CommitId>> {
    Ok(references(forge).await?.remove(&format!("refs/heads/{branch}")))
}

/// All branches, and the newest commits of the pull requests.
pub(super) async fn references(forge: &LocalForge) -> Result<HashMap<String, CommitId>> {
    let what = "references of the local forge";
    let args = [
        "--format=%(objectname) %(refname)",
        "refs/heads/",
        "refs/maquette/pulls/",
    ];
    let listed = forge.git(what, "for-each-ref", args).await?;
    let mut all = HashMap::new();
    for line in String::from_utf8_lossy(&listed).lines() {
        let unreadable = || {
            git_failed(what)(GitError::Parse {
                subcommand: "for-each-ref",
            })
        };
        let (commit, name) = line.split_once(' ').ok_or_else(unreadable)?;
        all.insert(name.to_owned(), commit.parse().map_err(|_| unreadable())?);
    }
    Ok(all)
}

pub(super) fn permission(forge: &LocalForge, id: &RepositoryId, login: &str) -> Result<Permission> {
    forge.check(id)?;
    Ok(match login {
        _ if login == LocalForge::ours().login.as_str() => Permission::Admin,
        _ if login == LocalForge::developer().login.as_str() => Permission::Write,
        _ => Permission::Read,
    })
}

pub(super) async fn pusher(
    forge: &LocalForge,
    id: &RepositoryId,
    branch: &BranchName,
    commit: &CommitId,
) -> Result<Option<Account>> {
    forge.check(id)?;
    Ok((head(forge, branch).await?.as_ref() == Some(commit)).then(LocalForge::developer))
}

pub(super) fn remote(forge: &LocalForge, id: &RepositoryId) -> Result<Remote> {
    forge.check(id)?;
    let url = Url::from_file_path(&forge.repository)
        .map_err(|()| ForgeError::invalid("local forge", "its path is not absolute"))?;
    Ok(Remote {
        url,
        kind: RemoteKind::File,
        authorization: None,
    })
}
