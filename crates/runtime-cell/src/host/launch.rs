//! Makes a container: layers, bundle, mounts, namespaces, link, start. Blocking, and repeatable after a crash at any point.

use super::{
    Host, build, chain, failed,
    record::{DiskMount, DiskOrigin, Manner},
    resolve::{Below, Layer, Place, Resolved},
};
use crate::{
    engine::EngineRun,
    names::{self, UnitName},
    pool::{Origin, Owner},
    sandbox::{
        bundle::{self, Entry, ImageRoot, Plan},
        conmon::{Container, ContainerError, END_PATIENCE, Running, remove_directory},
        idmap, init,
        network::{Hub, container_address},
        process::Process,
        sysctl, tree,
    },
    sys,
};
use model::{EnvironmentId, Limits};
use runtime::RuntimeError;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown, fchown},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

const LAYER_BYTES: u64 = 1 << 30;
/// The limit of the environment is what bounds a build.
const BUILD_BYTES: u64 = 64 << 30;
/// Where the root of a container from an image is mounted while the container is made.
const ROOT: &str = "root";
/// The files that a build is given, below its bundle.
const GIVEN: &str = "given";
/// What an engine may put where its administrator finds it: sockets and configuration.
const ADMINISTRATION_BYTES: u64 = 16 << 20;
const ADMINISTRATION_FILES: u32 = 1024;
/// What the kernel says, in the OCI runtime's words.
const NO_SPACE: &str = "o space left on device";
/// A file system with less can take nothing that a container needs.
const BARELY_BYTES: u64 = 1 << 20;
const INITIALISE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What stays the same for a container from start to start.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Whose it is.
    pub(crate) environment: EnvironmentId,
    /// Which.
    pub(crate) unit: UnitName,
    /// The number of its address.
    pub(crate) number: u16,
    /// Its ids.
    pub(crate) range: idmap::Range,
    /// Its network.
    pub(crate) hub: Arc<Hub>,
    /// Its ids on disk.
    pub(crate) namespace: Arc<OwnedFd>,
    /// Its mounts.
    pub(crate) manner: Manner,
}

fn refused(cell: &Cell, container: &Container, error: ContainerError) -> RuntimeError {
    let what = cell.unit.plain().to_owned();
    match error {
        ContainerError::Refused(reason) if reason.contains(NO_SPACE) => without_space(what, reason, container),
        ContainerError::Refused(reason) => RuntimeError::Invalid {
            what,
            reason: explained(&reason, cell.manner.root.is_some(), || {
                bundle::command(&container.bundle)
            })
            .unwrap_or(reason),
        },
        other => failed(format!("starting {what}"), &other),
    }
}

/// The kernel says the same of a full disk and of namespaces and mounts of which it allows no more. Only a disk is waited for.
fn without_space(what: String, reason: String, container: &Container) -> RuntimeError {
    let full = |path: &Path| {
        rustix::fs::statvfs(path).is_ok_and(|found| {
            found.f_bavail.saturating_mul(found.f_frsize) < BARELY_BYTES || (found.f_files > 0 && found.f_favail == 0)
        })
    };
    if full(&container.bundle) || container.log.parent().is_some_and(full) {
        return RuntimeError::Full { what, reason };
    }
    RuntimeError::Failed {
        action: format!("starting {what}"),
        reason: format!("{reason}; no disk is full: `sysctl user fs.mount-max` shows what the kernel allows"),
    }
}

/// What the author of a command can do about it, where the runtime's words are about the command: those of runc, then those of
/// crun, which does not always name it.
fn explained(reason: &str, image: bool, command: impl FnOnce() -> Option<String>) -> Option<String> {
    let of_runc = || reason.split_once("exec: \"")?.1.split_once("\": ");
    let of_crun = || reason.split_once("executable file `")?.1.split_once("` ");
    if let Some((command, why)) = of_runc().or_else(of_crun) {
        let missing = ["executable file not found", "no such file", "not found in $PATH"];
        if why.contains("permission denied") {
            Some(not_executable(command))
        } else {
            missing
                .iter()
                .any(|words| why.contains(words))
                .then(|| not_there(command, image))
        }
    } else if reason.starts_with("open executable: ") {
        command().map(|command| not_executable(&command))
    } else {
        None
    }
}

fn not_executable(command: &str) -> String {
    format!("the command `{command}` may not be run\nhint: make the file executable and commit that")
}

