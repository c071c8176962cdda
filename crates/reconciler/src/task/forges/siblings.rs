//! The sources of an environment that are not those of its pull request: each is at the branch of the same name where its repository
//! has one, else at its base branch. Branches of forks are none.

use super::branches::branch_twice;
use crate::{
    context::{Context, Trouble},
    pins::{self, Pin},
    project::{Project, Source},
    pulls, service_source, text,
};
use forge::BranchFact;
use model::{BranchName, CommitId, EnvironmentId, Origin, SourceName};
use std::collections::BTreeMap;
use store::{EnvironmentPatch, EnvironmentRow, PullRequestRow};

/// What was seen in one look at a project's forges.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    branches: BTreeMap<(SourceName, BranchName), BranchFact>,
    /// Sources that could not be read, and why: they are not asked again in this look.
    unread: BTreeMap<SourceName, String>,
}

impl Sight {
    /// Notes that a source can not be read.
    pub(super) fn lose(&mut self, source: &SourceName, trouble: &Trouble) {
        let why = format!("can not be read: {}", text::chain(trouble));
        self.unread.entry(source.clone()).or_insert(why);
    }

    async fn branch(&mut self, source: &Source, branch: &BranchName) -> Result<BranchFact, String> {
        let key = (source.name.clone(), branch.clone());
        if let Some(known) = self.branches.get(&key) {
            return Ok(known.clone());
        }
        if let Some(why) = self.unread.get(&source.name) {
            return Err(why.clone());
        }
        match branch_twice(source, branch).await {
            Ok(fact) => {
                self.branches.insert(key, fact.clone());
                Ok(fact)
            }
            Err(trouble) => {
                self.lose(&source.name, &trouble);
                Err(format!("can not be read: {}", text::chain(&trouble)))
            }
        }
    }
}

/// What decides where the further sources of an environment are.
pub(crate) struct Wish<'a> {
    /// The source whose commit something else decides.
    pub(crate) leading: Option<&'a SourceName>,
    /// The branch that is looked for everywhere; none where each source is at its base branch.
    pub(crate) branch: Option<&'a BranchName>,
    /// Branches that somebody asked for.
    pub(crate) chosen: BTreeMap<SourceName, BranchName>,
    /// Commits that may run although nobody who may push has pushed them.
    pub(crate) approved: BTreeMap<SourceName, CommitId>,
    /// How the sources were followed before.
    pub(crate) before: BTreeMap<SourceName, Pin>,
}

impl<'a> Wish<'a> {
    /// For a new environment.
    pub(crate) fn of(project: &'a Project, origin: &Origin, branch: Option<&'a BranchName>) -> Self {
        let shared = matches!(origin, Origin::PullRequests { .. });
        Self {
            leading: project.leading(origin).map(|source| &source.name).filter(|_| !shared),
            branch,
            chosen: BTreeMap::new(),
            approved: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }
}

/// Where a source is to be.
pub(crate) type Found = Result<(BranchName, CommitId), String>;

/// Where the further sources are to be. Commits that are found are in the mirrors.
pub(crate) async fn find(
    context: &Context,
    project: &Project,
    wish: &Wish<'_>,
    sight: &mut Sight,
) -> Result<BTreeMap<SourceName, Found>, Trouble> {
    let mut found = BTreeMap::new();
    let pulls = context.store.pull_request_list(&project.name, true).await?;
    for source in &project.sources {
        if wish.leading == Some(&source.name) {
            continue;
        }
        let at = place(source, wish, &pulls, sight).await;
        let at = match at {
            Ok((branch, commit)) => {
                let via = format!("refs/heads/{branch}");
                let repositories = &context.repositories;
                match repositories.ensure(&project.name, source, &commit, Some(&via)).await {
                    Ok(()) => Ok((branch, commit)),
                    Err(error) => Err(format!("can not be fetched: {}", text::chain(&error))),
                }
            }
            Err(why) => Err(why),
        };
        found.insert(source.name.clone(), at);
    }
    Ok(found)
}

async fn place(source: &Source, wish: &Wish<'_>, pulls: &[PullRequestRow], sight: &mut Sight) -> Found {
    if let Some(branch) = wish.chosen.get(&source.name) {
        return match sight.branch(source, branch).await? {
            BranchFact::At(commit) => Ok((branch.clone(), commit)),
            BranchFact::Absent => Err(format!("has no branch {branch} any more")),
        };
    }
    let mut withheld = None;
    if let Some(branch) = wish.branch
        && let BranchFact::At(commit) = sight.branch(source, branch).await?
    {
        // Of a branch with a pull request it is known whether somebody pushed who may. Of a push since that was asked it is not:
        // the commit of which it is known counts until the next look.
        let of_branch = |pull: &&PullRequestRow| pull.source == source.name && pulls::is_of_branch(pull, branch);
        let of_branch: Vec<&PullRequestRow> = pulls.iter().filter(of_branch).collect();
        let commit = match of_branch.first() {
            Some(pull) if of_branch.iter().all(|pull| pull.head != commit) => pull.head.clone(),
            _ => commit,
        };
        let doubted = |pull: &&PullRequestRow| pull.head == commit && !pull.trusted;
        let approved = wish.approved.get(&source.name) == Some(&commit);
        if approved || !of_branch.iter().any(doubted) {
            return Ok((branch.clone(), commit));
        }
        let why = format!(
            "has a branch {branch} whose commit {} waits for approval",
            commit.short()
        );
        // What is at an older commit of the branch stays there.
        if wish.before.get(&source.name).and_then(|pin| pin.branch.as_ref()) == Some(branch) {
            return Err(why);
        }
        withheld = Some(why);
    }
    let base = &source.base_branch;
    match (sight.branch(source, base).await?, withheld, wish.branch) {
        (BranchFact::At(commit), ..) => Ok((base.clone(), commit)),
        (BranchFact::Absent, Some(withheld), _) => Err(withheld),
        (BranchFact::Absent, None, Some(branch)) if branch != base => {
            Err(format!("has neither a branch {branch} nor its base branch {base}"))
        }
        (BranchFact::Absent, ..) => Err(format!("has no branch {base}, its base branch")),
    }
}

/// What is wanted of an environment's further sources; `None` where nobody follows them.
async fn wish<'a>(
    context: &Context,
    project: &'a Project,
    row: &'a EnvironmentRow,
    of_pull: &'a mut Option<BranchName>,
) -> Result<Option<Wish<'a>>, Trouble> {
    let leading = project.leading(&row.origin).map(|source| &source.name);
    let (leading, branch) = match &row.origin {
        Origin::PullRequest { .. } | Origin::FurtherPullRequest { .. } => {
            let pull = pulls::pull_requests(&context.store, project, row)
                .await?
                .into_iter()
                .next();
            // Who works in a fork chooses nothing beside it.
            *of_pull = pull.filter(|pull| !pull.fork).and_then(|pull| pull.branch.parse().ok());
            (leading, of_pull.as_ref())
        }
        Origin::PullRequests { branch } => (None, Some(branch)),
        Origin::Branch { branch } => (leading, Some(branch)),
        Origin::Baseline { .. } => (leading, None),
        Origin::Clone { .. } | Origin::Golden | Origin::Spare => return Ok(None),
    };
    Ok(Some(Wish {
        leading,
        branch,
        chosen: pins::branches(row),
        approved: pins::approved(row),
        before: pins::pins(row),
    }))
}

