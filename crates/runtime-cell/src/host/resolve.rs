//! From what the author of a stack wrote to what a container needs. Refuses by name what can not run here; touches nothing.

use super::{
    NAME, options,
    record::{Check, DiskMount, DiskOrigin, EngineProtocol, Manner, Pace},
};
use crate::{
    engine::{
        Address, EngineKind, EnginePlace, EngineRequest, EngineRun, HostEngines, Protocol, Sensitive, engine_run,
        probe_host, recognise,
    },
    names::{self, UnitName},
    protocol::SecretValues,
    sandbox::{
        bundle::{ContentFile, Memory, check_target, check_target_in_image},
        idmap::WIDTH,
    },
};
use model::{
    Engine, EngineOffer, EnvironmentSpec, HealthTest, ImageDigest, Job, MountKind, NetworkMode, Restart, Root, Service,
    Value, Workload,
};
use runtime::{RuntimeError, SourceKey, reveal};
use rustix::process::Signal;
use std::{collections::BTreeMap, path::Path, sync::OnceLock};

const MAX_ARGUMENTS: usize = 1 << 17;
const MAX_MOUNTS: usize = 64;
/// Bytes of all files together that the stack gives one container: they are in memory.
const CONTENT_MAX: usize = 8 << 20;
const DEFAULT_ENGINE_TMPFS: u64 = 256 << 20;

/// Where something in a container comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The disk mount of that number.
    Disk(usize),
    /// Memory.
    Tmpfs(Memory),
    /// The directory that only the engine and its administrator see.
    Administration,
    /// A file that the stack gives.
    Content(ContentFile),
    /// Our own program.
    Program,
    /// The files of [`Resolved::given`].
    Given,
}

/// A private writable layer that must be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its name in the pool.
    pub(crate) name: String,
    /// What it begins with.
    pub(crate) below: Below,
    /// Places in it on which what builds have made is mounted.
    pub(crate) mount_points: Vec<Point>,
}

/// A place in a layer, from its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) path: String,
    /// The snapshot of what is mounted there, and the path in it: it may be a file.
    pub(crate) of: (String, String),
}

/// What a layer begins with, by names in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// A sealed source.
    Source(String),
    /// Some files of a sealed source.
    Files(String, Vec<String>),
    /// A snapshot.
    Snapshot(String),
}

/// What the root of a container is made from that is not the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRoot {
    /// The image.
    pub(crate) image: ImageDigest,
    /// The name in the pool of the private writable layer over it.
    pub(crate) layer: String,
    /// Whether the container may only read it.
    pub(crate) read_only: bool,
}

/// All that is needed to make a container. Holds secret values: no `Debug`.
#[derive(Clone)]
pub(crate) struct Resolved {
    /// Command and arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) working_directory: String,
    /// Targets, in order.
    pub(crate) places: Vec<(String, Place)>,
    /// Layers that its mounts need.
    pub(crate) layers: Vec<Layer>,
    /// The image that its root is made from.
    pub(crate) image: Option<ImageRoot>,
    /// Files for a build, by name: nobody else on the machine reads them. Secret values are among them.
    pub(crate) given: Option<Vec<(String, Vec<u8>)>>,
    /// What is remembered.
    pub(crate) manner: Manner,
    /// The engine, if it is one.
    pub(crate) engine: Option<EngineRun>,
    /// Whether it makes something that others mount: it has more room and a smaller share of the processors.
    pub(crate) builds: bool,
    /// Bounds.
    pub(crate) limits: model::Limits,
    /// What its author asks for beyond that, checked.
    pub(crate) options: model::Options,
}

fn host_engines() -> &'static HostEngines {
    static ENGINES: OnceLock<HostEngines> = OnceLock::new();
    ENGINES.get_or_init(probe_host)
}

/// The engines that the host has.
pub(crate) fn engines() -> Vec<EngineOffer> {
    let offer = |i: &crate::engine::Installed| EngineOffer {
        kind: i.kind.to_string(),
        major: i.major,
        version: i.version.clone(),
    };
    host_engines().installed.iter().map(offer).collect()
}

/// One more layer, unless it is among them; a mount of it.
fn lay(layers: &mut Vec<Layer>, name: String, below: Below, mount_points: Vec<Point>) -> DiskOrigin {
    match layers.iter_mut().find(|layer| layer.name == name) {
        Some(layer) => layer.mount_points.extend(mount_points),
        None => layers.push(Layer {
            name: name.clone(),
            below,
            mount_points,
        }),
    }
    DiskOrigin::Volume(name)
}