fn not_there(command: &str, image: bool) -> String {
    if image {
        return format!(
            "the command `{command}` is not in the image\nhint: look at `entrypoint` and `command`; a file of the checkout \
             has to be mounted where it is named"
        );
    }
    format!(
        "the command `{command}` is not there\nhint: install its package on this machine: services with \
         `host: true` run from the machine's packages; or name a file of the checkout by its path"
    )
}

impl Host {
    /// Names and places of a container.
    pub(crate) fn container(&self, environment: &EnvironmentId, unit: &UnitName) -> Container {
        let cell = self.cell_dir(environment.as_str());
        let id = names::container_id(&self.config.instance, environment, unit);
        let oci = self.programs.oci_of(&cell, &id);
        Container {
            id,
            bundle: cell.join(unit.as_str()),
            oci: oci.clone(),
            runtime_root: cell.join(oci.kind.name()),
            log: self
                .state_dir(environment.as_str())
                .join("logs")
                .join(format!("{}.log", unit.as_str())),
            log_max: self.config.log_bytes,
        }
    }

    fn unit_mounts(&self, environment: &EnvironmentId, unit: &UnitName) -> PathBuf {
        self.mounts_dir().join(format!("{environment}.{}", unit.as_str()))
    }

    /// The directory that an engine shares with its administrator.
    pub(crate) fn administration_dir(&self, environment: &EnvironmentId, unit: &UnitName) -> PathBuf {
        self.cell_dir(environment.as_str()).join(format!("a{}", unit.as_str()))
    }

    /// Makes what a container needs on disk, anew.
    pub(crate) fn prepare(&self, cell: &Cell, resolved: &Resolved) -> Result<(), RuntimeError> {
        let action = || format!("preparing {}", cell.unit.plain());
        let io = |e: io::Error| failed(action(), &e);
        self.clear_unit(cell)?;
        let room = if resolved.builds { BUILD_BYTES } else { LAYER_BYTES };
        for layer in &resolved.layers {
            self.lay(cell, layer, resolved.limits.disk_bytes.unwrap_or(room))?;
        }
        if let Some(root) = &resolved.image {
            self.pool
                .volume_create(
                    cell.environment.as_str(),
                    &root.layer,
                    &Origin::Image(root.image.hex().to_owned()),
                    resolved.limits.disk_bytes.unwrap_or(LAYER_BYTES),
                )
                .map_err(|e| pool_error(action(), e))?;
            self.give_volumes(cell, resolved, root)?;
        }
        let container = self.container(&cell.environment, &cell.unit);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(container.log.parent().unwrap_or(Path::new("/")))
            .map_err(io)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(self.cell_dir(cell.environment.as_str()))
            .map_err(io)?;
        if let Some(engine) = &resolved.engine {
            self.furnish_engine(cell, engine).map_err(io)?;
        }
        let plan = self.plan(cell, resolved)?;
        if resolved.builds {
            let limits = self.environment(&cell.environment)?.inner().record.limits;
            let id = cell.environment.as_str();
            self.groups.ensure_builds(id, &limits).map_err(io)?;
        }
        bundle::write(&container.bundle, &plan).map_err(io)?;
        if let Some(files) = &resolved.given {
            give(&container.bundle.join(GIVEN), files, cell.range.first).map_err(io)?;
        }
        if let Some(engine) = &resolved.engine {
            self.initialise(cell, engine, &plan)?;
        }
        Ok(())
    }

    /// Makes a layer, with the files that it begins with.
    fn lay(&self, cell: &Cell, layer: &Layer, room: u64) -> Result<(), RuntimeError> {
        let action = || format!("preparing {}", cell.unit.plain());
        let pool = |e| pool_error(action(), e);
        let io = |e: io::Error| failed(action(), &e);
        let make = |origin: &Origin| {
            let environment = cell.environment.as_str();
            self.pool
                .volume_create(environment, &layer.name, origin, room)
                .map_err(pool)
        };
        let path = match &layer.below {
            Below::Source(source) => make(&Origin::Source(source.clone()))?,
            Below::Snapshot(snapshot) => make(&Origin::Snapshot(snapshot.clone()))?,
            Below::Files(source, paths) => {
                let source = self.pool.source_path(source).map_err(pool)?;
                let owner = build::Owner::of(&source).map_err(io)?;
                let path = make(&Origin::Empty(Owner {
                    uid: owner.uid,
                    gid: owner.gid,
                    mode: 0o755,
                }))?;
                build::copy(&source, &path, paths, owner).map_err(io)?;
                path
            }
        };
        for point in &layer.mount_points {
            let (snapshot, within) = &point.of;
            let product = self.pool.snapshot_path(snapshot).map_err(pool)?;
            build::make_mount_point(&path, &point.path, build::is_file(&product, within).map_err(io)?)?;
        }
        Ok(())
    }

