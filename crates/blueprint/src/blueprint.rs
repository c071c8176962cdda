//! Reads a whole blueprint.

use crate::{
    assemble::Assembly,
    compose::{self, DEFAULT_FILES, LeftOut, Loader, OVERRIDE_FILES, Scene, Source},
    context::Context,
    dotenv::{self, Style},
    escape::quoted,
    explain::{Explanation, Place},
    interpolate::{self, Giver, Scope},
    problem::{At, Problem, Problems, Report, Severity, Whose, sorted},
    public,
    settings::{self, Policy, Settings, Stack},
    sources::{self, Elsewhere, Further},
    suggest,
    tree::{self, Tree},
    yaml,
};
use model::{Capabilities, Endpoint, Feature, ServiceName, ServiceStack, Staging};
use serde::{Deserialize, Serialize};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// The most Compose files that override each other.
const COMPOSE_FILES_MAX: usize = 20;

/// What an environment consists of, read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// What runs. Volumes are empty and of the first incarnation: it is the caller who knows better.
    pub stack: ServiceStack,
    /// What is allowed.
    pub policy: Policy,
    /// The services that are left out on purpose, in the order of the Compose file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Where services are found that are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<ServiceName, Endpoint>,
    /// The services that people can visit; the first one is the main one, which has the environment's own address.
    pub public: Vec<ServiceName>,
    /// Where each value comes from.
    pub explanation: Explanation,
    /// What has no effect, and the like.
    pub warnings: Vec<Problem>,
}

impl Blueprint {
    /// Reads the stack from the tree of the commit that the environment is for, and the policy from that of the policy
    /// branch; without the latter it is the default.
    ///
    /// # Errors
    /// Everything that was found, if one of it is an error.
    pub fn read(
        stack_tree: &dyn Tree,
        policy_tree: Option<&dyn Tree>,
        context: &Context,
        capabilities: &Capabilities,
    ) -> Result<Self, Problems> {
        Self::read_from(stack_tree, policy_tree, &Further::default(), context, capabilities)
    }

    /// The same where the project has further sources, from which services may be.
    ///
    /// # Errors
    /// Everything that was found, if one of it is an error.
    pub fn read_from(
        stack_tree: &dyn Tree,
        policy_tree: Option<&dyn Tree>,
        further: &Further<'_>,
        context: &Context,
        capabilities: &Capabilities,
    ) -> Result<Self, Problems> {
        let head = settings::read(stack_tree, Whose::Head);
        let ruling = policy_tree.map(|tree| settings::read(tree, Whose::Policy));
        let mut explanation = Explanation::default();
        let policy = match &ruling {
            Some(settings) => Policy::of(settings, &mut explanation),
            None => Policy::without_file(&mut explanation),
        };
        note_own_policy(&head, &policy);

        let stack = head
            .stack
            .as_ref()
            .map_or_else(Stack::default, |node| settings::stack(&head.report, node));
        let elsewhere = sources::elsewhere(&head.report, &stack, &context.source, further);
        let opened = compose_files(stack_tree, &head.report, &stack, &mut explanation);
        let (compose, made) = match &opened {
            Ok(opened) => {
                let (compose, sources) = opened.report();
                let reader = Reader {
                    tree: stack_tree,
                    head: &head,
                    stack: &stack,
                    opened,
                    compose: &compose,
                    sources,
                    context,
                    capabilities,
                    elsewhere: &elsewhere,
                };
                if let Some(other) = opened.also {
                    compose.warn(None, format!("there is also {}, which is not read", quoted(other)));
                }
                let made = reader.run(&policy, &mut explanation);
                (compose, Some(made))
            }
            Err(_) => (Report::new(Whose::Head, "", String::new()), None),
        };
        let compose = match opened {
            Ok(_) => compose,
            Err(report) => *report,
        };
        unfetched(stack_tree, &head.report);

        let mut problems = sorted(&[&head.report, &compose]);
        if let Some(settings) = &ruling {
            let more = distinct(&settings.report, &head.report, &problems);
            problems.extend(more);
        }
        if let Some(made) = made {
            problems.sort();
            if problems.iter().all(|problem| problem.severity != Severity::Error) {
                return Ok(Self {
                    stack: made.stack,
                    policy,
                    left_out: made.left_out,
                    endpoints: made.endpoints,
                    public: made.public,
                    explanation,
                    warnings: problems,
                });
            }
        }
        problems.sort();
        Err(Problems(problems))
    }
}