struct Author<'a> {
    spec: &'a EnvironmentSpec,
    unit: &'a UnitName,
    workload: &'a Workload,
    /// The only files of a source that it sees.
    inputs: Option<(&'a model::SourceName, &'a Vec<String>)>,
    secrets: &'a SecretValues,
}

impl Author<'_> {
    fn invalid(&self, reason: impl Into<String>) -> RuntimeError {
        let kind = if self.unit.as_job().is_some() { "job" } else { "service" };
        RuntimeError::Invalid {
            what: format!("{kind} {}", self.unit.plain()),
            reason: reason.into(),
        }
    }

    fn value(&self, name: &str, value: &Value) -> Result<String, RuntimeError> {
        reveal::variable(name, value, self.secrets).map_err(|reason| self.invalid(reason))
    }

    /// The file that the stack gives, if that is what the mount is.
    fn content(&self, mount: &model::Mount) -> Result<Option<ContentFile>, RuntimeError> {
        let MountKind::Content {
            content,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            return Ok(None);
        };
        let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
        if uid >= WIDTH || gid >= WIDTH {
            return Err(self.invalid(format!(
                "the file `{}` can not belong to {uid}:{gid}; users and groups are below {WIDTH}",
                mount.target.escape_debug()
            )));
        }
        let bytes = reveal::content(&mount.target, content, self.secrets).map_err(|reason| self.invalid(reason))?;
        Ok(Some(ContentFile {
            bytes: bytes.into(),
            mode: mode & 0o7777,
            uid,
            gid,
        }))
    }

    /// The memory that a mount is.
    fn memory(&self, mount: &model::Mount) -> Result<Memory, RuntimeError> {
        let MountKind::Tmpfs {
            size_bytes,
            mode,
            uid,
            gid,
        } = mount.kind
        else {
            return Err(self.invalid(format!("nothing is mounted at `{}`", mount.target.escape_debug())));
        };
        if uid.max(gid).is_some_and(|id| id >= WIDTH) {
            return Err(self.invalid(format!(
                "the memory at `{}` can not belong to such a user or group; they are below {WIDTH}",
                mount.target.escape_debug()
            )));
        }
        Ok(Memory {
            size: size_bytes,
            mode: mode.unwrap_or(0o1777) & 0o1777,
            uid,
            gid,
            read_only: mount.read_only,
        })
    }

    fn plain(&self, subpath: &str) -> Result<(), RuntimeError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if subpath.is_empty() || subpath.split('/').all(plain) {
            return Ok(());
        }
        Err(self.invalid(format!("the path `{}` leaves the checkout", subpath.escape_debug())))
    }

    fn volume(&self, volume: &model::VolumeName) -> Result<DiskOrigin, RuntimeError> {
        let wanted = self.spec.services().and_then(|s| s.volumes.get(volume));
        let wanted = wanted.ok_or_else(|| self.invalid(format!("the volume `{volume}` is not declared")))?;
        Ok(DiskOrigin::Volume(names::volume(volume, wanted.incarnation)))
    }

    fn disk(&self, mount: &model::Mount, layers: &mut Vec<Layer>) -> Result<Option<DiskMount>, RuntimeError> {
        let (origin, subpath) = match &mount.kind {
            MountKind::Tmpfs { .. } => return Ok(None),
            MountKind::Content { .. } | MountKind::Program => return Ok(None),
            MountKind::VolumePath { volume, subpath } => {
                self.plain(subpath)?;
                (self.volume(volume)?, subpath.clone())
            }
            MountKind::Volume { volume } => (self.volume(volume)?, String::new()),
            MountKind::Source { source, subpath } => {
                let commit = self.spec.sources.get(source);
                let commit = commit.ok_or_else(|| self.invalid(format!("the source `{source}` has no commit")))?;
                let key = SourceKey {
                    project: self.spec.project.clone(),
                    source: source.clone(),
                    commit: commit.clone(),
                };
                let sealed = names::source(&key);
                self.plain(subpath)?;
                if !names::needs_layer(self.workload, mount) {
                    (DiskOrigin::Source(sealed), subpath.clone())
                } else {
                    let name = names::layer(self.unit, source, commit);
                    let inputs = self.inputs.filter(|(of, _)| *of == source);
                    let below = match inputs {
                        Some((_, paths)) => Below::Files(sealed, paths.clone()),
                        None => Below::Source(sealed),
                    };
                    let points = names::mount_points(self.workload, mount, subpath);
                    let point = |(path, kind): (String, &MountKind)| match kind {
                        MountKind::Built { job, subpath } => {
                            let product = self.spec.product(job)?;
                            let of = (product.to_string(), subpath.clone());
                            Some(Point { path, of })
                        }
                        _ => None,
                    };
                    let points = points.into_iter().filter_map(point).collect();
                    (lay(layers, name, below, points), subpath.clone())
                }
            }
            MountKind::Built { job, subpath } => {
                let product = self.spec.product(job);
                let product = product.ok_or_else(|| self.invalid(format!("the job `{job}` makes nothing")))?;
                self.plain(subpath)?;
                let name = names::built_layer(self.unit, &product);
                let below = Below::Snapshot(product.to_string());
                (lay(layers, name, below, Vec::new()), subpath.clone())
            }
        };
        Ok(Some(DiskMount {
            origin,
            subpath,
            read_only: mount.read_only,
        }))
    }
}