/// Lets the further sources of an environment follow their branches.
pub(super) async fn look(
    context: &Context,
    project: &Project,
    id: &EnvironmentId,
    sight: &mut Sight,
) -> Result<(), Trouble> {
    let Some(row) = context.store.environment_get(id).await?.filter(|row| row.wanted) else {
        return Ok(());
    };
    // Where there is one source, and was no other, there is nothing to follow.
    if project.further().next().is_none() && pins::pins(&row).is_empty() {
        return Ok(());
    }
    let mut of_pull = None;
    let Some(wish) = wish(context, project, &row, &mut of_pull).await? else {
        return Ok(());
    };
    let found = find(context, project, &wish, sight).await?;
    let leading = wish.leading.cloned();
    // Read anew: asking forges takes time in which people may ask for something else.
    let Some(row) = context.store.environment_get(id).await?.filter(|row| row.wanted) else {
        return Ok(());
    };
    let lost = leading.and_then(|source| Some((source.clone(), sight.unread.get(&source)?.clone())));
    let (head, overrides) = moved(project, &row, &found, lost);
    if head == row.head && overrides == row.overrides {
        return Ok(());
    }
    let patch = EnvironmentPatch {
        head: Some(head),
        overrides: Some(overrides),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(id, &patch).await?;
    context.nudges.environment(id);
    context.nudges.announcements();
    Ok(())
}

/// The commits and the overrides of an environment whose further sources are to be there. What can not be had stays as it is.
fn moved(
    project: &Project,
    row: &EnvironmentRow,
    found: &BTreeMap<SourceName, Found>,
    lost: Option<(SourceName, String)>,
) -> (BTreeMap<SourceName, CommitId>, serde_json::Value) {
    let before = pins::pins(row);
    let (mut head, mut deployed) = (row.head.clone(), pins::deployed(row));
    // A source that is not configured any more is no part of what is new.
    if project.sources.iter().any(|source| head.contains_key(&source.name)) {
        head.retain(|name, _| project.source(name).is_some() || service_source::is(name));
    }
    let mut table = BTreeMap::new();
    for (source, at) in found {
        let pin = match at {
            Ok((branch, commit)) => {
                // A commit that somebody asked for stays until the branch moves on.
                if deployed.get(source) != Some(commit) {
                    deployed.remove(source);
                    head.insert(source.clone(), commit.clone());
                }
                Pin {
                    branch: Some(branch.clone()),
                    trouble: None,
                }
            }
            Err(why) => Pin {
                branch: before.get(source).and_then(|pin| pin.branch.clone()),
                trouble: Some(why.clone()),
            },
        };
        table.insert(source.clone(), pin);
    }
    if let Some((source, why)) = lost {
        table.insert(
            source,
            Pin {
                branch: None,
                trouble: Some(why),
            },
        );
    }
    // A project with one source has nothing to tell.
    if project.further().next().is_none() {
        table.clear();
    }
    let overrides = pins::with_deployed(&pins::with_pins(&row.overrides, &table), &deployed);
    (head, overrides)
}

/// The commits and the overrides of a new environment.
pub(crate) fn begin(
    overrides: &serde_json::Value,
    leading: Option<(&SourceName, &CommitId)>,
    found: &BTreeMap<SourceName, Found>,
) -> (BTreeMap<SourceName, CommitId>, serde_json::Value) {
    let mut head: BTreeMap<SourceName, CommitId> = leading
        .into_iter()
        .map(|(source, commit)| (source.clone(), commit.clone()))
        .collect();
    let mut table = BTreeMap::new();
    for (source, at) in found {
        let (branch, trouble) = match at {
            Ok((branch, commit)) => {
                head.insert(source.clone(), commit.clone());
                (Some(branch.clone()), None)
            }
            Err(why) => (None, Some(why.clone())),
        };
        table.insert(source.clone(), Pin { branch, trouble });
    }
    (head, pins::with_pins(overrides, &table))
}

#[cfg(test)]
mod tests;
