//! Commit statuses of a local forge.

use super::{
    LocalForge,
    client::{now, read_document, write_document},
    wire,
};
use crate::{CommitStatus, RepositoryId, Result, display};
use model::CommitId;

impl LocalForge {
    /// Our status of a commit.
    ///
    /// # Errors
    /// If the document can not be read.
    pub fn status(&self, commit: &CommitId) -> Result<Option<CommitStatus>> {
        let found: Option<wire::Status> = read_document(&self.root.join(format!("statuses/{commit}.json")))?;
        Ok(found.map(|s| CommitStatus {
            state: s.state,
            description: s.description,
            target: s.target,
        }))
    }
}

pub(super) async fn set(forge: &LocalForge, id: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()> {
    forge.check(id)?;
    let _lock = forge.lock().await?;
    let document = wire::Status {
        context: CommitStatus::CONTEXT.to_owned(),
        state: status.state,
        description: display(&status.description, CommitStatus::MAX_DESCRIPTION).into(),
        target: status.target.clone(),
        updated: now(),
    };
    write_document(&forge.root.join(format!("statuses/{commit}.json")), &document)
}
