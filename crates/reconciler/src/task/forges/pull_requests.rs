//! Pull requests: who is trusted, which of them the policy covers, and their end.

use super::{
    New, SECOND_READ, UNCOVERED,
    approvals::{self, Seen},
    create, end, follow, is_suppressed,
    siblings::{self, Sight, Wish},
};
use crate::{
    context::{Context, Trouble},
    pins,
    project::{Project, Source},
    pulls,
};
use blueprint::{Triggers, Uncovered};
use forge::{HeadOrigin, PullRequest, PullRequestFact, PullRequestNumber, PullRequestState};
use model::{BranchName, Origin, Power};
use std::{collections::BTreeMap, time::Duration};
use store::{EnvironmentPatch, EnvironmentRow, PullRequestRow};
use tokio::time::sleep;

/// Forges may tell of a push before they have noted who pushed. These are the pauses before the record is read again; after them
/// the pull request counts as pushed by nobody who may, until a later look finds the record.
const RECORD_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
];
/// A pull request in which nothing happened for longer has no record that is still to come.
const RECORD_WITHIN: Duration = Duration::from_secs(600);

/// A pull request that is open.
pub(super) async fn observe(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    seen: &mut Seen,
    sight: &mut Sight,
) -> Result<(), Trouble> {
    let known = context
        .store
        .pull_request_get(&project.name, &source.name, pull.number.0)
        .await?;
    let trust = match &known {
        // Trust was established for this very commit; a new one is asked about anew.
        Some(known) if known.head == pull.head && known.trusted => Some(true),
        _ => {
            let recent = context.now().since(pull.updated) < RECORD_WITHIN;
            let first = known.as_ref().is_none_or(|known| known.head != pull.head);
            let trust = is_trusted(source, pull, if first && recent { &RECORD_PAUSES } else { &[] }).await?;
            seen.note_record(pull.number.0, trust.is_none() && recent);
            trust
        }
    };
    let trusted = trust.unwrap_or(false);
    let row = row(context, project, source, pull, trusted, 0);
    if known.as_ref().is_none_or(|known| {
        PullRequestRow {
            observed: row.observed,
            ..known.clone()
        } != row
    }) {
        context.store.pull_request_put(&row).await?;
        context.nudges.announcements();
        // A stack can see the title and the base branch.
        if let Some(environment) = environment_for(context, project, &row).await? {
            context.nudges.environment(&environment.id);
        }
    }
    if pull.state.is_open() {
        environment_of(context, project, source, pull, trusted, sight).await?;
        if !trusted {
            approvals::look(context, project, source, pull, seen).await?;
        }
    }
    Ok(())
}

/// The environment that a pull request has.
pub(super) async fn environment_for(
    context: &Context,
    project: &Project,
    pull: &PullRequestRow,
) -> Result<Option<EnvironmentRow>, Trouble> {
    let rows = context.store.environment_list(Some(&project.name), false).await?;
    Ok(rows.into_iter().find(|row| pulls::is_for(project, row, pull)))
}

fn row(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    trusted: bool,
    closed_reads: u32,
) -> PullRequestRow {
    PullRequestRow {
        project: project.name.clone(),
        source: source.name.clone(),
        number: pull.number.0,
        title: pull.title.to_string(),
        author: pull.author.login.to_string(),
        branch: pull.head_label.to_string(),
        head: pull.head.clone(),
        base: pull.base.as_ref().map_or_else(String::new, ToString::to_string),
        state: match pull.state {
            PullRequestState::Open => store::PullRequestState::Open,
            PullRequestState::Closed => store::PullRequestState::Closed,
            PullRequestState::Merged => store::PullRequestState::Merged,
        },
        fork: !matches!(pull.origin, HeadOrigin::BaseRepository(_)),
        trusted,
        draft: pull.draft,
        labels: pull.labels.iter().map(ToString::to_string).collect(),
        web_url: pull.page.as_ref().map(ToString::to_string),
        observed: context.now(),
        closed_reads,
    }
}

/// A branch of the base repository, pushed by somebody who may push at this moment. Whether there is a record of the push is
/// asked again after each of the pauses; `None` if there is none.
async fn is_trusted(source: &Source, pull: &PullRequest, pauses: &[Duration]) -> Result<Option<bool>, Trouble> {
    let HeadOrigin::BaseRepository(branch) = &pull.origin else {
        return Ok(Some(false));
    };
    let mut pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    for pause in pauses {
        if pusher.is_some() {
            break;
        }
        sleep(*pause).await;
        pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    }
    let Some(pusher) = pusher else { return Ok(None) };
    let permission = source
        .forge
        .permission(&source.repository, pusher.login.as_str())
        .await?;
    Ok(Some(permission.may_push()))
}

