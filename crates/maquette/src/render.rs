//! Text and tables for people. Pure: the time is an argument.

mod table;
#[cfg(test)]
mod tests;

use api::{
    CommitView, DoorView, EnvironmentView, EventView, FailureView, JobRunView, JobView, LedgerView, LogLineView,
    LogStreamView, MailMessageView, MailView, OriginView, SecretUserView, SecretView, ServiceView, StepView, WhyView,
};
use model::{Phase, Timestamp};
use std::fmt::Write as _;
use table::Table;

/// The most entries of a ledger that are shown one by one.
const ENTRIES_MAX: usize = 200;
/// The most names that were refused that are shown one by one.
const REFUSED_MAX: usize = 10;

/// How long ago, in one unit.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

/// Text of strangers, safe for a terminal.
pub(crate) fn tame(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if harmful(c) && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

fn origin(view: &EnvironmentView) -> String {
    match (&view.origin, &view.pull_request) {
        (OriginView::PullRequest { number, source }, pull) => {
            let source = source.as_deref().map(tame).unwrap_or_default();
            let title = pull
                .as_ref()
                .map_or_else(String::new, |pull| format!(" {}", tame(&pull.title)));
            format!("{source}#{number}{title}")
        }
        (OriginView::PullRequests { branch }, _) => format!("pull requests of {}", tame(branch)),
        (OriginView::Branch { branch }, _) => format!("branch {}", tame(branch)),
        (OriginView::Baseline { branch }, _) => format!("baseline {}", tame(branch)),
        (OriginView::Clone { of }, _) => format!("copy of {of}"),
        (OriginView::Golden, _) => "golden".to_owned(),
        (OriginView::Spare, _) => "the next environment".to_owned(),
    }
}

fn commit(view: &CommitView) -> String {
    let short = |commit: &Option<model::CommitId>| commit.as_ref().map(|commit| commit.short().to_owned());
    match (short(&view.live), short(&view.wanted)) {
        (Some(live), Some(wanted)) if live == wanted => live,
        (Some(live), Some(wanted)) => format!("{live} → {wanted}"),
        (None, Some(wanted)) => format!("→ {wanted}"),
        (Some(live), None) => live,
        (None, None) => "-".to_owned(),
    }
}

/// The commit of the pull request's source, else of the first one.
fn main_commit(view: &EnvironmentView) -> String {
    let of_pull = view
        .pull_request
        .as_ref()
        .and_then(|pull| view.commits.get(&pull.source));
    let shown = of_pull.or_else(|| view.commits.values().next());
    shown.map_or_else(|| "-".to_owned(), commit)
}

/// How an environment stands, as a sentence.
pub(crate) fn stands(view: &EnvironmentView) -> String {
    match view.phase {
        // These words are a sentence of their own.
        Phase::LiveOlder | Phase::LiveUnapproved => format!("{}: {}", view.label, view.status),
        _ => format!("{} is {}", view.label, view.status),
    }
}

/// Environments, a line each.
pub(crate) fn list(environments: &[EnvironmentView], now: Timestamp) -> String {
    let (spares, others): (Vec<_>, Vec<_>) = environments.iter().partition(|view| view.origin == OriginView::Spare);
    let mut text = String::new();
    if others.is_empty() {
        text.push_str("There are no environments.\n");
    } else {
        let _ = write!(text, "{}", of_people(&others, now));
    }
    if !spares.is_empty() {
        let _ = write!(text, "\n{}", spare(&spares, now));
    }
    text
}

fn of_people(environments: &[&EnvironmentView], now: Timestamp) -> Table {
    let mut table = Table::new(["ENV", "PROJECT", "STATUS", "COMMIT", "FOR", "AGE", "ADDRESS"]);
    for view in environments {
        table.row([
            view.label.to_string(),
            view.project.to_string(),
            view.status.clone(),
            main_commit(view),
            shortened(&origin(view), 40),
            ago(view.created, now),
            view.address.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

/// Engines that wait for the next environment: apart from what people have.
fn spare(spares: &[&EnvironmentView], now: Timestamp) -> Table {
    let mut table = Table::new(["SPARE", "PROJECT", "STATUS", "COMMIT", "AGE"]);
    for view in spares {
        table.row([
            view.label.to_string(),
            view.project.to_string(),
            view.status.clone(),
            view.commits.values().next().map_or_else(|| "-".to_owned(), commit),
            ago(view.created, now),
        ]);
    }
    table
}

fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max - 1).collect();
    cut.push('…');
    cut
}

/// One environment.
pub(crate) fn show(view: &EnvironmentView, now: Timestamp) -> String {
    let mut text = format!("{} ({})\n\n", view.label, view.id);
    let mut facts = Table::bare();
    facts.row(["status".to_owned(), view.status.clone()]);
    facts.row(["project".to_owned(), view.project.to_string()]);
    facts.row(["for".to_owned(), origin(view)]);
    for pull in &view.pull_requests {
        let what = format!(
            "{}#{} {} ({})",
            pull.source,
            pull.number,
            tame(&pull.title),
            tame(&pull.state)
        );
        facts.row(["pull request".to_owned(), what]);
    }
    if let Some(pull) = &view.pull_request {
        facts.row(["author".to_owned(), tame(&pull.author)]);
        facts.row([
            "page".to_owned(),
            pull.web_url.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    for address in &view.addresses {
        facts.row([format!("address of {}", address.service), address.url.clone()]);
    }
    for (source, commits) in &view.commits {
        let branch = commits.branch.as_deref();
        let branch = branch.map_or_else(String::new, |branch| format!(" (branch {})", tame(branch)));
        facts.row([format!("commit of {source}"), commit(commits) + &branch]);
    }
    let number = |n: Option<model::Generation>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    facts.row([
        "generation".to_owned(),
        format!("live {}, newest {}", number(view.live), number(view.newest)),
    ]);
    facts.row(["reason".to_owned(), tame(&view.reason)]);
    facts.row(["made".to_owned(), format!("{} ago", ago(view.created, now))]);
    if let Some(at) = view.live_at {
        facts.row(["live since".to_owned(), format!("{} ago", ago(at, now))]);
    }
    if let Some(at) = view.ended {
        facts.row(["ended".to_owned(), format!("{} ago", ago(at, now))]);
    }
    let _ = write!(text, "{facts}");
    if !view.services.is_empty() {
        let _ = write!(text, "\n{}", services(&view.services, now));
    }
    if !view.jobs.is_empty() {
        let _ = write!(text, "\n{}", jobs(&view.jobs, now));
    }
    if let Some(failed) = &view.failure {
        let _ = write!(text, "\n{}", failure(failed));
    }
    notes(&mut text, &view.notes);
    text
}

/// Jobs that people run, a line each.
pub(crate) fn jobs(jobs: &[JobView], now: Timestamp) -> String {
    if jobs.is_empty() {
        return "There are no jobs that are run by hand.\n".to_owned();
    }
    let mut table = Table::new(["JOB", "ELSEWHERE", "LAST RUN", "AGO", "BY"]);
    for job in jobs {
        let last = job.runs.first();
        let of_last = |text: &dyn Fn(&JobRunView) -> String| last.map_or_else(|| "-".to_owned(), text);
        table.row([
            job.name.to_string(),
            job.schedule.as_deref().map_or_else(|| "-".to_owned(), tame),
            last.map_or_else(|| "never".to_owned(), |run| shortened(&tame(&run.status()), 60)),
            of_last(&|run| ago(run.started, now)),
            of_last(&|run| tame(&run.asked_by)),
        ]);
    }
    table.to_string()
}

fn services(services: &[ServiceView], now: Timestamp) -> Table {
    let mut table = Table::new(["SERVICE", "STATE", "SINCE", "RESTARTS", "MESSAGE"]);
    for service in services {
        table.row([
            service.name.to_string(),
            service.state.word().to_owned(),
            service.since.map_or_else(|| "-".to_owned(), |at| ago(at, now)),
            service.restarts.to_string(),
            tame(service.message.as_deref().unwrap_or("-")),
        ]);
    }
    table
}

fn failure(failed: &FailureView) -> String {
    let mut text = format!("{} failed: {}\n", tame(&failed.step), tame(&failed.message));
    if let Some(hint) = &failed.hint {
        let _ = writeln!(text, "hint: {}", tame(hint));
    }
    for line in &failed.log {
        let _ = writeln!(text, "  | {}", tame(line));
    }
    text
}

fn notes(text: &mut String, notes: &[String]) {
    for note in notes {
        let _ = writeln!(text, "\nnote: {}", tame(note));
    }
}

/// Why an environment is as it is.
pub(crate) fn why(view: &WhyView, now: Timestamp) -> String {
    let mut text = format!("{}\n", tame(&view.summary));
    if let Some(failed) = &view.failure {
        let _ = write!(text, "\n{}", failure(failed));
    }
    if view.attempts > 1 || view.next_try.is_some() {
        let next = view.next_try.map_or_else(String::new, |next| {
            format!(", again in {} s", next.since(now).as_secs())
        });
        let _ = writeln!(text, "tried {} times{next}", view.attempts);
    }
    for what in &view.waiting_for {
        let _ = writeln!(text, "waits for {}", tame(what));
    }
    for service in &view.services {
        let _ = writeln!(text, "{}", tame(service));
    }
    door(&mut text, &view.door, now);
    if !view.steps.is_empty() {
        let _ = write!(text, "\n{}", steps(&view.steps));
    }
    notes(&mut text, &view.notes);
    if !view.events.is_empty() {
        let _ = write!(text, "\n{}", event_table(&view.events, now));
    }
    text
}

/// What is not let out, with the line of policy that would allow it, and what can not be reached.
fn door(text: &mut String, view: &DoorView, now: Timestamp) {
    if let Some(closed) = &view.closed {
        let _ = writeln!(text, "\nnothing gets out: {}", tame(closed));
    }
    for refused in view.refused.iter().take(REFUSED_MAX) {
        let port = refused.port.map_or_else(String::new, |port| format!(":{port}"));
        let kind = if refused.udp { "/udp" } else { "" };
        let told = |from: &String| {
            refused
                .why
                .as_ref()
                .is_some_and(|why| why.contains(&format!("`{from}`")))
        };
        let from = refused.from.as_ref().filter(|from| !told(from));
        let from = from.map_or_else(String::new, |from| format!(" by `{}`", tame(from)));
        let count = refused.count;
        let _ = writeln!(
            text,
            "\nrefused at the door: {}{port}{kind}, {}{from}, the last one {} ago",
            tame(&refused.name),
            if count == 1 {
                "once".to_owned()
            } else {
                format!("{count} times")
            },
            ago(refused.last, now)
        );
        if let Some(why) = &refused.why {
            let _ = writeln!(text, "  {}", tame(why));
        }
        if let Some(allow) = &refused.allow {
            let _ = writeln!(text, "  in the policy: {}", tame(allow));
        }
    }
    let hidden = view.refused.len().saturating_sub(REFUSED_MAX);
    let more = view
        .refused_more
        .saturating_add(u64::try_from(hidden).unwrap_or(u64::MAX));
    if more > 0 {
        let _ = writeln!(text, "… and more that was refused; --json has what is known");
    }
    let failing = view
        .passed
        .iter()
        .filter_map(|passed| Some((passed, passed.failure.as_ref()?)));
    for (passed, failure) in failing.take(REFUSED_MAX) {
        let _ = writeln!(
            text,
            "\n{}:{} can not be reached: {}",
            tame(&passed.name),
            passed.port,
            tame(failure)
        );
    }
}

fn steps(steps: &[StepView]) -> Table {
    let mut table = Table::new(["STEP", "STATE", "TOOK", "TRIES"]);
    for step in steps {
        table.row([
            tame(&step.title),
            step.state.word().to_owned(),
            step.took_ms.map_or_else(|| "-".to_owned(), took),
            step.attempts.to_string(),
        ]);
    }
    table
}

/// What happened, the newest first.
pub(crate) fn events(events: &[EventView], now: Timestamp) -> String {
    if events.is_empty() {
        return "nothing happened yet\n".to_owned();
    }
    if events.iter().all(|event| event.environment.is_none()) {
        return event_table(events, now).to_string();
    }
    let mut table = Table::new(["AGO", "ENVIRONMENT", "EVENT"]);
    for event in events {
        let label = event.label.as_ref().map(ToString::to_string);
        let of = label.or_else(|| event.environment.as_ref().map(ToString::to_string));
        table.row([
            ago(event.at, now),
            of.unwrap_or_else(|| "-".to_owned()),
            shortened(&tame(&event.text), 120),
        ]);
    }
    table.to_string()
}

fn event_table(events: &[EventView], now: Timestamp) -> Table {
    let mut table = Table::new(["AGO", "EVENT"]);
    for event in events {
        table.row([ago(event.at, now), shortened(&tame(&event.text), 120)]);
    }
    table
}

/// The ledger or receipt.
pub(crate) fn receipt(view: &LedgerView, now: Timestamp) -> String {
    let name = view
        .label
        .as_ref()
        .map_or_else(|| view.environment.to_string(), ToString::to_string);
    let mut text = if view.complete {
        let reason = view.reason.as_deref().map(tame).unwrap_or_default();
        let took = view
            .began
            .zip(view.completed)
            .map_or(0, |(began, completed)| completed.0.saturating_sub(began.0));
        format!(
            "{name} has ended: {reason}\nAll {} things that were made for it were seen to be gone, within {}.\n",
            view.entries.len(),
            self::took(took)
        )
    } else {
        format!(
            "{name} has not ended: {} of {} things are left.\n",
            view.left,
            view.entries.len()
        )
    };
    if view.entries.is_empty() {
        return text;
    }
    let mut table = Table::new(["KIND", "NAME", "MADE", "GONE"]);
    for entry in view.entries.iter().take(ENTRIES_MAX) {
        let gone = entry
            .gone
            .map_or_else(|| "no".to_owned(), |at| format!("{} ago", ago(at, now)));
        table.row([
            entry.kind.clone(),
            tame(&entry.name),
            format!("{} ago", ago(entry.intended, now)),
            gone,
        ]);
    }
    let _ = write!(text, "\n{table}");
    if view.entries.len() > ENTRIES_MAX {
        let _ = writeln!(
            text,
            "… and {} more; --json has them all",
            view.entries.len() - ENTRIES_MAX
        );
    }
    text
}

/// Secrets, a line each.
pub(crate) fn secrets(secrets: &[SecretView], now: Timestamp) -> String {
    if secrets.is_empty() {
        return "There are no secrets.\n".to_owned();
    }
    let mut table = Table::new(["NAME", "SET", "VERSION", "GRANTED", "GIVEN TO"]);
    for secret in secrets {
        let granted = match secret.granted {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        table.row([
            secret.name.clone(),
            format!("{} ago", ago(secret.set, now)),
            secret.version.chars().take(8).collect(),
            granted.to_owned(),
            shortened(&secret_users(secret), 60),
        ]);
    }
    let mut text = table.to_string();
    for secret in secrets {
        if let Some(reason) = &secret.despite {
            let _ = writeln!(text, "\n{} was set although {}", secret.name, tame(reason));
        }
    }
    text
}

/// Who is given a secret: `pr-1 (web, worker), pr-2 (web)`.
pub(crate) fn secret_users(secret: &SecretView) -> String {
    if secret.used_by.is_empty() {
        return "nobody".to_owned();
    }
    let user = |user: &SecretUserView| format!("{} ({})", user.label, user.services.join(", "));
    secret.used_by.iter().map(user).collect::<Vec<_>>().join(", ")
}

/// A secret that was set, and what follows.
pub(crate) fn secret_set(secret: &SecretView) -> String {
    let name = &secret.name;
    let mut text = match secret.used_by.is_empty() {
        true => format!("{name} is set\n"),
        false => format!("{name} is set; it is given anew to {}\n", secret_users(secret)),
    };
    if secret.granted == Some(false) {
        let _ = writeln!(
            text,
            "note: the policy does not grant it yet: add it to `policy: {{ secrets: [{name}] }}` of maquette.yaml on the policy branch"
        );
    }
    if let Some(reason) = &secret.despite {
        let _ = writeln!(text, "note: it was set although {}", tame(reason));
    }
    text
}

/// Mail, a line each.
pub(crate) fn mail(messages: &[MailView], now: Timestamp) -> String {
    if messages.is_empty() {
        return "Nothing was sent yet.\n".to_owned();
    }
    let mut table = Table::new(["ID", "AGO", "TO", "SUBJECT"]);
    for message in messages {
        table.row([
            message.id.to_string(),
            ago(message.at, now),
            shortened(&tame(&message.to.join(", ")), 40),
            shortened(&tame(&message.subject), 80),
        ]);
    }
    table.to_string()
}

/// One message: its headers, its text, what is attached.
pub(crate) fn mail_message(view: &MailMessageView) -> String {
    let mut text = String::new();
    for (name, value) in &view.content.headers {
        let line = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "{}: {}", tame(name), tame(&line));
    }
    text.push('\n');
    for line in view.content.text.as_deref().unwrap_or_default().lines() {
        let _ = writeln!(text, "{}", tame(line));
    }
    for attached in &view.content.attachments {
        let _ = writeln!(
            text,
            "\nattached: {} ({}, {} bytes)",
            tame(&attached.name),
            tame(&attached.kind),
            attached.size
        );
    }
    text
}

/// One line of a log, as it was printed.
pub(crate) fn plain_line(line: &LogLineView) -> String {
    format!("{}\n", tame(&line.text))
}

/// One line of a log, with the time of day in UTC.
pub(crate) fn log_line(line: &LogLineView, named: bool) -> String {
    let seconds = line.at.0 / 1_000 % 86_400;
    let clock = format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        line.at.0 % 1_000
    );
    let mark = if line.stream == LogStreamView::Stderr { '!' } else { '|' };
    if named {
        format!("{clock} {} {mark} {}\n", tame(&line.name), tame(&line.text))
    } else {
        format!("{clock} {mark} {}\n", tame(&line.text))
    }
}
