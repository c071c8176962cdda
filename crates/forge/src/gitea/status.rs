//! Our commit status on Gitea.

use super::Gitea;
use crate::{CommitStatus, RepositoryId, Result, StatusState, display};
use model::CommitId;
use reqwest::Method;
use serde_json::json;

pub(super) async fn set(gitea: &Gitea, id: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()> {
    let path = gitea.path(id).await?;
    let what = format!("status of {} in {path}", commit.short());
    let state = match status.state {
        StatusState::Pending => "pending",
        StatusState::Success => "success",
        StatusState::Failure => "failure",
        StatusState::Error => "error",
    };
    let body = json!({
        "context": CommitStatus::CONTEXT,
        "state": state,
        "description": display(&status.description, CommitStatus::MAX_DESCRIPTION).as_str(),
        "target_url": status.target.as_ref().map_or("", url::Url::as_str),
    });
    let url = gitea.repository_url(&path, &["statuses", commit.as_str()]);
    gitea
        .client
        .write::<serde_json::Value>(&what, Method::POST, url, &body)
        .await?;
    Ok(())
}
