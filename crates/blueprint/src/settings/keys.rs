//! The keys of `maquette.yaml`, each with what it means.

/// One key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
}

/// What a value looks like.
#[derive(Debug)]
pub(crate) enum Shape {
    Text,
    Flag,
    Number,
    Duration,
    Size,
    Cpus,
    /// A port number.
    Port,
    /// A major version, or a range of them.
    Versions,
    /// A list of texts.
    Texts,
    /// A list of texts, or one.
    TextOrTexts,
    /// Names with texts.
    TextMap,
    FlagOrPort,
    Choice(&'static [&'static str]),
    /// One of some words, or an object.
    ChoiceOr(&'static [&'static str], &'static [Entry]),
    /// Names with objects.
    Named(&'static [Entry]),
    Object(&'static [Entry]),
    /// A word of a later version.
    Reserved,
}

/// The names of some keys, without reserved ones.
pub(crate) fn names(entries: &[Entry]) -> Vec<&'static str> {
    entries
        .iter()
        .filter(|entry| !matches!(entry.shape, Shape::Reserved))
        .map(|entry| entry.name)
        .collect()
}

const fn entry(name: &'static str, doc: &'static str, shape: Shape) -> Entry {
    Entry { name, doc, shape }
}

pub(crate) static ROOT: [Entry; 2] = [
    entry(
        "stack",
        "What runs. Read from the commit that the environment is for.",
        Shape::Object(&STACK),
    ),
    entry(
        "policy",
        "What is allowed. Read from the project's policy branch only, never from a pull request.",
        Shape::Object(&POLICY),
    ),
];

pub(crate) static STACK: [Entry; 9] = [
    entry(
        "compose",
        "The Compose file, or several of which later ones override earlier ones. Default: what `COMPOSE_FILE` in `.env` names, else the first that exists of compose.yaml, compose.yml, docker-compose.yaml, docker-compose.yml, and its override file (compose.override.yaml and the like).",
        Shape::TextOrTexts,
    ),
    entry(
        "profiles",
        "The profiles whose services run, besides those that `COMPOSE_PROFILES` in `.env` names; `*` for all. Default: none.",
        Shape::TextOrTexts,
    ),
    entry(
        "without",
        "Services that are left out, with their data and the jobs that need them; what depends on one runs without it. `maquette update` changes it for one environment. Default: none.",
        Shape::TextOrTexts,
    ),
    entry(
        "endpoints",
        "Services that are left out because one outside does in their place: `search: search.example.com:9200`. The policy has to allow it (`egress`, `private`). `maquette update` changes it for one environment. Default: none.",
        Shape::TextMap,
    ),
    entry(
        "source_root",
        "The folder that relative paths of the Compose files start from. Default: the folder of the first one.",
        Shape::Text,
    ),
    entry(
        "services",
        "What the Compose file does not say about its services, by name.",
        Shape::Named(&SERVICE),
    ),
    entry(
        "data",
        "What is in the data engines of the Compose file, by service name.",
        Shape::Named(&DATA),
    ),
    entry(
        "mail",
        "A mail server that keeps what the application sends, shows it on a page and sends nothing. Services whose image is mailpit, mailhog or maildev are one without this.",
        Shape::Object(&MAIL),
    ),
    entry("jobs", "Commands that run to an end, by name.", Shape::Named(&JOB)),
];

pub(crate) static MAIL: [Entry; 2] = [
    entry(
        "service",
        "The name under which services find it. Default: mail.",
        Shape::Text,
    ),
    entry(
        "port",
        "A port on which it takes mail, besides 25 and 1025. Default: 25.",
        Shape::Port,
    ),
];

pub(crate) static SERVICE: [Entry; 4] = [
    entry(
        "host",
        "Run the service from the packages of the host instead of its image. It then needs a `command`.",
        Shape::Flag,
    ),
    entry(
        "public",
        "Whether people can visit it: `true` for its first port, or a port. Default: services with `ports` are public, unless any service says `public` here.",
        Shape::FlagOrPort,
    ),
    entry(
        "build",
        "What is made of the checkout before the service starts, without a Dockerfile. What was made of the same inputs is used again.",
        Shape::Object(&BUILD),
    ),
    entry(
        "source",
        "The source of the project that the service is from, by its name: what it builds and mounts of a repository is of that one, with paths from its root. Default: the source that this file is in.",
        Shape::Text,
    ),
];

pub(crate) static BUILD: [Entry; 6] = [
    entry(
        "of",
        "The service whose build this one uses, in place of one of its own.",
        Shape::Text,
    ),
    entry(
        "run",
        "The program and its arguments. It runs where the service runs: the same root, mounts and working directory.",
        Shape::Texts,
    ),
    entry(
        "inputs",
        "The only files that the build sees: paths or patterns (`*`, `?`, `**`) from the root of the service's repository. Default: all of the commit, and it runs for each commit.",
        Shape::TextOrTexts,
    ),
    entry(
        "outputs",
        "What it makes, as paths from the root of the repository. Default: all of the checkout as the build leaves it.",
        Shape::TextOrTexts,
    ),
    entry(
        "environment",
        "Environment variables. The build sees none of those of the service.",
        Shape::TextMap,
    ),
    entry("timeout", "How long it may run. Default: 15m.", Shape::Duration),
];

