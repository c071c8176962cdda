//! Comments of a local forge.

use super::{
    LocalForge,
    client::{now, numbers, read_document, write_document},
    wire,
};
use crate::{
    Account, Comment, CommentId, ForgeError, Marker, PullRequestNumber, Remark, RepositoryId, Result, marked, marker_of,
};
use std::path::PathBuf;

/// A comment on a pull request, by anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalComment {
    /// Its id.
    pub id: CommentId,
    /// Who wrote it.
    pub account: Account,
    /// The text.
    pub body: String,
}

impl LocalForge {
    /// All comments on a pull request, the oldest first.
    ///
    /// # Errors
    /// If a document can not be read.
    pub fn comments(&self, number: PullRequestNumber) -> Result<Vec<LocalComment>> {
        let directory = self.comments_of(number);
        let mut all = Vec::new();
        for id in numbers(&directory)? {
            if let Some(found) = read_document::<wire::Comment>(&directory.join(format!("{id}.json")))? {
                all.push(LocalComment {
                    id: CommentId(found.id),
                    account: found.account,
                    body: found.body,
                });
            }
        }
        Ok(all)
    }

    /// Writes a comment as somebody.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn comment_add(&self, number: PullRequestNumber, account: Account, body: &str) -> Result<CommentId> {
        let lock = self.lock().await?;
        let id = self.comment_new(number, account, body)?;
        drop(lock);
        self.emit(crate::Subject::Comment { number })?;
        Ok(id)
    }

    /// Writes a new comment, under the lock. It changes its pull request, as on every forge: by that it is found.
    fn comment_new(&self, number: PullRequestNumber, account: Account, body: &str) -> Result<CommentId> {
        let Some(mut pull) = self.document(number)? else {
            return Err(ForgeError::NotFound {
                what: format!("pull request {number}"),
            });
        };
        let directory = self.comments_of(number);
        std::fs::create_dir_all(&directory).map_err(super::client::storage("comments", &directory))?;
        let id = numbers(&directory)?.last().copied().unwrap_or(0) + 1;
        let id = self.comment_save(number, id, account, body)?;
        pull.updated = now();
        self.save(&pull)?;
        Ok(id)
    }

    fn comment_save(&self, number: PullRequestNumber, id: u64, account: Account, body: &str) -> Result<CommentId> {
        let document = wire::Comment {
            id,
            account,
            body: body.to_owned(),
            updated: now(),
        };
        write_document(&self.comments_of(number).join(format!("{id}.json")), &document)?;
        Ok(CommentId(id))
    }

    fn comments_of(&self, number: PullRequestNumber) -> PathBuf {
        self.root.join("comments").join(number.to_string())
    }
}

pub(super) fn ours(
    forge: &LocalForge,
    id: &RepositoryId,
    number: PullRequestNumber,
    marker: &Marker,
) -> Result<Option<Comment>> {
    forge.check(id)?;
    let us = LocalForge::ours();
    let found = forge
        .comments(number)?
        .into_iter()
        .find(|comment| comment.account.id == us.id && marker_of(&comment.body).as_ref() == Some(marker));
    Ok(found.map(|comment| Comment {
        id: comment.id,
        body: comment.body,
        page: None,
    }))
}

pub(super) fn remarks(forge: &LocalForge, id: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>> {
    forge.check(id)?;
    let us = LocalForge::ours();
    let mut all = forge.comments(number)?;
    all.retain(|comment| comment.account.id != us.id);
    let newest = all.split_off(all.len().saturating_sub(Remark::MAX_COUNT));
    let remark = |comment: LocalComment| Remark {
        id: comment.id,
        author: comment.account,
        body: Remark::cut(comment.body),
        edited: false,
    };
    Ok(newest.into_iter().map(remark).collect())
}

pub(super) async fn put(
    forge: &LocalForge,
    id: &RepositoryId,
    number: PullRequestNumber,
    marker: &Marker,
    body: &str,
) -> Result<Comment> {
    // Found and written under one lock, so that there is never a second one to be deleted.
    let _lock = forge.lock().await?;
    let body = marked(body, marker);
    let id = match ours(forge, id, number, marker)? {
        Some(comment) if comment.body == body => comment.id,
        Some(comment) => forge.comment_save(number, comment.id.0, LocalForge::ours(), &body)?,
        None => forge.comment_new(number, LocalForge::ours(), &body)?,
    };
    Ok(Comment { id, body, page: None })
}
