//! The one repository of a local forge.

use super::{LocalForge, client::storage, refs};
use crate::{
    Account, BranchFact, ForgeError, Permission, Remote, RemoteKind, Repository, RepositoryId, RepositoryPath, Result,
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

pub(super) fn branch(forge: &LocalForge, id: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
    forge.check(id)?;
    Ok(head(forge, branch)?.map_or(BranchFact::Absent, BranchFact::At))
}

/// Where a branch stands.
pub(super) fn head(forge: &LocalForge, branch: &BranchName) -> Result<Option<CommitId>> {
    Ok(references(forge)?.remove(&format!("refs/heads/{branch}")))
}

/// All branches, and the newest commits of the pull requests.
pub(super) fn references(forge: &LocalForge) -> Result<HashMap<String, CommitId>> {
    refs::read(&forge.repository, &["refs/heads/", "refs/maquette/pulls/"])
        .map_err(storage("references of the local forge", &forge.repository))
}

pub(super) fn permission(forge: &LocalForge, id: &RepositoryId, login: &str) -> Result<Permission> {
    forge.check(id)?;
    Ok(match login {
        _ if login == LocalForge::ours().login.as_str() => Permission::Admin,
        _ if login == LocalForge::developer().login.as_str() => Permission::Write,
        _ => Permission::Read,
    })
}

pub(super) fn pusher(
    forge: &LocalForge,
    id: &RepositoryId,
    branch: &BranchName,
    commit: &CommitId,
) -> Result<Option<Account>> {
    forge.check(id)?;
    Ok((head(forge, branch)?.as_ref() == Some(commit)).then(LocalForge::developer))
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