/// What a service needs.
pub(crate) fn service(
    spec: &EnvironmentSpec,
    unit: &UnitName,
    service: &Service,
    secrets: &SecretValues,
) -> Result<Resolved, RuntimeError> {
    let author = Author {
        spec,
        unit,
        workload: &service.workload,
        inputs: None,
        secrets,
    };
    let mut resolved = workload(&author, &service.workload)?;
    let manner = &mut resolved.manner;
    manner.aliases.clone_from(&service.aliases);
    manner.networks = networks(service);
    manner.restart = service.restart;
    manner.restart_limit = service.restart_limit;
    manner.depends_on.clone_from(&service.depends_on);
    if resolved.engine.is_some() {
        return Ok(resolved);
    }
    manner.stop_signal = signal(&service.stop_signal)
        .ok_or_else(|| author.invalid(format!("`{}` is not a signal", service.stop_signal.escape_debug())))?;
    manner.stop_grace_ms = service.stop_grace_ms.min(600_000);
    if let Some(health) = &service.health {
        manner.check = match &health.test {
            HealthTest::Tcp(port) => Check::Tcp(*port),
            HealthTest::Exec(argv) if argv.is_empty() => return Err(author.invalid("the health check has no command")),
            HealthTest::Exec(argv) => Check::Exec(argv.clone()),
        };
        manner.pace = Pace {
            interval_ms: health.interval_ms.clamp(10, 3_600_000),
            timeout_ms: health.timeout_ms.clamp(10, 3_600_000),
            retries: health.retries.max(1),
            start_period_ms: health.start_period_ms,
            start_interval_ms: health.start_interval_ms.map(|ms| ms.clamp(10, 3_600_000)),
        };
    } else if let Some(port) = service.ports.first() {
        manner.check = Check::Tcp(*port);
    }
    manner.opens = service.ports.first().copied();
    Ok(resolved)
}

/// The networks that a service is in.
fn networks(service: &Service) -> Option<BTreeMap<model::NetworkName, Vec<String>>> {
    match service.net {
        NetworkMode::Networks => (!service.networks.is_empty()).then(|| service.networks.clone()),
        NetworkMode::None => Some(BTreeMap::new()),
    }
}

/// What a job needs.
pub(crate) fn job(
    spec: &EnvironmentSpec,
    unit: &UnitName,
    job: &Job,
    secrets: &SecretValues,
) -> Result<Resolved, RuntimeError> {
    let product = job.product.as_ref();
    let paths = product.and_then(|product| product.inputs.as_ref());
    let paths: Option<Vec<String>> = paths.map(|inputs| inputs.keys().cloned().collect());
    let author = Author {
        spec,
        unit,
        workload: &job.workload,
        inputs: product.map(|product| &product.source).zip(paths.as_ref()),
        secrets,
    };
    for path in paths.iter().flatten() {
        author.plain(path)?;
    }
    let mut resolved = workload(&author, &job.workload)?;
    resolved.builds = product.is_some();
    resolved.manner.timeout_ms = Some(job.timeout_ms.max(1));
    Ok(resolved)
}

