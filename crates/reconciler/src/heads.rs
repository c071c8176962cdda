//! What the policy branch of each project holds now: read once per commit, shared by all environments.

use crate::{
    blueprints,
    context::{Context, Trouble},
    secret,
};
use blueprint::Policy;
use model::{CommitId, DataSet, Digest, ProjectName, Service, ServiceName, ServiceStack};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};
use store::GenerationRow;

/// The policy branch at one commit.
#[derive(Debug)]
pub(crate) struct PolicyHead {
    pub(crate) commit: CommitId,
    /// Changes when, and only when, what the policy says changes.
    pub(crate) digest: Digest,
    /// What it says; the strict default if it can not be read.
    pub(crate) policy: Policy,
    /// The secrets of the project that had a value when it was read.
    pub(crate) available: BTreeSet<String>,
    /// Whether it could be read. Nothing is concluded from one that could not: what there is stays as it is.
    pub(crate) readable: bool,
    /// Why it could not be read, in one line.
    pub(crate) problem: Option<String>,
    /// The databases of the policy branch's own stack and the services that run them; empty if it can not be read.
    pub(crate) data: BTreeMap<ServiceName, (Service, DataSet)>,
    /// The policy branch's own stack, if it can be read.
    pub(crate) stack: Option<ServiceStack>,
}

/// The policy heads of all projects.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<BTreeMap<ProjectName, Known>>);

/// What is known of a project's policy branch.
#[derive(Debug)]
struct Known {
    /// The commit that was read last.
    read: CommitId,
    /// The secrets of the project that had a value then.
    available: BTreeSet<String>,
    /// What holds: that commit, or the last one before it whose policy can be read.
    head: Arc<PolicyHead>,
    /// Why what was read last does not hold.
    problem: Option<String>,
}

impl Heads {
    pub(crate) fn get(&self, project: &ProjectName) -> Option<Arc<PolicyHead>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(project)
            .map(|known| Arc::clone(&known.head))
    }

    /// Whether this commit is the one that was read last, and these are the secrets that had a value then.
    pub(crate) fn has_read(&self, project: &ProjectName, commit: &CommitId, available: &BTreeSet<String>) -> bool {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |known: &Known| known.read == *commit && known.available == *available;
        table.get(project).is_some_and(is)
    }

    /// Takes note of what was read. While a policy can not be read, the one before it holds.
    pub(crate) fn put(&self, project: &ProjectName, head: Arc<PolicyHead>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = table.remove(project).map(|known| known.head);
        let known = Known {
            read: head.commit.clone(),
            available: head.available.clone(),
            problem: head.problem.clone(),
            head: before
                .filter(|before| !head.readable && before.readable)
                .unwrap_or(head),
        };
        table.insert(project.clone(), known);
    }

    /// What people should know while the policy branch's settings can not be used.
    pub(crate) fn note(&self, project: &ProjectName) -> Option<String> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = table.get(project)?;
        let problem = known.problem.as_ref()?;
        let meanwhile = if known.head.readable {
            format!("What {} says holds until they can.", known.head.commit.short())
        } else {
            "What there is stays as it is, and nothing new is made until they can.".to_owned()
        };
        let read = known.read.short();
        Some(format!(
            "The policy branch's settings can not be used at {read}: {problem}. {meanwhile}"
        ))
    }
}

/// The newest policy by which something was made that has not ended, if it can be read: what holds when the policy branch's can not,
/// and when its forge does not answer, after a restart.
pub(crate) async fn last_readable(context: &Context, project: &ProjectName) -> Result<Option<PolicyHead>, Trouble> {
    let mut newest: Option<GenerationRow> = None;
    for row in context.store.environment_list(Some(project), false).await? {
        let found = context.store.generation_newest(&row.id).await?;
        let found = found.filter(|found| found.policy_commit.is_some());
        newest = newest.into_iter().chain(found).max_by_key(|row| row.created);
    }
    let Some(commit) = newest.and_then(|row| row.policy_commit) else {
        return Ok(None);
    };
    let head = read(context, project, &commit).await?;
    Ok(Some(head).filter(|head| head.readable))
}

/// Reads the policy branch at a commit, which must be in the mirror.
pub(crate) async fn read(context: &Context, project: &ProjectName, commit: &CommitId) -> Result<PolicyHead, Trouble> {
    let available = secret::available(context, project);
    let (policy, digest, problem) = blueprints::policy(context, project, commit).await?;
    let stack = blueprints::of_policy_branch(context, project, commit).await?;
    let stack = stack.ok().map(|blueprint| blueprint.stack);
    Ok(PolicyHead {
        commit: commit.clone(),
        digest,
        policy,
        available,
        readable: problem.is_none(),
        problem,
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
