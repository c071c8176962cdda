//! Approvals: a commit of somebody who may not push runs only when somebody who may push has approved that very commit.
//!
//! An approval is a comment whose first line names the commit in full. So one that was read before a push is none for what was
//! pushed, whatever arrives when. What its author may do is asked of the forge at the moment at which it is read. A comment that
//! was edited does not count, because forges let others than its author edit it; nor does one of ours, because it quotes the line.

use crate::{
    comment::APPROVE,
    context::{Context, Trouble},
    pins,
    project::{Project, Source},
};
use forge::{PullRequest, Remark};
use model::{CommitId, EnvironmentId, Origin, SourceName, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use store::{EnvironmentPatch, EnvironmentRow};

/// Forges tell times in seconds: for so long a pull request may change again without a later time.
const SETTLES: Duration = Duration::from_secs(3);
/// The most authors of comments with our command of whom is asked what they may do, those of the newest comments first. Anybody may
/// write as many comments as they like.
const AUTHORS_MAX: usize = 20;
/// The kinds of events.
const REFUSED: &str = "not-approved";
const APPROVED: &str = "approved";
/// How many events are searched for what was said before.
const EVENTS: u32 = 50;

/// What is known of a source's pull requests from earlier looks.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Those whose comments were read since they changed last: they need not be read again.
    comments: BTreeMap<u64, Look>,
    /// Those of which the forge does not say yet who pushed them.
    unrecorded: BTreeSet<u64>,
}

#[derive(Debug)]
struct Look {
    /// One that is made anew knows nothing of what was approved before.
    environment: EnvironmentId,
    updated: Timestamp,
    head: CommitId,
    first: Instant,
    settled: bool,
}

impl Seen {
    /// Forgets all others.
    pub(super) fn keep_only(&mut self, numbers: &BTreeSet<u64>) {
        self.comments.retain(|number, _| numbers.contains(number));
        self.unrecorded.retain(|number| numbers.contains(number));
    }

    /// Has all comments read again: somebody says that something happened, and forges do not say of a pull request that a comment
    /// on it was edited.
    pub(super) fn read_comments_again(&mut self) {
        self.comments.clear();
    }

    /// Notes whether the forge is still to say who pushed a pull request.
    pub(super) fn note_record(&mut self, number: u64, awaited: bool) {
        if awaited {
            self.unrecorded.insert(number);
        } else {
            self.unrecorded.remove(&number);
        }
    }

    /// Whether the forge is still to say who pushed something.
    pub(super) fn awaits_record(&self) -> bool {
        !self.unrecorded.is_empty()
    }

    /// Whether the comments of a pull request have to be read.
    fn wants(&self, environment: &EnvironmentId, pull: &PullRequest) -> bool {
        let known = self.comments.get(&pull.number.0);
        known.is_none_or(|look| !look.is_of(environment, pull) || !look.settled)
    }

    fn note(&mut self, environment: &EnvironmentId, pull: &PullRequest) {
        let new = || Look::of(environment, pull);
        let look = self.comments.entry(pull.number.0).or_insert_with(new);
        if !look.is_of(environment, pull) {
            *look = new();
        }
        look.settled = look.first.elapsed() > SETTLES;
    }
}

impl Look {
    fn is_of(&self, environment: &EnvironmentId, pull: &PullRequest) -> bool {
        self.environment == *environment && self.updated == pull.updated && self.head == pull.head
    }

    fn of(environment: &EnvironmentId, pull: &PullRequest) -> Self {
        Self {
            environment: environment.clone(),
            updated: pull.updated,
            head: pull.head.clone(),
            first: Instant::now(),
            settled: false,
        }
    }
}

/// Looks for an approval of the newest commit of a pull request that is not trusted.
pub(super) async fn look(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    let row = context
        .store
        .pull_request_get(&project.name, &source.name, pull.number.0)
        .await?;
    let row = match row {
        Some(row) => super::pull_requests::environment_for(context, project, &row).await?,
        None => None,
    };
    let Some(row) = row.filter(|row| needs_approval(row, source, &pull.head)) else {
        return Ok(());
    };
    if !seen.wants(&row.id, pull) {
        return Ok(());
    }
    let remarks = source.forge.remarks(&source.repository, pull.number).await?;
    let commands = remarks.iter().rev().filter(|remark| named(&remark.body).is_some());
    let mut asked: BTreeMap<&str, bool> = BTreeMap::new();
    for remark in commands {
        let login = remark.author.login.as_str();
        let may_push = match asked.get(login) {
            Some(may_push) => *may_push,
            None if asked.len() == AUTHORS_MAX => continue,
            None => source.forge.permission(&source.repository, login).await?.may_push(),
        };
        asked.insert(login, may_push);
        if !may_push {
            continue;
        }
        match verdict(remark, &pull.head) {
            Verdict::Approved => {
                let who = format!("{login} by a comment");
                grant(context, project, source, &row.id, pull, &who).await?;
                break;
            }
            Verdict::Refused(why) => {
                let text = format!("{login}'s approval does not count for {}: {why}", pull.head.short());
                refuse(context, &row, &text).await?;
            }
            Verdict::Other => {}
        }
    }
    seen.note(&row.id, pull);
    Ok(())
}

/// The commit that somebody asked for with `deploy` is theirs to answer for.
fn needs_approval(row: &EnvironmentRow, source: &Source, head: &CommitId) -> bool {
    if matches!(row.origin, Origin::PullRequests { .. }) {
        return row.wanted && pins::approved(row).get(&source.name) != Some(head);
    }
    row.wanted && row.head.get(&source.name) == Some(head) && row.approved_commit.as_ref() != Some(head)
}