/// A pull request that we know as open and that the list does not have: it counts as closed when two reads say so.
pub(super) async fn missing(
    context: &Context,
    project: &Project,
    source: &Source,
    row: &PullRequestRow,
    seen: &mut Seen,
    sight: &mut Sight,
) -> Result<(), Trouble> {
    let number = PullRequestNumber(row.number);
    for _ in 0..2 {
        match source.forge.pull_request(&source.repository, number).await? {
            PullRequestFact::Present(pull) if pull.state.is_open() => {
                return observe(context, project, source, &pull, seen, sight).await;
            }
            PullRequestFact::Present(_) | PullRequestFact::Absent => sleep(SECOND_READ).await,
        }
    }
    let state = match source.forge.pull_request(&source.repository, number).await? {
        PullRequestFact::Present(pull) if pull.state.is_open() => {
            return observe(context, project, source, &pull, seen, sight).await;
        }
        PullRequestFact::Present(pull) if pull.state == PullRequestState::Merged => store::PullRequestState::Merged,
        PullRequestFact::Present(_) | PullRequestFact::Absent => store::PullRequestState::Closed,
    };
    let closed = PullRequestRow {
        state,
        closed_reads: 2,
        observed: context.now(),
        ..row.clone()
    };
    let others = others(context, project, &closed).await?;
    // The environment first: of a pull request that is noted as closed nobody looks again whether its environment ends.
    if let Some(environment) = environment_for(context, project, row).await?.filter(|row| row.wanted)
        && others.is_empty()
    {
        let word = if state == store::PullRequestState::Merged {
            "merged"
        } else {
            "closed"
        };
        let reason = format!("{} was {word}", called(project, source, row.number));
        end(context, &environment, &reason, None).await?;
    }
    context.store.pull_request_put(&closed).await?;
    context.nudges.announcements();
    Ok(())
}

/// A pull request in words, with its source where that is not the one that carries the blueprint.
fn called(project: &Project, source: &Source, number: u64) -> String {
    match project.primary() {
        Some(primary) if primary.name != source.name => format!("pull request {number} of {}", source.name),
        _ => format!("pull request {number}"),
    }
}

/// The branch whose pull requests share an environment with this one. One from a fork has its own: its author chose the name.
fn shared_branch<'a>(project: &Project, pull: &'a PullRequest) -> Option<&'a BranchName> {
    match &pull.origin {
        HeadOrigin::BaseRepository(branch) if project.joins => Some(branch),
        _ => None,
    }
}

/// The other open pull requests that share an environment with this one.
async fn others(context: &Context, project: &Project, row: &PullRequestRow) -> Result<Vec<PullRequestRow>, Trouble> {
    let Some(environment) = environment_for(context, project, row).await? else {
        return Ok(Vec::new());
    };
    let mut all = pulls::pull_requests(&context.store, project, &environment).await?;
    all.retain(|other| {
        other.state == store::PullRequestState::Open && (&other.source, other.number) != (&row.source, row.number)
    });
    Ok(all)
}

/// Ends the environment that a pull request had while the configuration said something else of sharing.
async fn end_others(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    shares: bool,
) -> Result<(), Trouble> {
    for row in context.store.environment_list(Some(&project.name), false).await? {
        let shared = matches!(row.origin, Origin::PullRequests { .. });
        if !row.wanted || shared == shares {
            continue;
        }
        let own = row.origin == project.origin_of(&source.name, pull.number.0);
        let member = pins::members(&row)
            .get(&source.name)
            .is_some_and(|n| n.contains(&pull.number.0));
        if own {
            let reason = "pull requests of one branch share an environment now";
            end(context, &row, reason, None).await?;
        } else if shared && member && !project.joins {
            end(
                context,
                &row,
                "each pull request has an environment of its own now",
                None,
            )
            .await?;
        }
    }
    Ok(())
}

