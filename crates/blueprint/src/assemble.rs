//! Puts together what the Compose file and `maquette.yaml` say, checks it against the runtime, and makes the stack of it.

mod build;
mod check;
mod elsewhere;
mod explain;
mod image;
mod mail;
mod root;
mod wishes;

pub use image::{complete_built, complete_built_workload};

use crate::{
    compose::{self, Body, Declared},
    data,
    explain::{Explanation, Place},
    interpolate::{self, Values},
    jobs,
    problem::{At, Report},
    settings::{Public, Stack},
    sources::Elsewhere,
    tree::Tree,
};
use model::{
    Capabilities, Condition, ImageFacts, Limits, Mount, Restart, Root, Service, ServiceName, ServiceStack, SourceName,
    Value, Workload,
};
use std::{cell::OnceCell, collections::BTreeMap};

/// How much text the environment of one service may be, in bytes. The kernel's own bound for one string is 128 KiB.
const ENVIRONMENT_MAX: usize = 100 * 1024;

/// All that a stack is made from.
pub(crate) struct Assembly<'a> {
    pub(crate) tree: &'a dyn Tree,
    pub(crate) compose: &'a Report,
    pub(crate) settings: &'a Report,
    pub(crate) file: &'a compose::File,
    pub(crate) stack: &'a Stack,
    pub(crate) public: &'a [ServiceName],
    pub(crate) source: &'a SourceName,
    /// The documented values: part of the environment of whatever is no engine.
    pub(crate) documented: &'a Values,
    pub(crate) capabilities: &'a Capabilities,
    /// What the images say, where somebody has looked.
    pub(crate) images: Option<&'a BTreeMap<String, ImageFacts>>,
    pub(crate) limits: Limits,
    pub(crate) paths: OnceCell<Vec<String>>,
    /// Services whose files are of another source than `source`.
    pub(crate) elsewhere: &'a BTreeMap<String, Elsewhere<'a>>,
}