    fn plan(&self, cell: &Cell, resolved: &Resolved) -> Result<Plan, RuntimeError> {
        let staging = self.unit_mounts(&cell.environment, &cell.unit);
        let content = self
            .container(&cell.environment, &cell.unit)
            .bundle
            .join(bundle::CONTENT);
        let mut mounts = Vec::new();
        for (target, place) in &resolved.places {
            let entry = match place {
                Place::Content(file) => Entry::Content {
                    source: content.join(mounts.len().to_string()),
                    file: file.clone(),
                },
                // By its path: a newer version in its place is what the next start runs.
                Place::Program => Entry::Bind {
                    source: std::env::current_exe().map_err(|e| failed("finding our own program", &e))?,
                    directory: false,
                    read_only: true,
                },
                Place::Tmpfs(memory) => Entry::Tmpfs(memory.clone()),
                Place::Administration => {
                    let source = self.administration_dir(&cell.environment, &cell.unit);
                    Entry::Bind {
                        source,
                        directory: true,
                        read_only: false,
                    }
                }
                Place::Given => Entry::Bind {
                    source: self.container(&cell.environment, &cell.unit).bundle.join(GIVEN),
                    directory: true,
                    read_only: true,
                },
                Place::Disk(number) => {
                    let mount = cell.manner.mounts.get(*number);
                    let mount = mount.ok_or_else(|| RuntimeError::NotFound {
                        what: format!("mount {number}"),
                    })?;
                    let (file, _) = self.open_disk(cell, mount)?;
                    let directory = fs::File::from(file).metadata().is_ok_and(|m| m.is_dir());
                    let source = staging.join(number.to_string());
                    if mount.origin.is_storage() {
                        Entry::Storage { source }
                    } else {
                        Entry::Bind {
                            source,
                            directory,
                            read_only: mount.read_only,
                        }
                    }
                }
            };
            mounts.push((target.clone(), entry));
        }
        let limits = Limits {
            disk_bytes: None,
            ..resolved.limits
        };
        let who = self.who(cell, resolved)?;
        Ok(Plan {
            host_name: cell.unit.plain().chars().take(63).collect(),
            address: container_address(cell.number),
            argv: resolved.argv.clone(),
            variables: resolved.variables.clone(),
            working_directory: resolved.working_directory.clone(),
            user: who.uid,
            group: who.gid,
            groups: who.groups,
            home: who.home,
            image: resolved.image.as_ref().map(|image| ImageRoot {
                path: staging.join(ROOT),
                read_only: image.read_only,
            }),
            builds: resolved.given.is_some(),
            mounts,
            limits,
            bounds_swap: self.groups.bounds_swap(),
            cgroup: if resolved.builds {
                self.groups
                    .oci_path_of_build(cell.environment.as_str(), cell.unit.as_str())
            } else {
                self.groups.oci_path(cell.environment.as_str(), cell.unit.as_str())
            },
            range: cell.range,
            etc: self.etc.clone(),
            init: resolved.options.init.unwrap_or_default().then(init::program).flatten(),
            options: resolved.options.clone(),
        })
    }

