//! What people read on a pull request: one comment and one commit status. Pure.

use model::{CommitId, Phase};
use std::fmt::Write as _;

/// An address of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The service.
    pub service: String,
    /// Its URL.
    pub url: String,
}

/// A step of the plan, as shown while the environment is not live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownStep {
    /// Its title.
    pub title: String,
    /// A sign for its state: done, running, waiting, failed.
    pub state: ShownState,
}

/// How a shown step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    /// Done.
    Done,
    /// Being carried out.
    Running,
    /// Not begun.
    Waiting,
    /// Failed.
    Failed,
}

/// Why the newest generation is not live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownFailure {
    /// What failed.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
    /// The lines of log that matter.
    pub log: Vec<String>,
}

/// The end of an environment whose pull request is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownEnd {
    /// Why.
    pub reason: String,
    /// What has to happen for a new one.
    pub again: &'static str,
}

/// Everything that the comment tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the environment stands.
    pub phase: Phase,
    /// Its label, by which commands know it.
    pub label: String,
    /// The newest commit.
    pub head: CommitId,
    /// The commit that is live, if any.
    pub live: Option<CommitId>,
    /// Where it is found, the main address first.
    pub addresses: Vec<Address>,
    /// Services and engines that run in it.
    pub services: Vec<String>,
    /// How long the newest live generation took, in milliseconds.
    pub took_ms: Option<u64>,
    /// The steps of a plan that is being carried out.
    pub steps: Vec<ShownStep>,
    /// Why the newest generation failed.
    pub failure: Option<ShownFailure>,
    /// What people should know: data was cloned anew, warnings of the blueprint.
    pub notes: Vec<String>,
    /// Why it ends or has ended, and what brings a new one.
    pub ended: Option<ShownEnd>,
    /// What was removed at the end: entries of the receipt, and all of them gone.
    pub receipt_entries: Option<usize>,
}

/// The text of the comment, in Markdown.
#[must_use]
pub fn comment(report: &Report) -> String {
    let mut text = String::new();
    let head = report.head.short();
    let live = report.live.as_ref().map_or(head, CommitId::short);
    let headline = match report.phase {
        Phase::NeedsApproval => format!("**Preview: needs approval.** {}", unapproved(head)),
        Phase::Starting => format!("**Preview: starting** with `{head}`"),
        Phase::Live => format!("**Preview: live** with `{live}`"),
        Phase::Updating => format!("**Preview: live** with `{live}`, updating to `{head}`"),
        Phase::LiveOlder => format!("**Preview: {}**", told(report)),
        Phase::LiveUnapproved => format!("**Preview: {}.** {}", told(report), unapproved(head)),
        Phase::Failed => format!("**Preview: `{head}` failed**"),
        Phase::Suspended => "**Preview: stopped, waiting**".to_owned(),
        Phase::Sleeping => format!("**Preview: sleeping** with `{live}`; the first visit wakes it"),
        Phase::Ending => "**Preview: being removed**".to_owned(),
        Phase::Ended => match report.receipt_entries {
            Some(entries) => {
                format!("**Preview: removed.** All {entries} things that were made for it are verified gone.")
            }
            None => "**Preview: removed**".to_owned(),
        },
    };
    let _ = writeln!(text, "{headline}");
    if matches!(
        report.phase,
        Phase::Live | Phase::Updating | Phase::LiveOlder | Phase::LiveUnapproved | Phase::Sleeping | Phase::Starting
    ) {
        addresses(&mut text, report);
    }
    if matches!(report.phase, Phase::NeedsApproval | Phase::LiveUnapproved) {
        how_to_approve(&mut text, report);
    }
    if let Some(end) = &report.ended {
        let _ = write!(text, "\nWhy: {}. {}\n", line(&end.reason), end.again);
    }
    if let Some(failure) = &report.failure {
        failed(&mut text, failure);
    }
    if matches!(report.phase, Phase::Starting | Phase::Updating) {
        steps(&mut text, &report.steps);
    }
    for note in &report.notes {
        let _ = write!(text, "\n> {}\n", line(note));
    }
    details(&mut text, report);
    text
}

/// Where two commits are in play, the words that every view has, with the commits as code.
fn told(report: &Report) -> String {
    let mut words = report.phase.told(report.live.as_ref(), Some(&report.head));
    let other = report.live.iter().filter(|live| **live != report.head);
    for commit in other.chain([&report.head]) {
        words = words.replacen(commit.short(), &format!("`{}`", commit.short()), 1);
    }
    words
}

fn unapproved(head: &str) -> String {
    format!(
        "`{head}` comes from a fork or from somebody without push permission. Nothing of it runs until somebody who may push approves this very commit."
    )
}