fn workload(author: &Author<'_>, workload: &Workload) -> Result<Resolved, RuntimeError> {
    if workload.mounts.len() > MAX_MOUNTS {
        return Err(author.invalid(format!("more than {MAX_MOUNTS} mounts")));
    }
    let engine = match &workload.root {
        Root::Build(build) if build.made.is_none() => {
            return Err(RuntimeError::Unsupported {
                runtime: NAME.to_owned(),
                what: format!("starting from `{}` before it is built", build.context.escape_debug()),
                hint: "build its image first".into(),
            });
        }
        Root::Host | Root::Image { .. } | Root::Build(_) => None,
        Root::Engine(engine) => Some(resolve_engine(author, workload, engine)?),
    };
    let mut layers = Vec::new();
    let mut mounts = Vec::new();
    let mut places = Vec::new();
    let mut given = 0;
    for mount in &workload.mounts {
        let check = match workload.root {
            Root::Image { .. } | Root::Build(_) => check_target_in_image,
            _ => check_target,
        };
        check(&mount.target).map_err(|reason| author.invalid(reason))?;
        let content = author.content(mount)?;
        given += content.as_ref().map_or(0, |file| file.bytes.len());
        if given > CONTENT_MAX {
            return Err(author.invalid(format!(
                "its `secrets` and `configs` hold more than {CONTENT_MAX} bytes"
            )));
        }
        if mount.kind == MountKind::Program {
            if workload.root != Root::Host {
                return Err(author.invalid("our own program runs with the libraries of the machine"));
            }
            places.push((mount.target.clone(), Place::Program));
            continue;
        }
        let place = match (content, author.disk(mount, &mut layers)?) {
            (Some(file), _) => Place::Content(file),
            (None, Some(disk)) => {
                mounts.push(disk);
                Place::Disk(mounts.len() - 1)
            }
            (None, None) => Place::Tmpfs(author.memory(mount)?),
        };
        places.push((mount.target.clone(), place));
    }
    let image = image_root(author, workload)?;
    let volumes = workload.mounts.iter().filter_map(|m| match &m.kind {
        MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => Some(volume.to_string()),
        _ => None,
    });
    let manner = Manner {
        aliases: Vec::new(),
        networks: None,
        check: Check::Started,
        opens: None,
        pace: Pace::default(),
        depends_on: BTreeMap::new(),
        timeout_ms: None,
        restart: Restart::Never,
        restart_limit: None,
        sysctls: BTreeMap::new(),
        stop_signal: Signal::TERM.as_raw(),
        stop_grace_ms: 10_000,
        user: 0,
        mounts,
        volumes: volumes.collect(),
        administration: None,
        root: image.as_ref().map(|image| DiskMount {
            origin: DiskOrigin::Volume(image.layer.clone()),
            subpath: String::new(),
            read_only: false,
        }),
    };
    let working_directory = workload.working_dir.clone().unwrap_or_else(|| "/".into());
    let mut resolved = Resolved {
        argv: Vec::new(),
        variables: Vec::new(),
        working_directory,
        places,
        layers,
        image,
        given: None,
        manner,
        engine: None,
        builds: false,
        limits: workload.limits,
        options: model::Options::default(),
    };
    match engine {
        Some((run, place)) => use_engine(&mut resolved, run, &place),
        None => {
            use_host(author, workload, &mut resolved)?;
            resolved.options = options::checked(&workload.options).map_err(|reason| author.invalid(reason))?;
            resolved.manner.sysctls.clone_from(&resolved.options.sysctls);
            let dumps = |bound: &model::Ulimit| bound.hard.or(bound.soft) != Some(0);
            if resolved.options.ulimits.get("core").is_some_and(dumps) && !workload.secrets().is_empty() {
                return Err(author.invalid(
                    "what is given secrets leaves no core dumps, which would hold them\nhint: remove `core` from `ulimits`",
                ));
            }
        }
    }
    if resolved.argv.iter().map(String::len).sum::<usize>() > MAX_ARGUMENTS
        || resolved.argv.iter().any(|a| a.contains('\0'))
    {
        return Err(author.invalid("the command can not be passed to a process"));
    }
    Ok(resolved)
}

fn image_root(author: &Author<'_>, workload: &Workload) -> Result<Option<ImageRoot>, RuntimeError> {
    let image = match (&workload.root, workload.root.image()) {
        (_, Some(image)) => image.clone(),
        (Root::Image { reference, .. }, None) => {
            return Err(author.invalid(format!(
                "nobody has said what the image `{}` stands for",
                reference.escape_debug()
            )));
        }
        _ => return Ok(None),
    };
    Ok(Some(ImageRoot {
        layer: names::image_layer(author.unit, &image),
        image,
        read_only: workload.read_only,
    }))
}

