//! What the policy branch of each project holds now: read once per commit, shared by all environments.

use crate::{
    blueprints,
    context::{Context, Trouble},
};
use blueprint::Policy;
use model::{CommitId, DataSet, Digest, ProjectName, Service, ServiceName, ServiceStack};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The policy branch at one commit.
#[derive(Debug)]
pub(crate) struct PolicyHead {
    pub(crate) commit: CommitId,
    /// Changes when, and only when, what the policy says changes.
    pub(crate) digest: Digest,
    /// What it says; the strict default if it can not be read.
    pub(crate) policy: Policy,
    /// Whether it could be read. Nothing is concluded from one that could not.
    pub(crate) readable: bool,
    /// The databases of the policy branch's own stack and the services that run them; empty if it can not be read.
    pub(crate) data: BTreeMap<ServiceName, (Service, DataSet)>,
    /// The policy branch's own stack, if it can be read.
    pub(crate) stack: Option<ServiceStack>,
}

/// The policy heads of all projects.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<BTreeMap<ProjectName, Arc<PolicyHead>>>);

impl Heads {
    pub(crate) fn get(&self, project: &ProjectName) -> Option<Arc<PolicyHead>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(project)
            .cloned()
    }

    pub(crate) fn put(&self, project: &ProjectName, head: Arc<PolicyHead>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(project.clone(), head);
    }
}

/// Reads the policy branch at a commit, which must be in the mirror.
pub(crate) async fn read(context: &Context, project: &ProjectName, commit: &CommitId) -> Result<PolicyHead, Trouble> {
    let (policy, digest, readable) = blueprints::policy(context, project, commit).await?;
    let stack = blueprints::of_policy_branch(context, project, commit).await?;
    let stack = stack.ok().map(|blueprint| blueprint.stack);
    Ok(PolicyHead {
        commit: commit.clone(),
        digest,
        policy,
        readable,
        data: stack.as_ref().map(databases).unwrap_or_default(),
        stack,
    })
}

/// The databases of a stack, with the services that run them.
pub(crate) fn databases(stack: &ServiceStack) -> BTreeMap<ServiceName, (Service, DataSet)> {
    let found = stack.data.iter().filter_map(|(name, set)| {
        let service = stack.services.get(name)?;
        Some((name.clone(), (service.clone(), set.clone())))
    });
    found.collect()
}
