//! Puts together what the Compose file and `maquette.yaml` say, checks it against the runtime, and makes the stack of it.

use crate::{
    compose::{self, Body, Declared},
    data,
    engine::{self, Known},
    escape::quoted,
    explain::{Explanation, Place},
    interpolate::Values,
    jobs,
    problem::{At, Report},
    settings::{Public, Stack},
    suggest,
    tree::Tree,
};
use model::{
    Capabilities, Condition, Engine, Generation, Limits, Mount, MountKind, Restart, Root, Service, ServiceName,
    ServiceStack, SourceName, Value, VersionRange, Volume, VolumeName, VolumeOrigin, Workload,
};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

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
    pub(crate) limits: Limits,
    pub(crate) paths: OnceCell<Vec<String>>,
}

impl Assembly<'_> {
    /// All paths of the tree, listed when they are first needed.
    pub(crate) fn paths(&self) -> &[String] {
        self.paths.get_or_init(|| {
            let mut paths = self.tree.list();
            if paths.len() > crate::tree::PATHS_MAX {
                let message = format!("the repository has more than {} files", crate::tree::PATHS_MAX);
                self.settings.error(None, message);
                paths.clear();
            }
            paths.sort();
            paths
        })
    }

    /// Makes the stack. Problems go to the reports; the result is only of use if there is no error among them.
    pub(crate) fn run(&self, explanation: &mut Explanation) -> ServiceStack {
        let mut stack = ServiceStack::default();
        self.check_names();
        crate::order::check(self.compose, self.file);
        for declared in &self.file.services {
            if let Some(service) = self.service(declared, &mut stack, explanation) {
                stack.services.insert(declared.name.clone(), service);
            }
        }
        self.check_conditions(&stack);
        jobs::read(self, &mut stack, explanation);
        self.volumes(&mut stack);
        stack
    }

    /// Names in `maquette.yaml` must be those of the Compose file.
    fn check_names(&self) {
        let names: Vec<&str> = self.file.services.iter().map(|service| service.name.as_str()).collect();
        let services = self.stack.services.iter().map(|(name, service)| (name, service.at));
        for (name, at) in services.chain(self.stack.data.iter().map(|(name, data)| (name, data.at))) {
            if !names.contains(&name.as_str()) {
                let message = format!("there is no service {} in {}", quoted(name), self.compose.file);
                self.settings.error_hint(at, message, suggest::hint(name, &names));
            }
        }
    }

    fn service(&self, declared: &Declared, stack: &mut ServiceStack, explanation: &mut Explanation) -> Option<Service> {
        let Declared { name, at, body } = declared;
        let (root, known) = self.root(declared, explanation)?;
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
        let workload = Workload {
            read_only: body.read_only || root == Root::Host,
            entrypoint,
            command,
            environment: self.environment(name, *at, &body.environment, known.is_none()),
            working_dir: body.working_dir.as_ref().map(|(_, path)| path.clone()),
            mounts,
            limits: self.bounded(declared),
            root,
        };
        let mut ports = body.ports.clone();
        if let Some(known) = known
            && !ports.contains(&known.port)
        {
            ports.insert(0, known.port);
        }
        let public_port = self.public_port(declared, &mut ports, explanation);
        let depends_on = body.depends_on.iter();
        Some(Service {
            workload,
            aliases: body.aliases.clone(),
            ports,
            public_port,
            depends_on: depends_on
                .filter_map(|(_, need, on)| Some((need.parse().ok()?, *on)))
                .collect(),
            health: body.health.as_ref().map(|(_, health)| health.clone()),
            restart: body.restart,
            stop_signal: body.stop_signal.clone(),
            stop_grace_ms: body.stop_grace_ms,
        })
    }

    /// What a service runs from; a problem if the runtime can't.
    fn root(&self, declared: &Declared, explanation: &mut Explanation) -> Option<(Root, Option<&'static Known>)> {
        let Declared { name, at, body } = declared;
        let settings = self.stack.services.get(name.as_str());
        let host = settings
            .and_then(|service| service.host)
            .filter(|(_, host)| *host)
            .map(|(at, _)| at);
        let image = body.image.as_ref().filter(|(_, image)| !image.trim().is_empty());
        let recognised = image.and_then(|(at, image)| engine::recognise(image).map(|found| (*at, image, found)));
        let key = format!("stack.services.{name}.runs");
        if let (Some((image_at, image, (known, tag))), None) = (recognised, body.build) {
            if let Some(at) = host {
                let message = format!(
                    "`host` of service `{name}` has no effect: it is an engine, {}",
                    known.title
                );
                self.settings.warn(at, message);
            }
            let versions = self.engine_versions(name, image_at, known, tag);
            let text = format!("{} {}", known.title, engine::show(versions));
            explanation.set(key, text, Place::at(self.compose, image_at));
            let engine = Engine {
                kind: known.kind.to_owned(),
                image: image.clone(),
                versions,
            };
            return Some((Root::Engine(engine), Some(known)));
        }
        self.data_of_no_engine(name);
        if let Some(at) = host {
            explanation.set(key, "packages of the host", Place::at(self.settings, at));
            if !self.capabilities.host_roots {
                let message = format!(
                    "the runtime `{}` can not run services from a host",
                    self.capabilities.runtime
                );
                self.settings
                    .error_hint(at, message, "remove `host`, so that the service runs from its image");
            }
            return Some((Root::Host, None));
        }
        let from_host = format!(
            "if its program is installed on the host, say `host: true` of it: `stack: {{ services: {{ {name}: {{ host: true }} }} }}` in maquette.yaml"
        );
        if let Some(at) = body.build {
            self.compose.error_hint(
                at,
                format!("`build` of service `{name}` is not supported yet"),
                from_host,
            );
            return None;
        }
        let Some((image_at, image)) = image else {
            self.compose
                .error_hint(*at, format!("service `{name}` has no `image`"), from_host);
            return None;
        };
        if !self.capabilities.images {
            let runtime = &self.capabilities.runtime;
            let message = format!(
                "service `{name}` needs the image {}, and the runtime `{runtime}` runs no images",
                quoted(image)
            );
            self.compose.error_hint(*image_at, message, from_host);
            return None;
        }
        explanation.set(key, format!("image {image}"), Place::at(self.compose, *image_at));
        Some((
            Root::Image {
                reference: image.clone(),
            },
            None,
        ))
    }

    fn data_of_no_engine(&self, name: &ServiceName) {
        if let Some(data) = self.stack.data.get(name.as_str()) {
            self.settings.error_hint(
                data.at,
                format!("service `{name}` is no data engine"),
                "engines are recognised by their image: `postgres`, `redis`, `rabbitmq`",
            );
        }
    }

    /// The versions that are accepted: what `maquette.yaml` says, else what the image's tag says.
    fn engine_versions(&self, name: &ServiceName, at: At, known: &'static Known, tag: VersionRange) -> VersionRange {
        let data = self.stack.data.get(name.as_str());
        let said = data.and_then(|data| data.versions);
        let versions = said.map_or(tag, |(_, versions)| versions);
        if let Some((said_at, versions)) = said
            && tag != engine::ANY
            && !versions.contains(tag.min)
        {
            let message = format!(
                "`versions` {} does not contain {}, the version of the image",
                engine::show(versions),
                tag.min
            );
            self.settings.warn(said_at, message);
        }
        if let Some((message, hint)) = engine::lacking(known, versions, self.capabilities) {
            match said {
                Some((said_at, _)) => self.settings.error_hint(said_at, message, hint),
                None => self
                    .compose
                    .error_hint(at, format!("service `{name}`: {message}"), hint),
            }
        }
        if let Some(data) = data
            && known.kind != "postgres"
            && let Some((at, _)) = data.migrations.first().or(data.seed.first())
        {
            let message = format!(
                "service `{name}` is {}, which has no migrations and no seed here",
                known.title
            );
            self.settings
                .error_hint(*at, message, "a job can fill it: see `stack.jobs`");
        }
        versions
    }

    /// Scripts that only the image's own entrypoint would run.
    fn engine_mounts(&self, declared: &Declared, known: &Known) {
        if self.capabilities.engines.is_empty() {
            return;
        }
        for (at, mount) in &declared.body.mounts {
            if mount.target.starts_with("/docker-entrypoint-initdb.d") {
                self.compose.error_hint(
                    *at,
                    format!(
                        "scripts in {} of service `{}` are not run",
                        quoted(&mount.target),
                        declared.name
                    ),
                    "name them as `migrations` or `seed` in `stack.data` of maquette.yaml",
                );
            } else if matches!(mount.kind, MountKind::Source { .. })
                && !data::DATA_DIRS.contains(&mount.target.as_str())
            {
                let message = format!(
                    "the mount {} of service `{}` may have no effect",
                    quoted(&mount.target),
                    declared.name
                );
                let hint = format!("{} runs from the host's packages, not from its image", known.title);
                self.compose.warn_hint(*at, message, hint);
            }
        }
    }

    /// Entrypoint and command. What runs from the host has no entrypoint of an image to fall back to.
    fn command(&self, declared: &Declared, root: &Root) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let words = |part: &Option<(At, Vec<String>)>| part.as_ref().map(|(_, words)| words.clone());
        let (entrypoint, command) = (words(&declared.body.entrypoint), words(&declared.body.command));
        if *root != Root::Host {
            return (entrypoint, command);
        }
        let whole: Vec<String> = [entrypoint, command].into_iter().flatten().flatten().collect();
        if whole.first().is_none_or(String::is_empty) {
            self.compose.error_hint(
                declared.at,
                format!("service `{}` has no `command`", declared.name),
                "it runs from the packages of the host, where no image says what to start",
            );
        }
        (None, Some(whole))
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
                .map(|(key, (_, value))| (key.clone(), Value::from(value.clone()))),
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

    fn explain_data(&self, name: &ServiceName, set: &model::DataSet, explanation: &mut Explanation) {
        let data = self.stack.data.get(name.as_str());
        let mut note = |key: &str, value: String, at: Option<At>| {
            let key = format!("stack.data.{name}.{key}");
            match at {
                Some(at) => explanation.set(key, value, Place::at(self.settings, at)),
                None => explanation.fall_back(key, value),
            }
        };
        let first = |list: &[(At, String)]| list.first().map(|(at, _)| *at);
        note(
            "migrations",
            format!("{} files", set.migrations.len()),
            data.and_then(|data| first(&data.migrations)),
        );
        note(
            "seed",
            format!("{} files", set.seeds.len()),
            data.and_then(|data| first(&data.seed)),
        );
    }

    /// What others wait for must be able to come.
    fn check_conditions(&self, stack: &ServiceStack) {
        for Declared { name, body, .. } in &self.file.services {
            for (at, need, condition) in &body.depends_on {
                let Some(service) = need
                    .parse::<ServiceName>()
                    .ok()
                    .and_then(|need| stack.services.get(&need))
                else {
                    continue;
                };
                if *condition == Condition::Healthy && service.health.is_none() && service.ports.is_empty() {
                    self.compose.error_hint(
                        *at,
                        format!("service `{name}` waits for `{need}` to be healthy, and nothing tells whether it is"),
                        "give it a `healthcheck`, or `expose` a port, whose answer counts then",
                    );
                }
                if *condition == Condition::Completed && service.restart == Restart::Always {
                    self.compose.error_hint(
                        *at,
                        format!("service `{name}` waits for the end of `{need}`, which is always started again"),
                        format!("remove `restart` of `{need}`"),
                    );
                }
            }
        }
    }

    /// Volumes that are mounted; what is mounted must be declared, what is declared should be mounted.
    fn volumes(&self, stack: &mut ServiceStack) {
        let declared: BTreeMap<&VolumeName, At> = self.file.volumes.iter().map(|(name, at)| (name, *at)).collect();
        let names: Vec<&str> = declared.keys().map(|name| name.as_str()).collect();
        for Declared { name, body, .. } in &self.file.services {
            for (at, mount) in &body.mounts {
                let MountKind::Volume { volume } = &mount.kind else {
                    continue;
                };
                let implicit = compose::implicit_volume(name, &mount.target).as_ref() == Some(volume);
                if !implicit && !declared.contains_key(volume) {
                    let message = format!("service `{name}` mounts the volume `{volume}`, which is not declared");
                    let hint = match suggest::nearest(volume.as_str(), names.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!(
                            "add `volumes: {{ {volume}: }}` at the top level, or write `./{volume}` for a folder"
                        ),
                    };
                    self.compose.error_hint(*at, message, hint);
                }
            }
        }
        let mut users: BTreeSet<&VolumeName> = BTreeSet::new();
        for (engine, set) in &stack.data {
            if !users.insert(&set.volume) {
                self.compose.error(
                    None,
                    format!("service `{engine}` shares its data directory with another engine"),
                );
            }
        }
        let workloads = stack
            .services
            .values()
            .map(|s| &s.workload)
            .chain(stack.jobs.values().map(|j| &j.workload));
        let used: BTreeSet<VolumeName> = workloads
            .flat_map(|workload| &workload.mounts)
            .filter_map(|mount| match &mount.kind {
                MountKind::Volume { volume } => Some(volume.clone()),
                _ => None,
            })
            .collect();
        for (volume, at) in &declared {
            if !used.contains(volume) && !self.compose.has_errors() {
                self.compose
                    .warn(*at, format!("no service mounts the volume `{volume}`; it is not made"));
            }
        }
        for volume in used {
            let fresh = Volume {
                origin: VolumeOrigin::Empty,
                incarnation: Generation::default(),
                limit_bytes: None,
            };
            stack.volumes.insert(volume, fresh);
        }
    }

    /// A body for jobs that belong to no service.
    pub(crate) fn body_of(&self, name: &str) -> Option<&Body> {
        self.file
            .services
            .iter()
            .find(|service| service.name.as_str() == name)
            .map(|service| &service.body)
    }
}