fn use_host(author: &Author<'_>, workload: &Workload, resolved: &mut Resolved) -> Result<(), RuntimeError> {
    let parts = [&workload.entrypoint, &workload.command];
    resolved.argv = parts.into_iter().flatten().flatten().cloned().collect();
    if resolved.argv.is_empty() {
        return Err(author.invalid(match workload.root {
            Root::Image { .. } | Root::Build(_) => "it has no command, and its image names none",
            _ => "it has no command; one that runs from the host's packages needs one",
        }));
    }
    if !Path::new(&resolved.working_directory).is_absolute() {
        return Err(author.invalid("the working directory is not absolute"));
    }
    // Older OCI runtimes enter it while they still hold descriptors of the machine's directories.
    if ["/proc", "/sys", "/dev"]
        .iter()
        .any(|system| Path::new(&resolved.working_directory).starts_with(system))
    {
        return Err(author.invalid("the working directory is not one for applications"));
    }
    for (name, value) in &workload.environment {
        resolved.variables.push((name.clone(), author.value(name, value)?));
    }
    Ok(())
}

fn resolve_engine(
    author: &Author<'_>,
    workload: &Workload,
    engine: &Engine,
) -> Result<(EngineRun, EnginePlace), RuntimeError> {
    let kind = EngineKind::from_name(&engine.kind).ok_or_else(|| RuntimeError::Unsupported {
        runtime: NAME.to_owned(),
        what: format!("the engine `{}`", engine.kind.escape_debug()),
        hint: "postgres, redis and rabbitmq run here".into(),
    })?;
    let mut environment = BTreeMap::new();
    for (name, value) in &workload.environment {
        environment.insert(name.clone(), Sensitive::new(author.value(name, value)?));
    }
    let mut place = EnginePlace::cell(kind);
    if let Some(mount) = workload
        .mounts
        .iter()
        .find(|m| matches!(m.kind, MountKind::Volume { .. }))
    {
        place.data = mount.target.clone().into();
    }
    let command: Vec<String> = workload.command.clone().unwrap_or_default();
    let request = EngineRequest {
        kind,
        majors: engine.versions.min..=engine.versions.max,
        management: recognise(&engine.image).is_some_and(|r| r.management),
        environment: &environment,
        command: &command,
        memory_bytes: workload.limits.memory_bytes,
        place: &place,
    };
    let run = engine_run(&request, host_engines()).map_err(|error| match error {
        crate::engine::EngineError::Missing { .. } => RuntimeError::Unsupported {
            runtime: NAME.to_owned(),
            what: error.to_string(),
            hint: "install the package, or accept another version in the stack".into(),
        },
        other => author.invalid(other.to_string()),
    })?;
    Ok((run, place))
}

fn use_engine(resolved: &mut Resolved, run: EngineRun, place: &EnginePlace) {
    let data = place.data.display().to_string();
    if !resolved.places.iter().any(|(target, _)| *target == data) {
        let memory = Memory {
            size: Some(DEFAULT_ENGINE_TMPFS),
            mode: 0o700,
            uid: Some(place.user.uid),
            gid: Some(place.user.uid),
            read_only: false,
        };
        resolved.places.push((data, Place::Tmpfs(memory)));
    }
    resolved
        .places
        .push((place.run.display().to_string(), Place::Administration));
    resolved.argv.clone_from(&run.argv);
    resolved.variables = run.environment.clone().into_iter().collect();
    resolved.working_directory = "/".into();
    let manner = &mut resolved.manner;
    manner.user = place.user.uid;
    manner.stop_signal = signal(run.stop.signal).unwrap_or(manner.stop_signal);
    manner.stop_grace_ms = u64::try_from(run.stop.grace.as_millis()).unwrap_or(10_000);
    let below = |path: &Path| path.strip_prefix(&place.run).ok().map(|p| p.display().to_string());
    let (socket, port) = match &run.ready.address {
        Address::Unix(path) => (below(path), run.port),
        Address::Tcp(port) => (None, *port),
    };
    manner.administration.clone_from(&socket);
    let protocol = match run.ready.protocol {
        Protocol::Postgres => EngineProtocol::Postgres,
        Protocol::Redis => EngineProtocol::Redis,
        Protocol::Amqp => EngineProtocol::Amqp,
    };
    manner.check = Check::Engine { protocol, socket, port };
    resolved.engine = Some(run);
}

/// The number of a signal given by name or number.
fn signal(name: &str) -> Option<i32> {
    if name.is_empty() {
        return Some(Signal::TERM.as_raw());
    }
    if let Ok(number) = name.parse::<i32>() {
        return (1..=31).contains(&number).then_some(number);
    }
    let full = if name.starts_with("SIG") {
        name.to_owned()
    } else {
        format!("SIG{name}")
    };
    full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}