async fn environment_of(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    trusted: bool,
    sight: &mut Sight,
) -> Result<(), Trouble> {
    let shared = shared_branch(project, pull);
    let origin = match shared {
        Some(branch) => Origin::PullRequests { branch: branch.clone() },
        None => project.origin_of(&source.name, pull.number.0),
    };
    end_others(context, project, source, pull, shared.is_some()).await?;
    if trusted {
        context
            .repositories
            .ensure(&project.name, source, &pull.head, Some(&pull.fetch_ref))
            .await?;
    }
    match context.store.environment_find(&project.name, &origin).await? {
        Some(environment) if !environment.wanted => Ok(()),
        Some(environment) => match uncovered_twice(context, project, source, pull).await? {
            Some(_) if is_covered_by_others(context, project, source, pull).await? => Ok(()),
            Some(reason) => end(context, &environment, &reason, Some(UNCOVERED)).await,
            None if shared.is_some() => join(context, source, &environment, pull, trusted).await,
            None => follow(context, source, &environment, &pull.head, trusted).await,
        },
        None if is_suppressed(context, project, &origin, source, &pull.head).await? => Ok(()),
        None if !is_admitted(context, project, pull) => Ok(()),
        None => {
            let branch = match &pull.origin {
                HeadOrigin::BaseRepository(branch) => Some(branch),
                _ => None,
            };
            let wish = Wish::of(project, &origin, branch);
            let found = siblings::find(context, project, &wish, sight).await?;
            let members = BTreeMap::from([(&source.name, [pull.number.0])]);
            let new = New {
                head: shared.is_none().then_some((&source.name, &pull.head)),
                found,
                approved: trusted.then_some(&pull.head),
                power: Power::Running,
                reason: &called(project, source, pull.number.0),
                overrides: match shared {
                    Some(_) => serde_json::json!({ pins::MEMBERS: members }),
                    None => serde_json::json!({}),
                },
                origin,
            };
            create(context, project, new).await
        }
    }
}

/// Notes that a pull request shares an environment. Its commits are followed like those of all sources there; the first one that may
/// run lets the environment begin.
async fn join(
    context: &Context,
    source: &Source,
    environment: &EnvironmentRow,
    pull: &PullRequest,
    trusted: bool,
) -> Result<(), Trouble> {
    let overrides = pins::with_member(environment, &source.name, pull.number.0);
    let begins = trusted && environment.approved_commit.is_none();
    if overrides == environment.overrides && !begins {
        return Ok(());
    }
    let patch = EnvironmentPatch {
        overrides: Some(overrides),
        approved_commit: begins.then(|| Some(pull.head.clone())),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.environment(&environment.id);
    context.nudges.announcements();
    Ok(())
}

/// Whether the policy gives another one an environment of those that share it.
async fn is_covered_by_others(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
) -> Result<bool, Trouble> {
    let Some(head) = context.heads.get(&project.name).filter(|head| head.readable) else {
        return Ok(true);
    };
    let this = row(context, project, source, pull, false, 0);
    let covered = |other: &PullRequestRow| {
        let labels = other.labels.iter().map(String::as_str);
        head.policy
            .triggers
            .uncovered(other.draft, &other.base, labels)
            .is_none()
    };
    Ok(others(context, project, &this).await?.iter().any(covered))
}

/// Whether the policy wants environments for pull requests like this one. Nothing is made before the policy was read, or while
/// it can not be.
fn is_admitted(context: &Context, project: &Project, pull: &PullRequest) -> bool {
    context
        .heads
        .get(&project.name)
        .zip(pull.base.as_ref())
        .is_some_and(|(head, _)| head.readable && uncovered(&head.policy.triggers, pull).is_none())
}

/// Why the policy does not want the environment of this pull request any more, if two reads of it say so. A policy that was not
/// read, or can not be, ends nothing.
async fn uncovered_twice(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
) -> Result<Option<String>, Trouble> {
    let Some(head) = context.heads.get(&project.name).filter(|head| head.readable) else {
        return Ok(None);
    };
    let triggers = &head.policy.triggers;
    if uncovered(triggers, pull).is_none() {
        return Ok(None);
    }
    sleep(SECOND_READ).await;
    match source.forge.pull_request(&source.repository, pull.number).await? {
        PullRequestFact::Present(again) if again.state.is_open() => Ok(uncovered(triggers, &again)),
        // It was closed meanwhile: the next look ends it for that reason.
        PullRequestFact::Present(_) | PullRequestFact::Absent => Ok(None),
    }
}

/// Why a policy gives a pull request no environment, in words.
fn uncovered(triggers: &Triggers, pull: &PullRequest) -> Option<String> {
    let labels = pull.labels.iter().map(|label| label.as_str());
    let base = pull.base.as_ref().map_or("", |base| base.as_str());
    let number = pull.number;
    Some(match triggers.uncovered(pull.draft, base, labels)? {
        Uncovered::All => "the policy gives pull requests no previews of their own".to_owned(),
        Uncovered::Draft => format!("pull request {number} is a draft, and drafts get no preview"),
        Uncovered::Base => format!("pull request {number} is for a branch whose pull requests get no preview"),
        Uncovered::Labels => match triggers.labels.as_slice() {
            [only] => format!("pull request {number} does not have the label {only}, which asks for a preview"),
            several => format!(
                "pull request {number} has none of the labels that ask for a preview: {}",
                several.join(", ")
            ),
        },
    })
}