impl Assembly<'_> {
    /// All paths of the tree, listed when they are first needed.
    pub(crate) fn paths(&self) -> &[String] {
        self.paths.get_or_init(|| self.listed(self.tree))
    }

    /// All paths of a tree.
    fn listed(&self, tree: &dyn Tree) -> Vec<String> {
        let mut paths = tree.list();
        if paths.len() > crate::tree::PATHS_MAX {
            let message = format!("the repository has more than {} files", crate::tree::PATHS_MAX);
            self.settings.error(None, message);
            paths.clear();
        }
        paths.sort();
        paths
    }

    /// The source that a service takes its files from.
    pub(crate) fn source_of(&self, name: &ServiceName) -> &SourceName {
        let elsewhere = self.elsewhere.get(name.as_str());
        elsewhere.map_or(self.source, |elsewhere| &elsewhere.source)
    }

    /// Makes the stack. Problems go to the reports; the result is only of use if there is no error among them.
    pub(crate) fn run(&self, explanation: &mut Explanation) -> ServiceStack {
        let mut stack = ServiceStack::default();
        self.check_names();
        crate::order::check(self.compose, self.file);
        for declared in &self.file.services {
            let made = match self.is_mail(declared) {
                Some(at) => Some(self.mail_of(declared, at, explanation)),
                None => self.service(declared, &mut stack, explanation),
            };
            if let Some(service) = made {
                stack.services.insert(declared.name.clone(), service);
            }
        }
        self.networks(&mut stack);
        self.check_conditions(&stack);
        self.mail(&mut stack, explanation);
        self.native_builds(&mut stack, explanation);
        jobs::read(self, &mut stack, explanation);
        self.volumes(&mut stack);
        stack
    }

    fn service(&self, declared: &Declared, stack: &mut ServiceStack, explanation: &mut Explanation) -> Option<Service> {
        let Declared { name, at, body } = declared;
        let (root, known) = self.root(declared, explanation)?;
        self.check_wishes(declared, &root);
        self.explain_service(declared, explanation);
        self.check_source(declared, &root, explanation);
        let mut mounts: Vec<Mount> = body.mounts.iter().map(|(_, mount)| mount.clone()).collect();
        if let Some(known) = known {
            self.engine_mounts(declared, known);
            if known.kind == "postgres"
                && let Some((set, mount)) = data::postgres(self, name, *at, body, self.stack.data.get(name.as_str()))
            {
                self.explain_data(name, &set, explanation);
                mounts.extend(mount);
                stack.data.insert(name.clone(), set);
            }
        }
        // What is mounted inside of another mount comes after it.
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        let (entrypoint, command) = self.command(declared, &root);
        let facts = match &root {
            Root::Image { reference, .. } => self.image_facts(reference),
            _ => None,
        };
        let mut workload = Workload {
            read_only: body.read_only || root == Root::Host,
            entrypoint,
            command,
            environment: self.environment(name, *at, &body.environment, known.is_none()),
            working_dir: body.working_dir.as_ref().map(|(_, path)| path.clone()),
            mounts,
            limits: self.bounded(declared),
            options: if known.is_none() {
                body.options.clone()
            } else {
                model::Options::default()
            },
            root,
        };
        let mut ports = body.ports.clone();
        if let Some(known) = known
            && !ports.contains(&known.port)
        {
            ports.insert(0, known.port);
        }
        let mut health = body.health.as_ref().map(|(_, health)| health.clone());
        let mut stop_signal = body.stop_signal.clone();
        if let Some(facts) = facts {
            image::complete(&mut workload, facts, &body.environment, self.documented);
            health = health.or_else(|| facts.health.clone().filter(|_| !body.health_off));
            stop_signal = stop_signal.or_else(|| facts.stop_signal.clone());
            // A port that an image names is asked only where somebody waits for an answer: a worker of the same image has none.
            if ports.is_empty() && self.is_waited_for(name) && health.is_none()
                || self.public.contains(name) && ports.is_empty()
            {
                ports.clone_from(&facts.ports);
            }
        }
        self.set_commit(declared, &mut workload.environment);
        let public_port = self.public_port(declared, &mut ports, explanation);
        Some(Service {
            workload,
            aliases: body.aliases.clone(),
            ports,
            public_port,
            depends_on: self.needs(body),
            health,
            restart: body.restart.unwrap_or(Restart::Never),
            stop_signal: stop_signal.unwrap_or_else(|| "SIGTERM".to_owned()),
            stop_grace_ms: body.stop_grace_ms,
            networks: BTreeMap::new(),
            restarts_with: body
                .depends_on
                .iter()
                .filter(|need| need.restart && self.body_of(&need.name).is_some())
                .filter_map(|need| need.name.parse().ok())
                .collect(),
            restart_limit: body.restart_limit,
            net: body.net,
        })
    }

    /// A container's environment: what its file says, and the documented values unless it says otherwise.
    pub(crate) fn environment(
        &self,
        name: &impl std::fmt::Display,
        at: At,
        own: &BTreeMap<String, (At, String)>,
        documented: bool,
    ) -> BTreeMap<String, Value> {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        if documented {
            all.extend(
                self.documented
                    .iter()
                    .map(|(key, value)| (key.clone(), Value::from(value.clone()))),
            );
        }
        all.extend(
            own.iter()
                .map(|(key, (_, value))| (key.clone(), interpolate::value(value))),
        );
        let size: usize = all
            .iter()
            .map(|(key, value)| key.len() + value.plain().map_or(0, str::len))
            .sum();
        if size > ENVIRONMENT_MAX {
            self.compose.error(
                at,
                format!("the environment of `{name}` is larger than {ENVIRONMENT_MAX} bytes"),
            );
        }
        all
    }

    /// What a service waits for, of what is there.
    fn needs(&self, body: &Body) -> BTreeMap<ServiceName, Condition> {
        let there = body.depends_on.iter().filter(|need| self.body_of(&need.name).is_some());
        there
            .filter_map(|need| Some((need.name.parse().ok()?, need.condition)))
            .collect()
    }

    /// The limits of a service; a warning if they are beyond those of the whole environment.
    fn bounded(&self, declared: &Declared) -> Limits {
        let (own, whole) = (declared.body.limits, self.limits);
        let pairs = [
            ("memory", own.memory_bytes, whole.memory_bytes),
            ("CPU", own.cpu_millis, whole.cpu_millis),
            ("process", own.pids, whole.pids),
        ];
        for (what, own, whole) in pairs {
            if own.zip(whole).is_some_and(|(own, whole)| own > whole) {
                self.compose.warn_hint(
                    declared.at,
                    format!(
                        "the {what} limit of service `{}` is beyond that of the environment",
                        declared.name
                    ),
                    "`policy.limits` bounds all services together",
                );
            }
        }
        own
    }

    fn public_port(&self, declared: &Declared, ports: &mut Vec<u16>, explanation: &mut Explanation) -> Option<u16> {
        let name = &declared.name;
        let said = self
            .stack
            .services
            .get(name.as_str())
            .and_then(|service| service.public);
        let key = format!("stack.services.{name}.public");
        if !self.public.contains(name) {
            match said {
                Some((at, _)) => explanation.set(key, "no", Place::at(self.settings, at)),
                None => explanation.fall_back(key, "no"),
            }
            return None;
        }
        let port = match said {
            Some((_, Public::Port(port))) => Some(port),
            _ => ports.first().copied(),
        };
        let Some(port) = port else {
            if self.image_may_tell(name) {
                explanation.fall_back(key, "the port that its image names");
                return None;
            }
            let at = said.map(|(at, _)| at);
            let message = format!("service `{name}` is public and has no port");
            self.settings.error_hint(
                at,
                message,
                "give it `ports` in the Compose file, or a port in place of `true`",
            );
            return None;
        };
        if !ports.contains(&port) {
            ports.push(port);
        }
        let main = if self.public.first() == Some(name) {
            ", main"
        } else {
            ""
        };
        let from = match (said, declared.body.published) {
            (Some((at, _)), _) => Place::at(self.settings, at),
            (None, Some(at)) => Place::at(self.compose, at),
            (None, None) => Place::Default,
        };
        explanation.set(key, format!("port {port}{main}"), from);
        Some(port)
    }

    /// A service as the Compose file describes it.
    pub(crate) fn body_of(&self, name: &str) -> Option<&Body> {
        self.file
            .services
            .iter()
            .find(|service| service.name.as_str() == name)
            .map(|service| &service.body)
    }
}
