//! Reads a whole blueprint.

use crate::{
    assemble::Assembly,
    compose::{self, DEFAULT_FILES, Scene},
    context::Context,
    dotenv,
    escape::quoted,
    explain::{Explanation, Place},
    interpolate::Values,
    problem::{Problem, Problems, Report, Severity, Whose, sorted},
    public,
    settings::{self, Policy, Settings, Stack},
    tree::{self, Tree},
    yaml,
};
use model::{Capabilities, ServiceName, ServiceStack};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;

/// What an environment consists of, read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// What runs. Volumes are empty and of the first incarnation: it is the caller who knows better.
    pub stack: ServiceStack,
    /// What is allowed.
    pub policy: Policy,
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
        let (compose, path) = compose_file(stack_tree, &head.report, &stack, &mut explanation);
        let reader = Reader {
            tree: stack_tree,
            head: &head,
            stack: &stack,
            compose: &compose,
            context,
            capabilities,
        };
        let made = path.map(|path| reader.run(&path, &policy, &mut explanation));
        unfetched(stack_tree, &head.report);

        let mut problems = sorted(&[&head.report, &compose]);
        if let Some(settings) = &ruling {
            let more = distinct(&settings.report, &head.report, &problems);
            problems.extend(more);
        }
        if let Some((stack, public, more)) = made {
            problems.extend(more);
            problems.sort();
            if problems.iter().all(|problem| problem.severity != Severity::Error) {
                return Ok(Self {
                    stack,
                    policy,
                    public,
                    explanation,
                    warnings: problems,
                });
            }
        }
        problems.sort();
        Err(Problems(problems))
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

/// Finds and opens the Compose file; without a path if there is nothing to read.
fn compose_file(
    tree: &dyn Tree,
    settings: &Report,
    stack: &Stack,
    explanation: &mut Explanation,
) -> (Report, Option<String>) {
    if let Some((at, path)) = &stack.compose {
        explanation.set("stack.compose", path, Place::at(settings, *at));
        return match tree::join("", path).and_then(|path| tree::text(tree, &path).map(|text| (path, text))) {
            Ok((path, text)) => (Report::new(Whose::Head, &path, text), Some(path)),
            Err(error) => {
                settings.error(*at, format!("{} {error}", quoted(path)));
                (Report::new(Whose::Head, path, String::new()), None)
            }
        };
    }
    let mut found = DEFAULT_FILES.iter().filter(|path| tree.kind(path).is_some());
    let Some(path) = found.next() else {
        let report = Report::new(Whose::Head, DEFAULT_FILES[0], String::new());
        let message = format!("there is no Compose file: none of {}", DEFAULT_FILES.join(", "));
        report.error_hint(
            None,
            message,
            "add one, or name it with `stack: { compose: path }` in maquette.yaml",
        );
        return (report, None);
    };
    explanation.fall_back("stack.compose", path);
    let (report, opened) = tree::open(tree, Whose::Head, path);
    if let Some(other) = found.next() {
        report.warn(None, format!("there is also {}, which is not read", quoted(other)));
    }
    (report, opened.then(|| (*path).to_owned()))
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

struct Reader<'a> {
    tree: &'a dyn Tree,
    head: &'a Settings,
    stack: &'a Stack,
    compose: &'a Report,
    context: &'a Context,
    capabilities: &'a Capabilities,
}

impl Reader<'_> {
    /// The stack, the public services, and the problems of further files. Those of the Compose file are in its report.
    fn run(
        &self,
        path: &str,
        policy: &Policy,
        explanation: &mut Explanation,
    ) -> (ServiceStack, Vec<ServiceName>, Vec<Problem>) {
        let nothing = || (ServiceStack::default(), Vec::new(), Vec::new());
        if !self.capabilities.services {
            let message = format!("the runtime `{}` runs no Compose files", self.capabilities.runtime);
            self.compose.error(None, message);
            return nothing();
        }
        let Some(root) = yaml::load(self.compose) else {
            return nothing();
        };
        let public = public::services(&root, self.stack);
        let documented = self.context.values(&public);
        let (values, problems) = self.dotenv(path, &documented);
        let root = compose::resolve(self.compose, &root, &values);
        let folder = self.folder(path);
        let scene = Scene {
            report: self.compose,
            tree: self.tree,
            source: &self.context.source,
            folder: &folder,
            values: &values,
        };
        let Some(file) = compose::read(&scene, &root) else {
            return nothing();
        };
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
            limits: policy.limits,
            paths: OnceCell::new(),
        };
        let services = assembly.run(explanation);
        if public.is_empty() && !self.compose.has_errors() && !self.head.report.has_errors() {
            self.compose.warn_hint(
                None,
                "no service can be visited",
                "give one `ports`, or say `public: true` of it in `stack.services` of maquette.yaml",
            );
        }
        (services, public, problems)
    }

    /// The folder that relative paths start from.
    fn folder(&self, compose: &str) -> String {
        let beside = tree::parent(compose).to_owned();
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

    /// The documented values and those of the file `.env` beside the Compose file; documented ones win.
    fn dotenv(&self, compose: &str, documented: &Values) -> (Values, Vec<Problem>) {
        let mut values = documented.clone();
        let path = match tree::parent(compose) {
            "" => ".env".to_owned(),
            folder => format!("{folder}/.env"),
        };
        if self.tree.kind(&path).is_none() {
            return (values, Vec::new());
        }
        let (report, opened) = tree::open(self.tree, Whose::Head, &path);
        if opened {
            for (name, value) in dotenv::read(&report, documented) {
                if documented.contains_key(&name) {
                    report.warn(
                        None,
                        format!("`{name}` has no effect here: its value comes from Maquette"),
                    );
                } else {
                    values.insert(name, value);
                }
            }
        }
        (values, report.take())
    }
}