pub(crate) static DATA: [Entry; 3] = [
    entry(
        "versions",
        "The major versions that the stack works with, such as 15 or \"15-17\". Default: the version of the image's tag.",
        Shape::Versions,
    ),
    entry(
        "migrations",
        "SQL files in the order in which they run: paths or patterns (`*`, `?`, `**`) from the root of the repository. The files of one pattern run sorted by name.",
        Shape::TextOrTexts,
    ),
    entry(
        "seed",
        "SQL files with test data, run after all migrations when a database is made.",
        Shape::TextOrTexts,
    ),
];

/// The events of jobs.
pub(crate) static EVENTS: [&str; 5] = ["create", "start", "stop", "delete", "hand"];

pub(crate) static SCHEDULE: [Entry; 1] = [entry(
    "schedule",
    "The times at which it runs in production, as cron has them.",
    Shape::Text,
)];

pub(crate) static JOB: [Entry; 7] = [
    entry(
        "service",
        "The service whose image, mounts and environment the job has. Without it the job runs from the packages of the host, in the checkout.",
        Shape::Text,
    ),
    entry(
        "run",
        "The program and its arguments. No shell is involved.",
        Shape::Texts,
    ),
    entry(
        "on",
        "When it runs: once when the environment is created, at each start of a new generation, before services stop, before the environment is deleted, or when somebody runs it by hand. What has a `schedule: \"30 3 * * *\"` is run by hand, never by the clock. Default: create.",
        Shape::ChoiceOr(&EVENTS, &SCHEDULE),
    ),
    entry(
        "needs",
        "Services that must be ready first. Default: the engines that its service depends on.",
        Shape::TextOrTexts,
    ),
    entry("timeout", "How long it may run. Default: 5m.", Shape::Duration),
    entry("environment", "Further environment variables.", Shape::TextMap),
    entry("source", "A source of its own.", Shape::Reserved),
];

pub(crate) static POLICY: [Entry; 11] = [
    entry(
        "triggers",
        "Which pull requests get an environment.",
        Shape::Object(&TRIGGERS),
    ),
    entry(
        "baseline",
        "The environment of the base branch: `asleep` starts it for each push, sees it live and stops it until somebody wants it, `awake` lets it run, `none` leaves it out. Default: asleep.",
        Shape::Choice(&["asleep", "awake", "none"]),
    ),
    entry(
        "sleep_after",
        "After how long without a visit an environment sleeps. Default: 30m. No effect in this version.",
        Shape::Duration,
    ),
    entry(
        "expire_after",
        "After how long without a push or a visit an environment is removed. Default: 14d. In this version it counts only while the forge can not be read: what is stopped for that, a day after it began at the earliest, is removed after this long.",
        Shape::Duration,
    ),
    entry(
        "limits",
        "Upper bounds for one environment. A commit that runs because somebody approved it has half of each.",
        Shape::Object(&LIMITS),
    ),
    entry(
        "secrets",
        "Names of the secrets that trusted pull requests are given: `${NAME}` in `environment` of a Compose file, and secrets of that name, stand for them. Default: none.",
        Shape::TextOrTexts,
    ),
    entry(
        "egress",
        "Hosts that environments of trusted pull requests may reach: `api.stripe.com` (port 443), `*.example.com:80,443`, or the word of a preset such as `npm`, for which the server has a list of hosts. Default: none.",
        Shape::TextOrTexts,
    ),
    entry(
        "private",
        "Endpoints at addresses of their own, also in private networks, by the names that services use: `search: 10.0.0.5:9200`. Default: none.",
        Shape::TextMap,
    ),
    entry("access", "Who may visit.", Shape::Reserved),
    entry("trust", "Whose pull requests are trusted.", Shape::Reserved),
    entry("office_hours", "When environments are kept awake.", Shape::Reserved),
];

pub(crate) static TRIGGERS: [Entry; 4] = [
    entry(
        "pull_requests",
        "Whether pull requests get environments by themselves. Default: true.",
        Shape::Flag,
    ),
    entry("drafts", "Whether drafts do. Default: true.", Shape::Flag),
    entry(
        "labels",
        "Only pull requests with one of these labels. Default: any.",
        Shape::TextOrTexts,
    ),
    entry(
        "base_branches",
        "Only pull requests into one of these branches; patterns with `*`. Default: any.",
        Shape::TextOrTexts,
    ),
];

pub(crate) static LIMITS: [Entry; 4] = [
    entry(
        "memory",
        "Memory of all services together, such as 2GiB. Default: 2GiB.",
        Shape::Size,
    ),
    entry("cpus", "CPUs of all services together. Default: 2.", Shape::Cpus),
    entry("disk", "Disk of all volumes together. Default: 4GiB.", Shape::Size),
    entry(
        "pids",
        "Processes and threads of all services together. Default: 1500.",
        Shape::Number,
    ),
];
