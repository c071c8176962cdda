//! Pull requests: who is trusted, which of them the policy covers, and their end.

use super::{
    New, SECOND_READ, UNCOVERED,
    approvals::{self, Seen},
    create, end, follow, is_suppressed,
};
use crate::{
    context::{Context, Trouble},
    project::{Project, Source},
};
use blueprint::{Triggers, Uncovered};
use forge::{HeadOrigin, PullRequest, PullRequestFact, PullRequestNumber, PullRequestState};
use model::{Origin, Power};
use std::time::Duration;
use store::PullRequestRow;
use tokio::time::sleep;

/// Forges may tell of a push before they have noted who pushed. These are the pauses before the record is read again.
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
) -> Result<(), Trouble> {
    let known = context
        .store
        .pull_request_get(&project.name, &source.name, pull.number.0)
        .await?;
    let trusted = match &known {
        // Trust was established for this very commit; a new one is asked about anew.
        Some(known) if known.head == pull.head && known.trusted => true,
        _ => {
            let recent = context.now().since(pull.updated) < RECORD_WITHIN;
            let first = known.as_ref().is_none_or(|known| known.head != pull.head);
            is_trusted(source, pull, if first && recent { &RECORD_PAUSES } else { &[] }).await?
        }
    };
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
        let origin = Origin::PullRequest { number: row.number };
        if let Some(environment) = context.store.environment_find(&project.name, &origin).await? {
            context.nudges.environment(&environment.id);
        }
    }
    if pull.state.is_open() {
        environment_of(context, project, source, pull, trusted).await?;
        if !trusted {
            approvals::look(context, project, source, pull, seen).await?;
        }
    }
    Ok(())
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
/// asked again after each of the pauses.
async fn is_trusted(source: &Source, pull: &PullRequest, pauses: &[Duration]) -> Result<bool, Trouble> {
    let HeadOrigin::BaseRepository(branch) = &pull.origin else {
        return Ok(false);
    };
    let mut pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    for pause in pauses {
        if pusher.is_some() {
            break;
        }
        sleep(*pause).await;
        pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    }
    let Some(pusher) = pusher else { return Ok(false) };
    Ok(source
        .forge
        .permission(&source.repository, pusher.login.as_str())
        .await?
        .may_push())
}

/// A pull request that we know as open and that the list does not have: it counts as closed when two reads say so.
pub(super) async fn missing(
    context: &Context,
    project: &Project,
    source: &Source,
    row: &PullRequestRow,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    let number = PullRequestNumber(row.number);
    for _ in 0..2 {
        match source.forge.pull_request(&source.repository, number).await? {
            PullRequestFact::Present(pull) if pull.state.is_open() => {
                return observe(context, project, source, &pull, seen).await;
            }
            PullRequestFact::Present(_) | PullRequestFact::Absent => sleep(SECOND_READ).await,
        }
    }
    let state = match source.forge.pull_request(&source.repository, number).await? {
        PullRequestFact::Present(pull) if pull.state.is_open() => {
            return observe(context, project, source, &pull, seen).await;
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
    context.store.pull_request_put(&closed).await?;
    let origin = Origin::PullRequest { number: row.number };
    if let Some(environment) = context.store.environment_find(&project.name, &origin).await? {
        let word = if state == store::PullRequestState::Merged {
            "merged"
        } else {
            "closed"
        };
        let reason = format!("pull request {} was {word}", row.number);
        end(context, &environment, &reason, None).await?;
    }
    context.nudges.announcements();
    Ok(())
}

async fn environment_of(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    trusted: bool,
) -> Result<(), Trouble> {
    let origin = Origin::PullRequest { number: pull.number.0 };
    if trusted {
        context
            .repositories
            .ensure(&project.name, source, &pull.head, Some(&pull.fetch_ref))
            .await?;
    }
    match context.store.environment_find(&project.name, &origin).await? {
        Some(environment) if !environment.wanted => Ok(()),
        Some(environment) => match uncovered_twice(context, project, source, pull).await? {
            Some(reason) => end(context, &environment, &reason, Some(UNCOVERED)).await,
            None => follow(context, source, &environment, &pull.head, trusted).await,
        },
        None if is_suppressed(context, project, &origin, source, &pull.head).await? => Ok(()),
        None if !is_admitted(context, project, pull) => Ok(()),
        None => {
            let new = New {
                origin,
                head: &pull.head,
                approved: trusted,
                power: Power::Running,
                reason: &format!("pull request {}", pull.number),
                overrides: serde_json::json!({}),
            };
            create(context, project, source, new).await
        }
    }
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