    /// Opens what is to be mounted, without following a link anywhere, and tells who owns the whole of it.
    fn open_disk(&self, cell: &Cell, mount: &DiskMount) -> Result<(OwnedFd, (u32, u32)), RuntimeError> {
        let action = || format!("mounting `{}` in {}", mount.subpath, cell.unit.plain());
        let root = match &mount.origin {
            DiskOrigin::Source(key) => self.pool.source_path(key),
            DiskOrigin::Volume(name) => self.pool.volume_path(cell.environment.as_str(), name),
        };
        let root = root.map_err(|e| pool_error(action(), e))?;
        let open = |path: &Path, name: &Path, resolve| {
            openat2(
                CWD,
                path.join(name),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            )
        };
        let top = open(&root, Path::new(""), ResolveFlags::empty()).map_err(|e| failed(action(), &e))?;
        let owner = fs::File::from(top.try_clone().map_err(|e| failed(action(), &e))?)
            .metadata()
            .map_err(|e| failed(action(), &e))?;
        if mount.subpath.is_empty() {
            return Ok((top, (owner.uid(), owner.gid())));
        }
        let whole = if mount.origin.is_checkout() {
            "checkout"
        } else {
            "volume"
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&top, mount.subpath.as_str(), flags, Mode::empty(), resolve).map_err(|e| {
            RuntimeError::Invalid {
                what: cell.unit.plain().to_owned(),
                reason: match e {
                    rustix::io::Errno::NOENT => {
                        format!("there is no `{}` in the {whole}", mount.subpath.escape_debug())
                    }
                    _ => format!("`{}` in the {whole} leads through a link", mount.subpath.escape_debug()),
                },
            }
        })?;
        Ok((found, (owner.uid(), owner.gid())))
    }

    /// Mounts, creates, links and starts a container whose bundle is there.
    pub(crate) fn launch(&self, cell: &Cell) -> Result<Running, RuntimeError> {
        self.create_and(cell, || self.start(cell))
    }

    /// The same up to the start, which may come later.
    pub(crate) fn create(&self, cell: &Cell) -> Result<Running, RuntimeError> {
        self.create_and(cell, || Ok(()))
    }

    /// Lets the command of a created container run.
    pub(crate) fn start(&self, cell: &Cell) -> Result<(), RuntimeError> {
        let container = self.container(&cell.environment, &cell.unit);
        container.start().map_err(|e| refused(cell, &container, e))
    }

    fn create_and(
        &self,
        cell: &Cell,
        then: impl FnOnce() -> Result<(), RuntimeError>,
    ) -> Result<Running, RuntimeError> {
        let container = self.container(&cell.environment, &cell.unit);
        let staging = self.unit_mounts(&cell.environment, &cell.unit);
        self.groups.expect_move();
        let launched = self
            .create_mounted(cell, &container, &staging)
            .and_then(|running| then().map(|()| running))
            .inspect_err(|_| {
                // One that was created and not started would keep its name from the next try.
                if let Err(error) = self.end_unit(cell) {
                    tracing::warn!(unit = cell.unit.as_str(), %error, "a failed start left something behind");
                }
            });
        // The container has its own copies by now, or there is none.
        let cleared =
            idmap::clear(&staging).map_err(|e| failed(format!("unmounting what {} was given", cell.unit.plain()), &e));
        let running = launched?;
        cleared?;
        if cell.manner.root.is_some() {
            // Before it enters a container to run a command there, runc goes to where the root was, which has to be a directory.
            let path = staging.join(ROOT);
            let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
            made.map_err(|e| failed(format!("starting {}", cell.unit.plain()), &e))?;
        }
        Ok(running)
    }

    fn create_mounted(&self, cell: &Cell, container: &Container, staging: &Path) -> Result<Running, RuntimeError> {
        let io = |e: io::Error| failed(format!("starting {}", cell.unit.plain()), &e);
        idmap::clear(staging).map_err(io)?;
        fs::DirBuilder::new().mode(0o711).create(staging).map_err(io)?;
        for (number, mount) in cell.manner.mounts.iter().enumerate() {
            let (source, (uid, gid)) = self.open_disk(cell, mount)?;
            let target = staging.join(number.to_string());
            // A checkout belongs to whoever wrote it; a volume has the ids of the inside on disk.
            if mount.origin.is_storage() {
                idmap::mount_storage(source.as_fd(), &target, cell.namespace.as_fd()).map_err(io)?;
            } else if mount.origin.is_checkout() {
                let namespace = cell.range.namespace_owned_by(uid, gid).map_err(io)?;
                idmap::mount(source.as_fd(), &target, namespace.as_fd(), mount.read_only).map_err(io)?;
            } else {
                idmap::mount(source.as_fd(), &target, cell.namespace.as_fd(), mount.read_only).map_err(io)?;
            }
        }
        if let Some(root) = &cell.manner.root {
            let (source, _) = self.open_disk(cell, root)?;
            idmap::mount(source.as_fd(), &staging.join(ROOT), cell.namespace.as_fd(), false).map_err(io)?;
        }
        // The monitor refuses a bundle in which it was before.
        for left in ["ctl", "winsz", "attach", "container.pid", "monitor.pid", "oom"] {
            let _ = fs::remove_file(container.bundle.join(left));
        }
        remove_directory(&container.bundle.join("exit")).map_err(io)?;
        let mut running = container
            .create(&self.programs)
            .map_err(|e| refused(cell, container, e))?;
        self.logs.keep(&container.log);
        let process = Process::of(running.pid, cell.range).map_err(io)?;
        let process = process.ok_or_else(|| io(io::Error::other("its first process has ended")))?;
        self.connect(cell, &process)?;
        self.set_kernel(cell, &process)?;
        self.bound_kernel_objects(&process);
        running.process = Some(process);
        Ok(running)
    }

