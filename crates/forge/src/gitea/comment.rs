//! Our one comment on a pull request on Gitea.

use super::{Gitea, repository, wire};
use crate::{
    Comment, CommentId, Forge as _, ForgeError, Marker, PullRequestNumber, Remark, RepositoryId, RepositoryPath,
    Result, marked, marker_of,
};
use reqwest::Method;
use serde_json::json;

pub(super) async fn ours(
    gitea: &Gitea,
    id: &RepositoryId,
    number: PullRequestNumber,
    marker: &Marker,
    known: Option<CommentId>,
) -> Result<Option<Comment>> {
    let path = gitea.path(id).await?;
    if let Some(comment) = read_known(gitea, &path, number, marker, known).await? {
        return Ok(Some(comment));
    }
    Ok(list(gitea, &path, number, marker).await?.into_iter().next())
}

pub(super) async fn put(
    gitea: &Gitea,
    id: &RepositoryId,
    number: PullRequestNumber,
    marker: &Marker,
    known: Option<CommentId>,
    body: &str,
) -> Result<Comment> {
    let path = gitea.path(id).await?;
    let body = marked(body, marker);
    let found = match read_known(gitea, &path, number, marker, known).await? {
        Some(comment) => Some(comment),
        None => {
            let mut all = list(gitea, &path, number, marker).await?.into_iter();
            let oldest = all.next();
            for surplus in all {
                let what = format!("surplus comment {} on {path}", surplus.id);
                gitea
                    .client
                    .delete(&what, comment_url(gitea, &path, surplus.id))
                    .await?;
            }
            oldest
        }
    };
    match found {
        Some(comment) if comment.body == body => Ok(comment),
        Some(comment) => {
            let what = format!("comment {} on pull request {number} of {path}", comment.id);
            let url = comment_url(gitea, &path, comment.id);
            Ok(convert(
                gitea
                    .client
                    .write(&what, Method::PATCH, url, &json!({ "body": body }))
                    .await?,
            ))
        }
        None => {
            let what = format!("new comment on pull request {number} of {path}");
            let url = list_url(gitea, &path, number);
            Ok(convert(
                gitea
                    .client
                    .write(&what, Method::POST, url, &json!({ "body": body }))
                    .await?,
            ))
        }
    }
}

/// Reviews are not among them: they have no place in the list of comments.
pub(super) async fn remarks(gitea: &Gitea, id: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>> {
    // The name is read anew: nothing in the answer says which repository it is about.
    let path = repository::read(gitea, id).await?.path;
    let us = gitea.account().await?;
    let what = format!("comments on pull request {number} of {path}");
    let mut found: Vec<wire::Comment> = gitea.client.get(&what, &list_url(gitea, &path, number)).await?;
    found.sort_by_key(|comment| comment.id);
    let by_others = |comment: wire::Comment| {
        let author = comment.user.as_ref().filter(|user| user.id > 0)?.account();
        let edited = comment.created_at.is_none() || comment.created_at != comment.updated_at;
        (author.id != us.id).then(|| Remark {
            id: CommentId(comment.id),
            author,
            body: Remark::cut(comment.body),
            edited,
        })
    };
    let mut remarks: Vec<Remark> = found.into_iter().filter_map(by_others).collect();
    Ok(remarks.split_off(remarks.len().saturating_sub(Remark::MAX_COUNT)))
}

fn comment_url(gitea: &Gitea, path: &RepositoryPath, id: CommentId) -> url::Url {
    gitea.repository_url(path, &["issues", "comments", &id.to_string()])
}

fn list_url(gitea: &Gitea, path: &RepositoryPath, number: PullRequestNumber) -> url::Url {
    gitea.repository_url(path, &["issues", &number.to_string(), "comments"])
}

/// The comment with the id that it had last time, if it still is ours.
async fn read_known(
    gitea: &Gitea,
    path: &RepositoryPath,
    number: PullRequestNumber,
    marker: &Marker,
    known: Option<CommentId>,
) -> Result<Option<Comment>> {
    let Some(known) = known else { return Ok(None) };
    let what = format!("comment {known} on {path}");
    match gitea
        .client
        .get::<wire::Comment>(&what, &comment_url(gitea, path, known))
        .await
    {
        Ok(found) if found.pull_request_url.ends_with(&format!("/pulls/{number}")) => {
            Ok(is_ours(gitea, &found, marker).await?.then(|| convert(found)))
        }
        Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All comments with our mark and of our account, the oldest first.
async fn list(
    gitea: &Gitea,
    path: &RepositoryPath,
    number: PullRequestNumber,
    marker: &Marker,
) -> Result<Vec<Comment>> {
    let what = format!("comments on pull request {number} of {path}");
    // Gitea gives all of them at once; the size of the answer is bounded by the client.
    let found: Vec<wire::Comment> = gitea.client.get(&what, &list_url(gitea, path, number)).await?;
    let mut ours = Vec::new();
    for comment in found {
        if is_ours(gitea, &comment, marker).await? {
            ours.push(convert(comment));
        }
    }
    ours.sort_by_key(|comment| comment.id);
    Ok(ours)
}

async fn is_ours(gitea: &Gitea, comment: &wire::Comment, marker: &Marker) -> Result<bool> {
    let us = gitea.account().await?;
    let by_us = comment
        .user
        .as_ref()
        .is_some_and(|user| user.id > 0 && user.account().id == us.id);
    Ok(by_us && marker_of(&comment.body).as_ref() == Some(marker))
}

fn convert(comment: wire::Comment) -> Comment {
    Comment {
        id: CommentId(comment.id),
        body: comment.body,
        page: repository::page(&comment.html_url),
    }
}
