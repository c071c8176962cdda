//! `stack:` of `maquette.yaml`, before it meets the Compose file.

use super::{fields, keys};
use crate::{
    dotenv,
    escape::quoted,
    problem::{At, Report},
    read,
    yaml::{Node, NodeKind},
};
use model::{Endpoint, JobEvent, JobName, ServiceName, VersionRange};
use std::collections::BTreeMap;

/// How long a job may run unless it says so, in milliseconds.
const JOB_TIMEOUT_MS: u64 = 5 * 60_000;
/// How long a build may run unless it says so, in milliseconds.
const BUILD_TIMEOUT_MS: u64 = 15 * 60_000;
/// The longest time that a job may ask for, in milliseconds.
const JOB_TIMEOUT_MAX_MS: u64 = 60 * 60_000;

/// The most jobs of one stack.
const JOBS_MAX: usize = 100;

/// What `stack:` says.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    pub(crate) compose: Vec<(At, String)>,
    pub(crate) profiles: Vec<(At, String)>,
    pub(crate) without: Vec<(At, String)>,
    pub(crate) endpoints: BTreeMap<String, (At, Endpoint)>,
    pub(crate) source_root: Option<(At, String)>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) data: BTreeMap<String, Data>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) mail: Option<Mail>,
}

/// A mail server that keeps what it is sent.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) at: At,
    pub(crate) service: ServiceName,
    pub(crate) port: u16,
}

/// What it says of a service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) at: At,
    pub(crate) host: Option<(At, bool)>,
    pub(crate) public: Option<(At, Public)>,
    pub(crate) build: Option<Build>,
    /// The source that its files are from.
    pub(crate) source: Option<(At, String)>,
}

/// How something is built in its checkout.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) at: At,
    /// The service whose build it uses; then nothing else is said.
    pub(crate) of: Option<(At, String)>,
    pub(crate) run: Vec<String>,
    pub(crate) inputs: Option<Vec<(At, String)>>,
    pub(crate) outputs: Vec<(At, String)>,
    pub(crate) environment: BTreeMap<String, (At, String)>,
    pub(crate) timeout_ms: u64,
}

/// Whether people can visit a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Public {
    No,
    FirstPort,
    Port(u16),
}

/// What it says of an engine.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) at: At,
    pub(crate) versions: Option<(At, VersionRange)>,
    pub(crate) migrations: Vec<(At, String)>,
    pub(crate) seed: Vec<(At, String)>,
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) at: At,
    pub(crate) name: JobName,
    pub(crate) service: Option<(At, String)>,
    pub(crate) run: Vec<String>,
    pub(crate) on: JobEvent,
    pub(crate) schedule: Option<String>,
    pub(crate) needs: Option<Vec<(At, String)>>,
    pub(crate) timeout_ms: u64,
    pub(crate) environment: BTreeMap<String, (At, String)>,
}

/// Reads the value of `stack`.
pub(crate) fn read(report: &Report, node: &Node) -> Stack {
    let mut stack = Stack::default();
    for (key, value) in fields(report, node, &keys::STACK, "`stack`") {
        let what = format!("`{}` in `stack`", key.text);
        match key.text.as_str() {
            "compose" => stack.compose = read::texts(report, value, &what, true).unwrap_or_default(),
            "profiles" => stack.profiles = read::texts(report, value, &what, true).unwrap_or_default(),
            "without" => stack.without = read::texts(report, value, &what, true).unwrap_or_default(),
            "endpoints" => stack.endpoints = endpoints(report, value, &what),
            "source_root" => {
                stack.source_root = read::text(report, value, &what).map(|text| (value.at, text.to_owned()))
            }
            "services" => {
                for (key, value) in read::map(report, value, &what).unwrap_or_default() {
                    stack
                        .services
                        .insert(key.text.clone(), service(report, key.at, &key.text, value));
                }
            }
            "data" => {
                for (key, value) in read::map(report, value, &what).unwrap_or_default() {
                    stack
                        .data
                        .insert(key.text.clone(), data(report, key.at, &key.text, value));
                }
            }
            "mail" => stack.mail = mail(report, key.at, value, &what),
            "jobs" => {
                if let Some((key, _)) = read::map(report, value, &what).and_then(|jobs| jobs.get(JOBS_MAX)) {
                    report.error(key.at, format!("there are more than {JOBS_MAX} jobs"));
                    continue;
                }
                for (key, value) in read::map(report, value, &what).unwrap_or_default() {
                    if let Some(name) = read::name(report, key.at, &key.text) {
                        stack.jobs.extend(job(report, key.at, name, value));
                    }
                }
            }
            _ => {}
        }
    }
    stack
}