    /// Links a container into the network of its environment, once it is certain who hears it there.
    fn connect(&self, cell: &Cell, process: &Process) -> Result<(), RuntimeError> {
        let io = |e: io::Error| failed(format!("connecting {}", cell.unit.plain()), &e);
        if cell.manner.networks.as_ref().is_some_and(BTreeMap::is_empty) {
            return Hub::leave_alone(process).map_err(io);
        }
        self.keep_apart(&*self.environment(&cell.environment)?, &cell.hub)?;
        cell.hub.attach(cell.number, cell.unit.plain(), process).map_err(io)?;
        Ok(())
    }

    /// Sets what the container has for itself of the kernel's settings. One that this kernel keeps to itself is told of.
    fn set_kernel(&self, cell: &Cell, process: &Process) -> Result<(), RuntimeError> {
        let refused = sysctl::set(process, cell.range.first, &cell.manner.sysctls)
            .map_err(|e| failed(format!("setting what {} wants of the kernel", cell.unit.plain()), &e))?;
        if refused.is_empty() {
            return Ok(());
        }
        let message = format!("this kernel does not set `{}` for a container", refused.join("`, `"));
        let environment = self.environment(&cell.environment)?;
        self.update_unit(&environment, &cell.unit, |record| record.message = Some(message));
        Ok(())
    }

    /// Counters that all user namespaces share get a bound of their own, or one environment could take them all.
    fn bound_kernel_objects(&self, process: &Process) {
        let host = |name: &str| {
            fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"))
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        };
        let instances = host("max_user_instances").map_or(8, |n| (n / 16).clamp(8, 128));
        let watches = host("max_user_watches").map_or(8192, |n| (n / 16).max(1024));
        let path = |name: &str| PathBuf::from(format!("/proc/sys/user/{name}"));
        let files = [
            (path("max_inotify_instances"), instances),
            (path("max_inotify_watches"), watches),
            (path("max_user_namespaces"), 0),
            (path("max_fanotify_groups"), 0),
        ];
        let files: Vec<(&Path, u64)> = files.iter().map(|(p, v)| (p.as_path(), *v)).collect();
        let set = process
            .namespace("user")
            .and_then(|namespace| sys::write_inside_user_namespace(namespace.as_fd(), &files));
        if let Err(error) = set {
            tracing::warn!(%error, ?process, "a container runs without bounds on the kernel objects that all share");
        }
    }