/// The commit that a comment approves, as its first line names it; that may be anything.
fn named(body: &str) -> Option<&str> {
    let rest = body.trim_start().lines().next()?.strip_prefix(APPROVE)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

/// What a command of somebody who may push comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Approved,
    /// It is for a commit that was the newest one before, most likely.
    Other,
    Refused(&'static str),
}

fn verdict(remark: &Remark, head: &CommitId) -> Verdict {
    match named(&remark.body).map(str::parse::<CommitId>) {
        Some(Ok(commit)) if commit != *head => Verdict::Other,
        Some(Ok(_)) if remark.edited => {
            Verdict::Refused("the comment was edited, perhaps by somebody else; write a new one")
        }
        Some(Ok(_)) => Verdict::Approved,
        Some(Err(_)) => Verdict::Refused("it does not name the commit with all of its digits"),
        None => Verdict::Other,
    }
}

/// Notes that the newest commit of a pull request may run, if it still is the one that is wanted.
async fn grant(
    context: &Context,
    project: &Project,
    source: &Source,
    id: &EnvironmentId,
    pull: &PullRequest,
    who: &str,
) -> Result<(), Trouble> {
    context
        .repositories
        .ensure(&project.name, source, &pull.head, Some(&pull.fetch_ref))
        .await?;
    // Read anew: fetching takes time in which somebody may have asked for something else.
    let row = context.store.environment_get(id).await?;
    let Some(row) = row.filter(|row| needs_approval(row, source, &pull.head)) else {
        return Ok(());
    };
    context
        .store
        .environment_update(id, &given(&row, &source.name, &pull.head))
        .await?;
    context.nudges.project(&project.name);
    approved(context, &row, &pull.head, who).await
}

/// What an approval changes about an environment. One that several pull requests share follows the commit the next time it is looked
/// at.
pub(crate) fn given(row: &EnvironmentRow, source: &SourceName, commit: &CommitId) -> EnvironmentPatch {
    let shared = matches!(row.origin, Origin::PullRequests { .. });
    EnvironmentPatch {
        approved_commit: (!shared || row.approved_commit.is_none()).then(|| Some(commit.clone())),
        overrides: shared.then(|| pins::with_approved(row, source, commit)),
        ..EnvironmentPatch::default()
    }
}

/// Remembers who approved a commit, and has it looked at.
pub(crate) async fn approved(
    context: &Context,
    row: &EnvironmentRow,
    commit: &CommitId,
    who: &str,
) -> Result<(), Trouble> {
    let text = format!("{commit} was approved: {who}");
    tracing::info!(environment = %row.id, label = %row.label, "{text}");
    context
        .store
        .event_add(Some(&row.id), &row.project, context.now(), APPROVED, &text)
        .await?;
    context.nudges.environment(&row.id);
    context.nudges.announcements();
    Ok(())
}

/// Says once why an approval was not taken.
async fn refuse(context: &Context, row: &EnvironmentRow, text: &str) -> Result<(), Trouble> {
    let said = context.store.event_list(&row.id, EVENTS).await?;
    if said.iter().any(|event| event.kind == REFUSED && event.text == text) {
        return Ok(());
    }
    context
        .store
        .event_add(Some(&row.id), &row.project, context.now(), REFUSED, text)
        .await?;
    context.nudges.announcements();
    Ok(())
}

/// Why approvals of this commit were not taken, for the comment.
pub(crate) async fn refused(context: &Context, id: &EnvironmentId, head: &CommitId) -> Result<Option<String>, Trouble> {
    let about = format!(" for {}: ", head.short());
    let events = context.store.event_list(id, EVENTS).await?;
    let last = events
        .into_iter()
        .find(|event| event.kind == REFUSED && event.text.contains(&about));
    Ok(last.map(|event| format!("{}.", event.text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forge::{Account, CommentId, DisplayText};

    fn remark(body: &str, edited: bool) -> Remark {
        Remark {
            id: CommentId(1),
            author: Account {
                id: 2,
                login: DisplayText::new("bob"),
            },
            body: body.to_owned(),
            edited,
        }
    }

    #[test]
    fn only_the_whole_id_on_the_first_line_approves() {
        let head: CommitId = "b".repeat(40).parse().unwrap();
        let line = format!("{APPROVE} {head}");
        let of = |body: &str| verdict(&remark(body, false), &head);
        assert_eq!(of(&line), Verdict::Approved);
        assert_eq!(of(&format!("\n{line}\r\nLooks good.")), Verdict::Approved);
        assert_eq!(of(&format!("{APPROVE} {}", "a".repeat(40))), Verdict::Other);
        for other in [head.short(), "", &format!("{head} or something"), "HEAD"] {
            assert!(
                matches!(of(&format!("{APPROVE} {other}")), Verdict::Refused(_)),
                "{other}"
            );
        }
        let edited = verdict(&remark(&line, true), &head);
        assert!(matches!(edited, Verdict::Refused(_)), "somebody edited it");
    }

    #[test]
    fn what_quotes_or_resembles_the_command_is_none() {
        let id = "b".repeat(40);
        for text in [
            format!("> {APPROVE} {id}"),
            format!("I would not {APPROVE} {id}"),
            format!("Hello\n{APPROVE} {id}"),
            format!("{APPROVE}d {id}"),
            format!("```\n{APPROVE} {id}\n```"),
            String::new(),
        ] {
            assert_eq!(named(&text), None, "{text}");
        }
    }
}
