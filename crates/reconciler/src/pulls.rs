//! Which pull requests an environment is for.

use crate::{pins, project::Project};
use model::{BranchName, Origin};
use store::{EnvironmentRow, PullRequestRow, PullRequestState, Store, StoreError};

/// The pull requests that an environment is for, as they were seen last. Of those that share one the open ones come first, then
/// those of earlier sources.
///
/// # Errors
/// [`StoreError`].
pub async fn pull_requests(
    store: &Store,
    project: &Project,
    environment: &EnvironmentRow,
) -> Result<Vec<PullRequestRow>, StoreError> {
    if let Some((source, number)) = project.pull_request_of(&environment.origin) {
        let known = store.pull_request_get(&project.name, &source.name, number).await?;
        return Ok(known.into_iter().collect());
    }
    if !matches!(environment.origin, Origin::PullRequests { .. }) {
        return Ok(Vec::new());
    }
    let members = pins::members(environment);
    let mut rows = store.pull_request_list(&project.name, false).await?;
    rows.retain(|row| {
        members
            .get(&row.source)
            .is_some_and(|numbers| numbers.contains(&row.number))
    });
    let place = |row: &PullRequestRow| project.sources.iter().position(|source| source.name == row.source);
    rows.sort_by_key(|row| (row.state != PullRequestState::Open, place(row), row.number));
    Ok(rows)
}

/// Whether a pull request has its head on a branch of this name in the repository itself.
pub(crate) fn is_of_branch(row: &PullRequestRow, branch: &BranchName) -> bool {
    !row.fork && row.branch == forge::DisplayText::new(branch.as_str()).as_str()
}

/// Whether a pull request belongs to an environment.
pub(crate) fn is_for(project: &Project, environment: &EnvironmentRow, row: &PullRequestRow) -> bool {
    match project.pull_request_of(&environment.origin) {
        Some((source, number)) => source.name == row.source && number == row.number,
        None => pins::members(environment)
            .get(&row.source)
            .is_some_and(|numbers| numbers.contains(&row.number)),
    }
}