fn mail(report: &Report, at: At, node: &Node, what: &str) -> Option<Mail> {
    let mut mail = Mail {
        at,
        service: "mail".parse().ok()?,
        port: 25,
    };
    for (key, value) in fields(report, node, &keys::MAIL, what) {
        let what = format!("`{}` of {what}", key.text);
        let text = read::text(report, value, &what)?;
        match key.text.as_str() {
            "service" => mail.service = read::name(report, value.at, text)?,
            _ => match read::port(text) {
                Some(port) => mail.port = port,
                None => report.error(value.at, format!("{what} must be a port, and this is {}", quoted(text))),
            },
        }
    }
    Some(mail)
}

fn endpoints(report: &Report, node: &Node, what: &str) -> BTreeMap<String, (At, Endpoint)> {
    let mut found = BTreeMap::new();
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        let Some(text) = read::text(report, value, what) else {
            continue;
        };
        match text.parse() {
            Ok(endpoint) => drop(found.insert(key.text.clone(), (key.at, endpoint))),
            Err(error) => {
                let message = format!("{} in {what}: {error}", quoted(text));
                report.error_hint(value.at, message, "such as `search.example.com:9200`");
            }
        }
    }
    found
}

fn service(report: &Report, at: At, name: &str, node: &Node) -> Service {
    let mut service = Service {
        at,
        host: None,
        public: None,
        build: None,
        source: None,
    };
    let place = format!("service {}", quoted(name));
    for (key, value) in fields(report, node, &keys::SERVICE, &place) {
        match key.text.as_str() {
            "host" => service.host = read::flag(report, value, "`host`").map(|flag| (key.at, flag)),
            "build" => service.build = build(report, key.at, name, value),
            "source" => service.source = read::text(report, value, "`source`").map(|text| (value.at, text.to_owned())),
            _ => service.public = public(report, value).map(|public| (value.at, public)),
        }
    }
    service
}

fn build(report: &Report, at: At, service: &str, node: &Node) -> Option<Build> {
    let place = format!("the build of service {}", quoted(service));
    let mut build = Build {
        at,
        of: None,
        run: Vec::new(),
        inputs: None,
        outputs: Vec::new(),
        environment: BTreeMap::new(),
        timeout_ms: BUILD_TIMEOUT_MS,
    };
    let known = fields(report, node, &keys::BUILD, &place);
    for (key, value) in &known {
        let what = format!("`{}` of {place}", key.text);
        match key.text.as_str() {
            "of" => build.of = read::text(report, value, &what).map(|text| (value.at, text.to_owned())),
            "run" => {
                let words = read::texts(report, value, &what, false)?;
                build.run = words.into_iter().map(|(_, word)| word).collect();
            }
            "inputs" => build.inputs = Some(read::texts(report, value, &what, true)?),
            "outputs" => build.outputs = read::texts(report, value, &what, true)?,
            "timeout" => build.timeout_ms = timeout(report, value, &what).unwrap_or(BUILD_TIMEOUT_MS),
            _ => build.environment = variables(report, value, &what),
        }
    }
    if build.of.is_some() && known.len() > 1 {
        report.error(
            at,
            format!("{place} says `of` and something else, which is that service's to say"),
        );
        return None;
    }
    if build.of.is_none() && build.run.is_empty() {
        report.error_hint(
            at,
            format!("{place} runs nothing"),
            "give it `run: [program, argument, …]`",
        );
        return None;
    }
    Some(build)
}

fn variables(report: &Report, node: &Node, what: &str) -> BTreeMap<String, (At, String)> {
    let mut variables = BTreeMap::new();
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        if !dotenv::is_name(&key.text) {
            report.error(
                key.at,
                format!("{} can not be the name of an environment variable", quoted(&key.text)),
            );
        } else if let Some(text) = read::text(report, value, what) {
            variables.insert(key.text.clone(), (key.at, text.to_owned()));
        }
    }
    variables
}

fn public(report: &Report, node: &Node) -> Option<Public> {
    let text = read::text(report, node, "`public`")?;
    match (text, read::port(text)) {
        ("true", _) => Some(Public::FirstPort),
        ("false", _) => Some(Public::No),
        (_, Some(port)) => Some(Public::Port(port)),
        _ => {
            report.error(
                node.at,
                format!(
                    "`public` must be `true`, `false` or a port, and this is {}",
                    quoted(text)
                ),
            );
            None
        }
    }
}

fn data(report: &Report, at: At, name: &str, node: &Node) -> Data {
    let mut data = Data {
        at,
        versions: None,
        migrations: Vec::new(),
        seed: Vec::new(),
    };
    for (key, value) in fields(report, node, &keys::DATA, &format!("the data of {}", quoted(name))) {
        match key.text.as_str() {
            "versions" => data.versions = versions(report, value).map(|range| (value.at, range)),
            "migrations" => data.migrations = read::texts(report, value, "`migrations`", true).unwrap_or_default(),
            _ => data.seed = read::texts(report, value, "`seed`", true).unwrap_or_default(),
        }
    }
    data
}