/// The Compose files of a tree put together, for tools that compare this with other readers.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// As one: files, overrides, `include` and `extends`, interpolated, paths from the root of the tree. `env_file` is carried out,
    /// profiles are not.
    pub value: serde_json::Value,
    /// The services that have no profile, or one that is chosen.
    pub chosen: BTreeSet<String>,
}

/// Puts the Compose files of a tree together.
///
/// # Errors
/// Everything that was found, if one of it is an error.
pub fn compose_resolved(tree: &dyn Tree, context: &Context) -> Result<Resolved, Problems> {
    let head = settings::read(tree, Whose::Head);
    let stack = head
        .stack
        .as_ref()
        .map_or_else(Stack::default, |node| settings::stack(&head.report, node));
    let opened = match compose_files(tree, &head.report, &stack, &mut Explanation::default()) {
        Ok(opened) => opened,
        Err(report) => return Err(Problems(sorted(&[&head.report, &report]))),
    };
    let (compose, sources) = opened.report();
    let reader = Reader {
        tree,
        head: &head,
        stack: &stack,
        opened: &opened,
        compose: &compose,
        sources,
        context,
        capabilities: &no_runtime(),
        elsewhere: &BTreeMap::new(),
    };
    let resolved = reader.gather(&Policy::default()).map(|gathered| {
        let scene = Scene {
            report: &compose,
            tree,
            source: &context.source,
            folder: "",
            scope: &gathered.scope,
            root: &gathered.root,
            profiles: &gathered.profiles,
            without: &BTreeSet::new(),
            broken: &gathered.broken,
            stack: &stack,
            builds: true,
            elsewhere: reader.elsewhere,
            unseen: false,
        };
        Resolved {
            value: compose::resolved(&scene),
            chosen: compose::chosen(&scene),
        }
    });
    let problems = sorted(&[&head.report, &compose]);
    match resolved {
        Some(resolved) if problems.iter().all(|problem| problem.severity != Severity::Error) => Ok(resolved),
        _ => Err(Problems(problems)),
    }
}

