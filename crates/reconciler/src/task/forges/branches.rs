//! Branches: environments that follow one, and single services that come from one.

use super::{SECOND_READ, end, follow};
use crate::{
    context::{Context, Trouble},
    project::{Project, Source},
    service_source,
};
use forge::BranchFact;
use model::{BranchName, EnvironmentId, Origin};
use std::collections::BTreeMap;
use store::{EnvironmentPatch, EnvironmentRow};
use tokio::time::sleep;

/// Branch environments follow their branch and end with it; the baseline follows the base branch.
pub(super) async fn look(
    context: &Context,
    project: &Project,
    source: &Source,
    id: &EnvironmentId,
) -> Result<(), Trouble> {
    // Read anew before each change: asking the forge takes time in which people may ask for something else.
    let Some(row) = context.store.environment_get(id).await? else {
        return Ok(());
    };
    services(context, project, source, &row).await?;
    let (branch, ends) = match &row.origin {
        Origin::Branch { branch } => (branch.clone(), true),
        Origin::Baseline { branch } => (branch.clone(), false),
        _ => return Ok(()),
    };
    match branch_twice(source, &branch).await? {
        BranchFact::At(commit) => {
            let via = format!("refs/heads/{branch}");
            context
                .repositories
                .ensure(&project.name, source, &commit, Some(&via))
                .await?;
            if let Some(row) = context.store.environment_get(id).await? {
                follow(context, source, &row, &commit, true).await?;
            }
        }
        BranchFact::Absent if ends && row.wanted => {
            end(context, &row, &format!("branch {branch} was deleted"), None).await?;
        }
        BranchFact::Absent => {}
    }
    Ok(())
}

/// Services that are taken from a branch of their own follow it; when it is gone they stay at its last commit.
async fn services(
    context: &Context,
    project: &Project,
    source: &Source,
    environment: &EnvironmentRow,
) -> Result<(), Trouble> {
    let mut found = BTreeMap::new();
    for (service, branch) in service_source::wanted(environment) {
        let Some(own) = service_source::name(&service) else {
            continue;
        };
        if let BranchFact::At(commit) = source.forge.branch(&source.repository, &branch).await? {
            let via = format!("refs/heads/{branch}");
            context
                .repositories
                .ensure(&project.name, source, &commit, Some(&via))
                .await?;
            found.insert(own, commit);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let Some(environment) = context.store.environment_get(&environment.id).await? else {
        return Ok(());
    };
    let mut head = environment.head.clone();
    head.extend(found);
    if head != environment.head {
        let patch = EnvironmentPatch {
            head: Some(head),
            ..EnvironmentPatch::default()
        };
        context.store.environment_update(&environment.id, &patch).await?;
        context.nudges.environment(&environment.id);
    }
    Ok(())
}

pub(super) async fn branch_twice(source: &Source, branch: &BranchName) -> Result<BranchFact, Trouble> {
    match source.forge.branch(&source.repository, branch).await? {
        BranchFact::Absent => {
            sleep(SECOND_READ).await;
            Ok(source.forge.branch(&source.repository, branch).await?)
        }
        found => Ok(found),
    }
}