fn versions(report: &Report, node: &Node) -> Option<VersionRange> {
    let text = read::text(report, node, "`versions`")?;
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    let major = |text: &str| text.trim().parse::<u32>().ok().filter(|major| *major < 10_000);
    match (major(min), major(max)) {
        (Some(min), Some(max)) if min <= max => Some(VersionRange { min, max }),
        _ => {
            let hint = "a major version such as 15, or a range such as \"15-17\"";
            report.error_hint(node.at, format!("{} is no range of versions", quoted(text)), hint);
            None
        }
    }
}

fn job(report: &Report, at: At, name: JobName, node: &Node) -> Option<Job> {
    let place = format!("job `{name}`");
    let mut job = Job {
        at,
        name,
        service: None,
        run: Vec::new(),
        on: JobEvent::Create,
        schedule: None,
        needs: None,
        timeout_ms: JOB_TIMEOUT_MS,
        environment: BTreeMap::new(),
    };
    for (key, value) in fields(report, node, &keys::JOB, &place) {
        let what = format!("`{}` of {place}", key.text);
        match key.text.as_str() {
            "service" => job.service = read::text(report, value, &what).map(|text| (value.at, text.to_owned())),
            "run" => {
                let words = read::texts(report, value, &what, false)?;
                job.run = words.into_iter().map(|(_, word)| word).collect();
            }
            "on" if matches!(value.kind, NodeKind::Map(_)) => {
                job.on = JobEvent::Hand;
                job.schedule = schedule(report, value, &what);
            }
            "on" => job.on = event(report, value, &what).unwrap_or(JobEvent::Create),
            "needs" => job.needs = read::texts(report, value, &what, true),
            "timeout" => job.timeout_ms = timeout(report, value, &what).unwrap_or(JOB_TIMEOUT_MS),
            _ => job.environment = variables(report, value, &what),
        }
    }
    if job.run.is_empty() {
        report.error_hint(
            at,
            format!("{place} runs nothing"),
            "give it `run: [program, argument, …]`",
        );
        return None;
    }
    Some(job)
}

fn event(report: &Report, node: &Node, what: &str) -> Option<JobEvent> {
    match read::text(report, node, what)? {
        "create" => Some(JobEvent::Create),
        "start" => Some(JobEvent::Start),
        "stop" => Some(JobEvent::Stop),
        "delete" => Some(JobEvent::Delete),
        "hand" => Some(JobEvent::Hand),
        other => {
            let hint = crate::suggest::hint(other, &keys::EVENTS);
            report.error_hint(
                node.at,
                format!("{what} must be an event, and this is {}", quoted(other)),
                hint,
            );
            None
        }
    }
}

/// When a job runs in production. It is told to people, and nothing else comes of it.
fn schedule(report: &Report, node: &Node, what: &str) -> Option<String> {
    let mut found = None;
    for (key, value) in fields(report, node, &keys::SCHEDULE, what) {
        let text = read::text(report, value, &format!("`{}` of {what}", key.text))?;
        if is_schedule(text) {
            found = Some(text.to_owned());
        } else {
            let hint = "five fields as cron has them, such as \"30 3 * * 1-5\", or a word such as @daily";
            report.error_hint(value.at, format!("{} is no schedule", quoted(text)), hint);
        }
    }
    if found.is_none() && node.get("schedule").is_none() {
        report.error_hint(
            node.at,
            format!("{what} names no `schedule`"),
            "`on: hand` is a job that has none",
        );
    }
    found
}

/// Whether cron would understand it, near enough: it is shown and never computed with.
fn is_schedule(text: &str) -> bool {
    const FIELD: &str = "0123456789*/,-?LW#";
    let field = |field: &str| {
        let known = |c: char| c.is_ascii_alphabetic() || FIELD.contains(c);
        !field.is_empty() && field.len() <= 64 && field.chars().all(known)
    };
    match text.strip_prefix('@') {
        Some(word) => word.len() <= 32 && !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()),
        None => (5..=6).contains(&text.split(' ').count()) && text.split(' ').all(field),
    }
}

fn timeout(report: &Report, node: &Node, what: &str) -> Option<u64> {
    let ms = read::duration_ms(report, node, what)?;
    if !(1_000..=JOB_TIMEOUT_MAX_MS).contains(&ms) {
        report.error(node.at, format!("{what} must be between one second and one hour"));
        return None;
    }
    Some(ms)
}