/// What is asked of no runtime.
fn no_runtime() -> Capabilities {
    Capabilities {
        runtime: String::new(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: true,
        engines: Vec::new(),
        snapshots: false,
        freeze: false,
        sources: true,
        databases: true,
        features: BTreeSet::new(),
    }
}

/// The problems of the policy branch's settings that were not told already, where the commit has the same file.
fn distinct(ruling: &Report, head: &Report, told: &[Problem]) -> Vec<Problem> {
    let same = ruling.text == head.text;
    let known = |problem: &Problem| {
        told.contains(&Problem {
            whose: Whose::Head,
            ..problem.clone()
        })
    };
    sorted(&[ruling])
        .into_iter()
        .filter(|problem| !(same && known(problem)))
        .collect()
}

/// A policy in the commit itself has no effect, which is said if it would make a difference.
fn note_own_policy(head: &Settings, ruling: &Policy) {
    let Some((key, node)) = &head.policy else { return };
    let own = Policy::of(
        &Settings {
            report: head.report.silent(),
            stack: None,
            policy: Some((key.clone(), std::rc::Rc::clone(node))),
        },
        &mut Explanation::default(),
    );
    if own != *ruling {
        head.report.warn_hint(
            key.at,
            "`policy` is read from the policy branch, not from here, and says something else there",
            "it has an effect once it is merged",
        );
    }
}

/// The Compose files of a tree.
struct Opened {
    /// Path and text, in the order in which they override each other; at least one.
    files: Vec<(String, String)>,
    /// A further file of one of the default names.
    also: Option<&'static str>,
}

impl Opened {
    /// A report of the first file that knows the others, and the files as they are numbered in it.
    fn report(&self) -> (Report, Vec<Source>) {
        let mut files = self.files.iter();
        let (path, text) = files.next().map_or(("", ""), |(path, text)| (path, text));
        let report = Report::new(Whose::Head, path, text.to_owned());
        let mut sources = vec![Source {
            path: path.to_owned(),
            file: 0,
        }];
        for (path, text) in files {
            let file = report.add(path, text.clone(), "");
            sources.push(Source {
                path: path.clone(),
                file,
            });
        }
        (report, sources)
    }
}

/// Finds and opens the Compose files; without any if there is nothing to read.
fn compose_files(
    tree: &dyn Tree,
    settings: &Report,
    stack: &Stack,
    explanation: &mut Explanation,
) -> Result<Opened, Box<Report>> {
    let failed = |path: &str| Box::new(Report::new(Whose::Head, path, String::new()));
    let open = |path: &str| tree::join("", path).and_then(|path| tree::text(tree, &path).map(|text| (path, text)));
    if let Some((at, first)) = stack.compose.first() {
        let names: Vec<&str> = stack.compose.iter().map(|(_, path)| path.as_str()).collect();
        explanation.set("stack.compose", names.join(", "), Place::at(settings, *at));
        if stack.compose.len() > COMPOSE_FILES_MAX {
            settings.error(
                *at,
                format!("at most {COMPOSE_FILES_MAX} Compose files are put together"),
            );
            return Err(failed(first));
        }
        let mut files = Vec::new();
        for (at, path) in &stack.compose {
            match open(path) {
                Ok(file) => files.push(file),
                Err(error) => settings.error(*at, format!("{} {error}", quoted(path))),
            }
        }
        let whole = files.len() == stack.compose.len();
        return if whole {
            Ok(Opened { files, also: None })
        } else {
            Err(failed(first))
        };
    }
    if let Some(paths) = dotenv_files(tree) {
        explanation.fall_back("stack.compose", paths.join(", "));
        let mut files = Vec::new();
        for path in paths.iter().take(COMPOSE_FILES_MAX) {
            match open(path) {
                Ok(file) => files.push(file),
                Err(error) => {
                    let report = failed(".env");
                    report.error(None, format!("{}, which `COMPOSE_FILE` names, {error}", quoted(path)));
                    return Err(report);
                }
            }
        }
        return Ok(Opened { files, also: None });
    }
    let mut found = DEFAULT_FILES.iter().filter(|path| tree.kind(path).is_some());
    let Some(path) = found.next() else {
        let report = failed(DEFAULT_FILES[0]);
        let message = format!("there is no Compose file: none of {}", DEFAULT_FILES.join(", "));
        report.error_hint(
            None,
            message,
            "add one, or name it with `stack: { compose: path }` in maquette.yaml",
        );
        return Err(report);
    };
    let mut names = vec![*path];
    names.extend(OVERRIDE_FILES.iter().find(|path| tree.kind(path).is_some()));
    explanation.fall_back("stack.compose", names.join(", "));
    let mut files = Vec::new();
    for path in names {
        match open(path) {
            Ok(file) => files.push(file),
            Err(error) => {
                let report = failed(path);
                report.error(None, format!("the file {error}"));
                return Err(report);
            }
        }
    }
    let also = found.next().copied();
    Ok(Opened { files, also })
}

/// The files that `COMPOSE_FILE` in `.env` names.
fn dotenv_files(tree: &dyn Tree) -> Option<Vec<String>> {
    tree.kind(".env")?;
    let report = Report::new(Whose::Head, ".env", tree::text(tree, ".env").ok()?);
    let lines = dotenv::read(&report, 0, &Scope::default(), Style::Compose);
    let value = |name: &str| {
        let line = lines.iter().rev().find(|line| line.name == name);
        line.map(|line| line.value.as_str()).filter(|value| !value.is_empty())
    };
    let separator = value("COMPOSE_PATH_SEPARATOR").unwrap_or(":");
    let paths = value("COMPOSE_FILE")?.split(separator).map(str::to_owned).collect();
    Some(paths)
}

/// What a checkout of this tree lacks.
fn unfetched(tree: &dyn Tree, report: &Report) {
    if tree.kind(".gitmodules").is_some() {
        report.warn(
            None,
            "the repository has submodules, which are not fetched: their folders are empty",
        );
    }
    if tree::text(tree, ".gitattributes").is_ok_and(|text| text.contains("filter=lfs")) {
        report.warn(
            None,
            "the repository has files in Git LFS, which are not fetched: pointers stand in their place",
        );
    }
}

/// What a reader makes.
#[derive(Default)]
struct Made {
    stack: ServiceStack,
    public: Vec<ServiceName>,
    left_out: Vec<String>,
    endpoints: BTreeMap<ServiceName, Endpoint>,
}

struct Reader<'a> {
    tree: &'a dyn Tree,
    head: &'a Settings,
    stack: &'a Stack,
    opened: &'a Opened,
    compose: &'a Report,
    sources: Vec<Source>,
    context: &'a Context,
    capabilities: &'a Capabilities,
    /// Services whose files are of another source.
    elsewhere: &'a BTreeMap<String, Elsewhere<'a>>,
}