    fn furnish_engine(&self, cell: &Cell, engine: &EngineRun) -> io::Result<()> {
        let root = self.administration_dir(&cell.environment, &cell.unit);
        forget_administration(&root)?;
        let inside = Path::new("/run/maquette");
        let owner = Some(cell.range.first + cell.manner.user);
        let make = |path: &Path, mode: u32| -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            chown(path, owner, owner)
        };
        make(&root, 0o700)?;
        // A memory file system of its own: the engine must not fill the one that all environments and the machine share.
        let id = cell.range.first + cell.manner.user;
        let options =
            format!("mode=0700,uid={id},gid={id},size={ADMINISTRATION_BYTES},nr_inodes={ADMINISTRATION_FILES}");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &root, "tmpfs", flags, Some(CString::new(options)?.as_c_str()))?;
        let outside = |path: &Path| {
            let below = path.strip_prefix(inside).map_err(io::Error::other)?;
            let plain = below.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if plain {
                Ok(root.join(below))
            } else {
                Err(io::Error::other("an engine's file lies outside of its directory"))
            }
        };
        // What lies elsewhere is in the data directory, which the engine owns and furnishes itself.
        for directory in engine
            .directories
            .iter()
            .filter(|directory| directory.path.starts_with(inside))
        {
            make(&outside(&directory.path)?, directory.mode)?;
        }
        for file in &engine.files {
            let path = outside(&file.path)?;
            let mut options = fs::OpenOptions::new();
            let mut made = options.write(true).create_new(true).mode(file.mode).open(&path)?;
            io::Write::write_all(&mut made, file.content.expose().as_bytes())?;
            chown(&path, owner, owner)?;
        }
        Ok(())
    }

    /// Makes an empty data volume usable, in the same container with another command.
    fn initialise(&self, cell: &Cell, engine: &EngineRun, plan: &Plan) -> Result<(), RuntimeError> {
        let Some(first) = &engine.initialise else { return Ok(()) };
        let io = |e: io::Error| failed(format!("initialising {}", cell.unit.plain()), &e);
        let Some(name) = first.marker.file_name() else {
            return Ok(());
        };
        let Some(data) = cell.manner.mounts.iter().find_map(|m| match &m.origin {
            DiskOrigin::Volume(name) => self.pool.volume_path(cell.environment.as_str(), name).ok(),
            DiskOrigin::Source(_) => None,
        }) else {
            return Err(RuntimeError::Invalid {
                what: cell.unit.plain().to_owned(),
                reason: "it needs a volume for its data".into(),
            });
        };
        let marker = data.join(name);
        if fs::symlink_metadata(&marker).is_ok() {
            return Ok(());
        }
        tree::empty(&data).map_err(io)?;
        let container = self.container(&cell.environment, &cell.unit);
        let file = container.bundle.join("config.json");
        let once = bundle::config(&Plan {
            argv: first.argv.clone(),
            ..plan.clone()
        });
        fs::write(&file, serde_json::to_vec(&once).map_err(|e| io(e.into()))?).map_err(io)?;
        let running = self.launch(cell)?;
        let ended = crate::sandbox::conmon::wait_gone(&running.monitor, INITIALISE_PATIENCE).map_err(io)?;
        let status = container.exit_status();
        self.end_unit(cell)?;
        if !ended || status != Some(0) {
            let reason = format!(
                "its first run ended with {}",
                status.map_or("no status".into(), |s| s.to_string())
            );
            return Err(RuntimeError::Failed {
                action: format!("initialising {}", cell.unit.plain()),
                reason,
            });
        }
        // Another container may have the same volume: what it puts in the marker's place is neither followed nor touched.
        let mut options = fs::OpenOptions::new();
        let made = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&marker)
            .map_err(io)?;
        fchown(&made, Some(cell.manner.user), Some(cell.manner.user)).map_err(io)?;
        fs::write(
            &file,
            serde_json::to_vec(&bundle::config(plan)).map_err(|e| io(e.into()))?,
        )
        .map_err(io)
    }

    /// Ends the monitor and the runtime that a killed host has left in the middle of making a container. They go on without it,
    /// and the monitor may not yet have written down its number.
    pub(crate) fn end_makers(&self, cell: &Cell) -> Result<(), RuntimeError> {
        let id = self.container(&cell.environment, &cell.unit).id;
        let action = || format!("ending the making of {}", cell.unit.plain());
        let io = |e: io::Error| failed(action(), &e);
        // One that was just forked by another is seen the next time.
        let mut found = true;
        while std::mem::take(&mut found) {
            for number in self.groups.host_processes().map_err(io)? {
                found |= crate::sandbox::conmon::end_maker(number, &id).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Ends what runs of a container and removes what the runtime keeps of it. Bundle and layers stay for the next start.
    pub(crate) fn end_unit(&self, cell: &Cell) -> Result<(), RuntimeError> {
        let action = || format!("ending {}", cell.unit.plain());
        let io = |e: io::Error| failed(action(), &e);
        let environment = cell.environment.as_str();
        let container = self.container(&cell.environment, &cell.unit);
        self.groups.kill(environment, Some(cell.unit.as_str())).map_err(io)?;
        if let Some(monitor) = container.monitor().map_err(io)? {
            crate::sandbox::conmon::wait_gone(&monitor, END_PATIENCE).map_err(io)?;
        }
        self.groups.remove(environment, Some(cell.unit.as_str())).map_err(io)?;
        remove_directory(&container.runtime_root.join(&container.id)).map_err(io)?;
        cell.hub.detach(cell.number).map_err(io)
    }

    /// Ends a container and removes all that was made for it, except its log.
    pub(crate) fn clear_unit(&self, cell: &Cell) -> Result<(), RuntimeError> {
        let action = || format!("clearing {}", cell.unit.plain());
        let io = |e: io::Error| failed(action(), &e);
        self.end_unit(cell)?;
        idmap::clear(&self.unit_mounts(&cell.environment, &cell.unit)).map_err(io)?;
        self.container(&cell.environment, &cell.unit).forget().map_err(io)?;
        forget_administration(&self.administration_dir(&cell.environment, &cell.unit)).map_err(io)?;
        let environment = cell.environment.as_str();
        for name in self
            .pool
            .volume_list(environment)
            .map_err(|e| pool_error(action(), e))?
        {
            if names::is_layer_of(&name, &cell.unit) {
                self.pool
                    .volume_remove(environment, &name)
                    .map_err(|e| pool_error(action(), e))?;
            }
        }
        Ok(())
    }
}

/// Writes files that only the root of a container may read.
fn give(directory: &Path, files: &[(String, Vec<u8>)], owner: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(directory)?;
    for (name, content) in files {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(directory.join(name))?;
        io::Write::write_all(&mut file, content)?;
        fchown(&file, Some(owner), Some(owner))?;
    }
    chown(directory, Some(owner), Some(owner))
}

/// Removes the directory that an engine shares with its administrator. Nothing happens if it is gone.
pub(crate) fn forget_administration(path: &Path) -> io::Result<()> {
    while path.try_exists()? && idmap::is_mount_point(path)? {
        unmount(path, UnmountFlags::DETACH)?;
    }
    remove_directory(path)
}

/// The pool's errors as the port's.
pub(crate) fn pool_error(action: String, error: crate::pool::PoolError) -> RuntimeError {
    use crate::pool::PoolError;
    match &error {
        PoolError::Missing { kind, id } => RuntimeError::NotFound {
            what: format!("{kind} {id}"),
        },
        PoolError::Io { source, .. } if source.kind() == io::ErrorKind::QuotaExceeded => RuntimeError::Invalid {
            what: action,
            reason: "the environment has used up its disk; its limit is `policy.limits.disk`".to_owned(),
        },
        PoolError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => RuntimeError::Full {
            what: action,
            reason: "the pool is full".to_owned(),
        },
        PoolError::Full { .. } | PoolError::NoRoom { .. } => RuntimeError::Full {
            what: action,
            reason: chain(&error),
        },
        PoolError::SourceRefused { key, .. } => RuntimeError::Invalid {
            what: format!("source {key}"),
            reason: error.to_string(),
        },
        _ => failed(action, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::oci::{Oci, OciKind};

    #[test]
    fn both_runtimes_words_about_a_command_become_the_same_ones_for_its_author() {
        let told = |reason: &str| explained(reason, false, || Some("./start".into())).unwrap_or_default();
        let missing = [
            "runc create failed: unable to start container process: exec: \"nonesuch\": executable file not found in $PATH",
            "executable file `nonesuch` not found in $PATH: No such file or directory",
        ];
        for reason in missing {
            assert!(
                told(reason).starts_with("the command `nonesuch` is not there\nhint: "),
                "{reason}"
            );
        }
        let refused = [
            "unable to start container process: exec: \"./start\": permission denied",
            "open executable: Permission denied",
        ];
        for reason in refused {
            assert!(
                told(reason).starts_with("the command `./start` may not be run\nhint: "),
                "{reason}"
            );
        }
        assert_eq!(explained("no space left on device", false, || None), None);
    }

    #[test]
    fn a_kernel_without_another_namespace_is_no_full_disk_and_not_the_authors_fault() {
        let place = tempfile::tempdir().unwrap();
        let container = Container {
            id: "x".into(),
            bundle: place.path().into(),
            oci: OciKind::ALL.into_iter().find_map(Oci::find).unwrap(),
            runtime_root: place.path().into(),
            log: place.path().join("log"),
            log_max: 1,
        };
        let told = without_space("web".into(), "clone: No space left on device".into(), &container);
        assert!(
            matches!(&told, RuntimeError::Failed { reason, .. } if reason.contains("no disk is full")),
            "{told}"
        );
    }
}