/// The commit is named in full: who approves must not get another one that was pushed in the meantime, or made to begin alike.
fn how_to_approve(text: &mut String, report: &Report) {
    let (head, label) = (&report.head, &report.label);
    let _ = write!(
        text,
        "\nAfter reading the change, approve it with a comment of this line:\n\n```text\n{APPROVE} {head}\n```\n\nor with `maquette approve {label} --commit {head}`. It runs without secrets, reaches nothing outside, and gets half of the limits. The next push needs an approval of its own.\n"
    );
}

fn addresses(text: &mut String, report: &Report) {
    match report.addresses.as_slice() {
        [] => {}
        [only] => {
            let _ = write!(text, "\n{}\n", only.url);
        }
        several => {
            text.push_str("\n| service | address |\n|---|---|\n");
            for address in several {
                let _ = writeln!(text, "| {} | {} |", code(&address.service), address.url);
            }
        }
    }
    if !report.addresses.is_empty() {
        let _ = write!(
            text,
            "\nTo sign in, ask for a link: `maquette open {}`. Nothing shows before that.\n",
            report.label
        );
    }
}

fn failed(text: &mut String, failure: &ShownFailure) {
    let _ = write!(text, "\n{}\n", line(&failure.message));
    if let Some(hint) = &failure.hint {
        let _ = write!(text, "\nHint: {}\n", line(hint));
    }
    if !failure.log.is_empty() {
        // A fence that no line of the log can close.
        text.push_str("\n````text\n");
        for entry in &failure.log {
            let _ = writeln!(text, "{}", visible(entry).replace("````", "'```"));
        }
        text.push_str("````\n");
    }
}

fn steps(text: &mut String, steps: &[ShownStep]) {
    if steps.is_empty() {
        return;
    }
    text.push('\n');
    for step in steps {
        let sign = match step.state {
            ShownState::Done => "- [x]",
            ShownState::Running => "- [ ] ⏳",
            ShownState::Waiting => "- [ ]",
            ShownState::Failed => "- [ ] ❌",
        };
        let _ = writeln!(text, "{sign} {}", line(&step.title));
    }
}

fn details(text: &mut String, report: &Report) {
    if report.services.is_empty() || matches!(report.phase, Phase::Ended | Phase::Ending | Phase::NeedsApproval) {
        return;
    }
    let services: Vec<String> = report.services.iter().map(|service| code(service)).collect();
    let _ = write!(text, "\nRuns {}", services.join(", "));
    match report.took_ms {
        Some(ms) if report.phase == Phase::Live => {
            let _ = write!(text, ", live after {}.{:01} s", ms / 1000, ms % 1000 / 100);
        }
        _ => {}
    }
    text.push_str(".\n");
}

const NEEDS_APPROVAL: &str = "needs approval by somebody who may push";

/// How a comment that approves a commit begins; the commit's full id follows.
pub(crate) const APPROVE: &str = "/preview approve";

/// The short text of the commit status.
#[must_use]
pub fn status(report: &Report) -> String {
    match (report.phase, &report.failure, &report.live) {
        (Phase::Failed, Some(failure), _) => format!("failed: {}", plain(&failure.message)),
        (Phase::Live | Phase::Sleeping, _, Some(live)) if *live != report.head => format!("{} is live", live.short()),
        (Phase::LiveOlder, Some(failure), live) => {
            let told = report.phase.told(live.as_ref(), Some(&report.head));
            format!("{told}: {}", plain(&failure.message))
        }
        (Phase::NeedsApproval, ..) => NEEDS_APPROVAL.to_owned(),
        (Phase::Ending | Phase::Ended, ..) => match &report.ended {
            Some(end) => format!("removed: {}", plain(&end.reason)),
            None => report.phase.word().to_owned(),
        },
        (phase, _, live) => phase.told(live.as_ref(), Some(&report.head)),
    }
}

/// What no reader sees and what keeps a forge from making a mention, a reference or a link of the words around it. A backslash
/// does not: forges look for these after Markdown has taken it away.
const APART: &str = "<!-- -->";

/// One line without anything that Markdown, HTML, a forge or a terminal would obey.
fn line(text: &str) -> String {
    let mut out = String::new();
    let text = plain(text);
    for (at, c) in text.char_indices().take(600) {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '[' | ']' | '*' | '_' | '`' | '@' | '#' | '!' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        let (before, after) = (&text[..at], &text[at + c.len_utf8()..]);
        let calls = match c {
            '@' | '#' | '!' => after.starts_with(|next: char| !next.is_whitespace()),
            ':' => after.starts_with("//"),
            '.' => before.to_ascii_lowercase().ends_with("www"),
            _ => false,
        };
        if calls {
            out.push_str(APART);
        }
    }
    out
}

/// One line, for places that show text as it is.
fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    visible(spaced.trim())
}

fn code(text: &str) -> String {
    format!("`{}`", visible(text).replace(['`', '\n', '|'], ""))
}

fn visible(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().filter(|c| !hidden(*c)).collect()
}

#[cfg(test)]
mod tests;