impl Reader<'_> {
    /// Makes the stack. Problems are in the reports.
    fn run(&self, policy: &Policy, explanation: &mut Explanation) -> Made {
        let nothing = Made::default;
        if !self.capabilities.services {
            let message = format!("the runtime `{}` runs no Compose files", self.capabilities.runtime);
            self.compose.error(None, message);
            return nothing();
        }
        let Some(gathered) = self.gather(policy) else {
            return nothing();
        };
        let Gathered {
            root,
            scope,
            documented,
            public,
            profiles,
            broken,
        } = gathered;
        let without = self.without();
        let scene = Scene {
            report: self.compose,
            tree: self.tree,
            source: &self.context.source,
            // Paths were written from the root when files were put together.
            folder: "",
            scope: &scope,
            root: &root,
            profiles: &profiles,
            without: &without,
            broken: &broken,
            stack: self.stack,
            builds: self.capabilities.features.contains(&Feature::Builds),
            elsewhere: self.elsewhere,
            unseen: false,
        };
        let Some(file) = compose::read(&scene) else {
            return nothing();
        };
        let public: Vec<ServiceName> = public
            .into_iter()
            .filter(|name| !file.left_out.iter().any(|(out, _)| out == name.as_str()))
            .collect();
        let assembly = Assembly {
            tree: self.tree,
            compose: self.compose,
            settings: &self.head.report,
            file: &file,
            stack: self.stack,
            public: &public,
            source: &self.context.source,
            documented: &documented,
            capabilities: self.capabilities,
            images: self.context.images.as_ref(),
            limits: policy.limits,
            paths: OnceCell::new(),
            elsewhere: self.elsewhere,
        };
        let stack = assembly.run(explanation);
        let left_out = self.tell_left_out(&file, explanation);
        let endpoints = self.tell_endpoints(&file, policy, explanation);
        if public.is_empty() && !self.compose.has_errors() && !self.head.report.has_errors() {
            self.compose.warn_hint(
                None,
                "no service can be visited",
                "give one `ports`, or say `public: true` of it in `stack.services` of maquette.yaml",
            );
        }
        Made {
            stack,
            public,
            left_out,
            endpoints,
        }
    }

    /// Puts the files together.
    fn gather(&self, policy: &Policy) -> Option<Gathered> {
        let folder = self.folder();
        // What is public may depend on values, and addresses are values: the first look is for the names only.
        let (quiet, sources) = self.opened.report();
        let first = self.scope(&quiet, &folder, policy, &[], None);
        let elsewhere: BTreeSet<String> = self.elsewhere.keys().cloned().collect();
        let Some(sketch) = Loader::new(&quiet, self.tree, &elsewhere).load(&sources, &folder, &first) else {
            self.compose.adopt(&quiet);
            return None;
        };
        let mut public = public::services(&sketch, self.stack);
        self.mail_comes_last(&sketch, &mut public);
        let without = self.without();
        public.retain(|name| !without.contains(name.as_str()));
        let documented = self.context.values(&public);
        let scope = self.scope(self.compose, &folder, policy, &public, project_name(&sketch));
        let loader = Loader::new(self.compose, self.tree, &elsewhere);
        let root = loader.load(&self.sources, &folder, &scope)?;
        let profiles = self.profiles(&scope);
        Some(Gathered {
            root,
            scope,
            documented,
            public,
            profiles,
            broken: loader.broken(),
        })
    }

    /// The folder that relative paths start from.
    fn folder(&self) -> String {
        let beside = tree::parent(&self.compose.file).to_owned();
        let Some((at, path)) = &self.stack.source_root else {
            return beside;
        };
        let folder = tree::join("", path).and_then(|folder| match tree::resolve(self.tree, &folder)? {
            tree::Kind::Directory => Ok(folder),
            _ => Err(tree::PathError::Missing),
        });
        match folder {
            Ok(folder) => folder,
            Err(error) => {
                self.head.report.error(*at, format!("{} {error}", quoted(path)));
                beside
            }
        }
    }

    /// Mail is read on a page of its own, which is never the main one.
    fn mail_comes_last(&self, sketch: &yaml::Node, public: &mut Vec<ServiceName>) {
        if !self.capabilities.features.contains(&Feature::Program) {
            return;
        }
        let mut mail = public::mail(sketch);
        mail.extend(self.stack.mail.iter().map(|mail| mail.service.clone()));
        public.retain(|name| !mail.contains(name));
        for name in mail {
            if !public.contains(&name) {
                public.push(name);
            }
        }
    }

    /// The services that are left out on purpose: those of `stack.without`, unless this environment is wanted with them, and
    /// those that this environment is wanted without.
    fn without(&self) -> BTreeSet<String> {
        let said = self.stack.without.iter().map(|(_, name)| name);
        let said = said.filter(|name| !self.context.with.iter().any(|with| with.as_str() == name.as_str()));
        let wished = self.context.without.iter().map(ServiceName::as_str);
        let elsewhere = self.endpoints().into_keys().collect::<Vec<_>>();
        let elsewhere = elsewhere.iter().map(ServiceName::as_str);
        said.map(String::as_str)
            .chain(wished)
            .chain(elsewhere)
            .map(str::to_owned)
            .collect()
    }

    /// Where services are found that are left out: what somebody wishes for this environment goes before what the stack says.
    fn endpoints(&self) -> BTreeMap<ServiceName, (Option<At>, Endpoint)> {
        let mut all = BTreeMap::new();
        for (name, (at, endpoint)) in &self.stack.endpoints {
            match name.parse::<ServiceName>() {
                Ok(name) if !self.context.with.contains(&name) => {
                    all.insert(name, (Some(*at), endpoint.clone()));
                }
                _ => {}
            }
        }
        for (name, endpoint) in &self.context.endpoints {
            all.insert(name.clone(), (None, endpoint.clone()));
        }
        all
    }

    /// The same, told and checked: what the policy does not allow is an error.
    fn tell_endpoints(
        &self,
        file: &compose::File,
        policy: &Policy,
        explanation: &mut Explanation,
    ) -> BTreeMap<ServiceName, Endpoint> {
        let names: Vec<&str> = file.names().collect();
        for (name, (at, _)) in &self.stack.endpoints {
            if !names.contains(&name.as_str()) {
                let message = format!("there is no service {} in {}", quoted(name), self.compose.file);
                self.head.report.error_hint(*at, message, suggest::hint(name, &names));
            }
        }
        let mut found = BTreeMap::new();
        for (name, (at, endpoint)) in self.endpoints() {
            if !file.leaves_out(name.as_str()) {
                continue;
            }
            let place = at.map_or(Place::Default, |at| Place::at(&self.head.report, at));
            explanation.set(
                format!("stack.services.{name}"),
                format!("left out, found at {endpoint}"),
                place,
            );
            // What presets stand for is the server's to say.
            if policy.presets.is_empty() && !endpoint.is_allowed(&policy.egress) {
                let message = format!("the policy does not allow {endpoint}, where service `{name}` is to be found");
                let hint = format!("in the policy: {}", endpoint.line(name.as_str()));
                self.head.report.error_hint(at, message, hint);
            }
            found.insert(name, endpoint);
        }
        found
    }

    /// The services that are left out on purpose. Says where that was said, and of names that no service has.
    fn tell_left_out(&self, file: &compose::File, explanation: &mut Explanation) -> Vec<String> {
        let wished = file.left_out.iter().filter(|(_, why)| *why == LeftOut::Wish);
        let wished: Vec<String> = wished.map(|(name, _)| name.clone()).collect();
        for name in &wished {
            let said = self.stack.without.iter().find(|(_, said)| said == name);
            let place = said.map_or(Place::Default, |(at, _)| Place::at(&self.head.report, *at));
            explanation.set(format!("stack.services.{name}"), "left out", place);
        }
        let names: Vec<&str> = file.names().collect();
        for (at, name) in &self.stack.without {
            if !names.contains(&name.as_str()) {
                let message = format!("there is no service {} in {}", quoted(name), self.compose.file);
                self.head.report.error_hint(*at, message, suggest::hint(name, &names));
            }
        }
        wished
    }

    /// The profiles that are chosen.
    fn profiles(&self, scope: &Scope) -> BTreeSet<String> {
        let said = self.stack.profiles.iter().map(|(_, profile)| profile.clone());
        let listed = scope.get("COMPOSE_PROFILES").unwrap_or_default().split(',');
        said.chain(listed.map(|profile| profile.trim().to_owned()))
            .filter(|profile| !profile.is_empty())
            .collect()
    }

    /// What may be interpolated: documented values, granted secrets, and the file `.env`; the first one wins.
    fn scope(
        &self,
        report: &Report,
        folder: &str,
        policy: &Policy,
        public: &[ServiceName],
        name: Option<String>,
    ) -> Scope {
        let mut scope = Scope::documented(&self.context.values(public));
        for secret in policy
            .secrets
            .iter()
            .filter(|name| self.context.secrets.contains(*name))
        {
            scope.add(secret, &interpolate::secret_mark(secret), Giver::Secret);
        }
        let path = match folder {
            "" => ".env".to_owned(),
            folder => format!("{folder}/.env"),
        };
        if self.tree.kind(&path).is_some() {
            match tree::text(self.tree, &path) {
                Ok(text) => {
                    let file = report.add(&path, text, "");
                    self.dotenv(report, file, &mut scope);
                }
                Err(error) => report.error(None, format!("{path}: the file {error}")),
            }
        }
        let project = name.unwrap_or_else(|| self.context.project.to_string());
        scope.add("COMPOSE_PROJECT_NAME", &project, Giver::Maquette);
        scope
    }

    fn dotenv(&self, report: &Report, file: u16, scope: &mut Scope) {
        let given = scope.clone();
        for line in dotenv::read(report, file, &given, Style::Compose) {
            match given.0.get(&line.name) {
                Some(known) if known.from == Giver::Maquette => report.warn(
                    line.at,
                    format!("`{}` has no effect here: its value comes from Maquette", line.name),
                ),
                // A granted secret is there in place of what the file says.
                Some(_) => {}
                None => {
                    scope.0.remove(&line.name);
                    scope.add(&line.name, &line.value, Giver::File(report.name(line.at)));
                }
            }
        }
    }
}

/// Compose files that were put together.
struct Gathered {
    root: Rc<yaml::Node>,
    scope: Scope,
    documented: interpolate::Values,
    public: Vec<ServiceName>,
    profiles: BTreeSet<String>,
    broken: BTreeSet<String>,
}

/// What the Compose file calls the application.
fn project_name(root: &yaml::Node) -> Option<String> {
    match &root.get("name")?.kind {
        yaml::NodeKind::Scalar { text, .. } if !text.is_empty() && !text.contains('\0') => Some(text.clone()),
        _ => None,
    }
}
