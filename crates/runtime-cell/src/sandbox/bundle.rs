//! The OCI bundle of one container: a root made from an allow list of the host, and `config.json`.
//!
//! Pure where possible: [`config`] builds the document, [`write`] puts it and the root's mount points on disk.

mod build;
mod image;

pub(crate) use image::{ImageRoot, check_target_in_image};

use super::{cgroup, etc, idmap, init, seccomp};
use model::{Limits, Options, Ulimit};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::{
    fmt, fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown, symlink},
    path::{Component, Path, PathBuf},
};
use zeroize::Zeroizing;

/// Directories of the host's root that containers see, or links to them, as the host has it.
const HOST_DIRECTORIES: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const EMPTY_DIRECTORIES: [&str; 14] = [
    "proc",
    "sys",
    "dev",
    "etc",
    "tmp",
    "run",
    "var/lib",
    "var/log",
    "var/cache",
    "home",
    "root",
    "srv",
    "opt",
    "mnt",
];
/// Mount targets below these would hide what the sandbox is made of.
const RESERVED: [&str; 12] = [
    "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/.cell",
];
/// The directory of the bundle with the files that the stack gives.
pub(crate) const CONTENT: &str = "content";
/// A bound that the kernel takes for "no core dump", neither as a file nor to a program of the machine that collects them; 0 would
/// leave the second (core(5), `fs/coredump.c`). A dump holds whatever the process was given.
const NO_CORE: u64 = 1;
const MOUNTED_MAX: usize = 64;
const DEFAULT_TMPFS: u64 = 64 << 20;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub(super) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Upper bound in bytes.
    pub(crate) size: Option<u64>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner inside; root if absent.
    pub(crate) uid: Option<u32>,
    /// Group inside; root's if absent.
    pub(crate) gid: Option<u32>,
    /// Whether the container may only read it.
    pub(crate) read_only: bool,
}

/// Something that the container sees besides its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file or directory of the host, usually a mount with mapped ids.
    Bind {
        /// On the host.
        source: PathBuf,
        /// Whether it is a directory.
        directory: bool,
        /// Whether the container may only read it.
        read_only: bool,
    },
    /// A file that the stack gives, read-only.
    Content {
        /// Where it is put, below [`CONTENT`] of the bundle.
        source: PathBuf,
        /// What it holds.
        file: ContentFile,
    },
    /// A directory in which file systems are assembled: mounts of what is in it must not have more bounds than the container has.
    Storage {
        /// On the host, a mount with mapped ids.
        source: PathBuf,
    },
    /// Memory.
    Tmpfs(Memory),
}

/// A file that the stack gives. What it holds may be secret, and does not print.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ContentFile {
    /// What it holds.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner inside.
    pub(crate) uid: u32,
    /// Group inside.
    pub(crate) gid: u32,
}

impl fmt::Debug for ContentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a file of mode {:o}", self.mode)
    }
}

/// What a container runs and sees. Secret values are in `variables`: no `Debug`.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Its host name, also in `/etc/hosts`.
    pub(crate) host_name: String,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// Command and arguments.
    pub(crate) argv: Vec<String>,
    /// Its whole environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) working_directory: String,
    /// User inside.
    pub(crate) user: u32,
    /// Group inside.
    pub(crate) group: u32,
    /// Further groups.
    pub(crate) groups: Vec<u32>,
    /// Where that user is at home, if somebody says so.
    pub(crate) home: Option<String>,
    /// Its root, if that is not made from the host's.
    pub(crate) image: Option<image::ImageRoot>,
    /// Whether it assembles images.
    pub(crate) builds: bool,
    /// In order, after the system's own.
    pub(crate) mounts: Vec<(String, Entry)>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// Whether the kernel counts what is swapped out.
    pub(crate) bounds_swap: bool,
    /// Its control group.
    pub(crate) cgroup: String,
    /// Its ids.
    pub(crate) range: idmap::Range,
    /// The shared `/etc`.
    pub(crate) etc: PathBuf,
    /// The first process, if its command is to be another one's child.
    pub(crate) init: Option<PathBuf>,
    /// What its author asks for beyond that, checked: host name, names with addresses, bounds of the kernel.
    pub(crate) options: Options,
}

impl Plan {
    /// What it calls itself.
    fn own_name(&self) -> &str {
        self.options.hostname.as_deref().unwrap_or(&self.host_name)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("argv", &self.argv)
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}

/// A mount target that stays where it says. Errors are for the author of the stack.
pub(crate) fn check_target(target: &str) -> Result<(), String> {
    let path = plain_target(target)?;
    if target == "/" || RESERVED.iter().any(|r| path.starts_with(r)) {
        return Err(format!(
            "nothing can be mounted at `{target}`: the sandbox itself is there"
        ));
    }
    Ok(())
}

fn plain_target(target: &str) -> Result<&Path, String> {
    let path = Path::new(target);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute()
        || !plain
        || target.contains("//")
        || target.contains("/./")
        || target.len() > 1024
        || target.contains('\0')
    {
        return Err(format!(
            "the mount target `{}` is not a plain absolute path",
            target.escape_debug()
        ));
    }
    Ok(path)
}

/// Writes the bundle. The directory must not exist; its parents must let everybody pass.
pub(crate) fn write(bundle: &Path, plan: &Plan) -> io::Result<()> {
    let mut directory = fs::DirBuilder::new();
    directory.mode(0o711).create(bundle)?;
    if plan.image.is_some() {
        image::write_files(bundle, plan)?;
        return write_config(bundle, plan);
    }
    let root = bundle.join("rootfs");
    directory.mode(0o755).recursive(true).create(&root)?;
    for name in EMPTY_DIRECTORIES {
        directory.create(root.join(name))?;
    }
    symlink("../tmp", root.join("var/tmp"))?;
    symlink("../run", root.join("var/run"))?;
    for name in HOST_DIRECTORIES {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(link) => symlink(link, root.join(name))?,
            Err(_) if host.is_dir() => directory.create(root.join(name))?,
            Err(_) => {}
        }
    }
    let own = root.join(etc::OWN_FILES);
    directory.create(&own)?;
    write_names(&own, plan)?;
    make_targets(&root, plan)?;
    write_config(bundle, plan)
}

/// The files that differ from container to container.
fn write_names(own: &Path, plan: &Plan) -> io::Result<()> {
    let mut hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{} {}\n",
        plan.address, plan.host_name
    );
    if plan.own_name() != plan.host_name {
        hosts.push_str(&format!("{} {}\n", plan.address, plan.own_name()));
    }
    for (name, address) in &plan.options.hosts {
        hosts.push_str(&format!("{address} {name}\n"));
    }
    fs::write(own.join("hosts"), hosts)?;
    fs::write(own.join("hostname"), format!("{}\n", plan.own_name()))
}

fn write_config(bundle: &Path, plan: &Plan) -> io::Result<()> {
    write_content(&bundle.join(CONTENT), plan)?;
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(bundle.join("config.json"))?;
    serde_json::to_writer(io::BufWriter::new(file), &config_in(bundle, plan))?;
    Ok(())
}

/// Writes the files that the stack gives. Only the container's root and the machine's may enter the directory.
fn write_content(directory: &Path, plan: &Plan) -> io::Result<()> {
    let outside = |id: u32| Some(plan.range.first + id);
    let files = plan.mounts.iter().filter_map(|(_, entry)| match entry {
        Entry::Content { source, file } => Some((source, file)),
        _ => None,
    });
    for (source, file) in files {
        if !directory.exists() {
            fs::DirBuilder::new().mode(0o700).create(directory)?;
            chown(directory, outside(0), outside(0))?;
        }
        let mut options = fs::OpenOptions::new();
        let mut made = options.write(true).create_new(true).mode(0o600).open(source)?;
        made.write_all(&file.bytes)?;
        fchown(&made, outside(file.uid), outside(file.gid))?;
        made.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// The mapped root can not make mount points in our directory. Those below other mounts it makes itself.
fn make_targets(root: &Path, plan: &Plan) -> io::Result<()> {
    let mut covered: Vec<&Path> = vec![Path::new("/tmp"), Path::new("/run")];
    for (target, entry) in &plan.mounts {
        let path = Path::new(target);
        let inside_other = covered.iter().any(|c| path.starts_with(c) && path != *c);
        if !inside_other && let Ok(relative) = path.strip_prefix("/") {
            let place = root.join(relative);
            if matches!(entry, Entry::Bind { directory: false, .. } | Entry::Content { .. }) {
                fs::create_dir_all(place.parent().unwrap_or(root))?;
                fs::File::create(&place)?;
            } else {
                fs::create_dir_all(&place)?;
            }
        }
        covered.push(path);
    }
    Ok(())
}

/// The whole `config.json` of a container that needs no files of its bundle but its root.
pub(crate) fn config(plan: &Plan) -> Value {
    config_in(Path::new("."), plan)
}

fn config_in(bundle: &Path, plan: &Plan) -> Value {
    let namespaces = ["user", "pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    let command = match plan.init {
        Some(_) => init::behind(&plan.argv),
        None => plan.argv.clone(),
    };
    let mapping = json!([{ "containerID": 0, "hostID": plan.range.first, "size": idmap::WIDTH }]);
    json!({
        "ociVersion": "1.0.2",
        "hostname": plan.own_name(),
        "root": plan.image.as_ref().map_or_else(|| json!({ "path": "rootfs", "readonly": true }), ImageRoot::root),
        "process": process(plan, &command, &[]),
        "mounts": mounts(bundle, plan),
        "linux": {
            "cgroupsPath": plan.cgroup,
            "namespaces": namespaces,
            "uidMappings": mapping,
            "gidMappings": mapping,
            "sysctl": { "net.ipv4.ip_unprivileged_port_start": "0" },
            "resources": resources(plan),
            "seccomp": if plan.builds { seccomp::profile_of_builds() } else { seccomp::profile() },
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// The command that a bundle on disk is for.
pub(crate) fn command(bundle: &Path) -> Option<String> {
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    Some(config["process"]["args"][0].as_str()?.to_owned())
}

/// The `process` part, also of a command that is run in a container later.
pub(crate) fn process(plan: &Plan, argv: &[String], extra: &[(String, String)]) -> Value {
    let mut variables: Vec<String> = Vec::new();
    let all = plan.variables.iter().chain(extra);
    for (key, default) in [("PATH", DEFAULT_PATH), ("HOME", plan.home.as_deref().unwrap_or("/tmp"))] {
        if !all.clone().any(|(name, _)| name == key) {
            variables.push(format!("{key}={default}"));
        }
    }
    variables.extend(all.map(|(name, value)| format!("{name}={value}")));
    let capabilities = match plan.image {
        _ if plan.builds => build::capabilities(),
        Some(_) => image::capabilities(plan.user, &plan.options),
        None => image::no_capabilities(),
    };
    let mut process = json!({
        "terminal": false,
        "user": { "uid": plan.user, "gid": plan.group, "additionalGids": plan.groups },
        "args": argv,
        "env": variables,
        "cwd": plan.working_directory,
        "capabilities": capabilities,
        "noNewPrivileges": true,
    });
    let mut bounds = plan.options.ulimits.clone();
    // Nobody without CAP_SYS_RESOURCE gets a higher bound than the cell host's own.
    let own = getrlimit(Resource::Core).maximum;
    let core = Some(own.map_or(NO_CORE, |own| own.min(NO_CORE)));
    bounds
        .entry("core".to_owned())
        .or_insert(Ulimit { soft: core, hard: core });
    process["rlimits"] = bounds
        .iter()
        .map(|(name, bound)| {
            let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
            json!({ "type": kind, "soft": bound.soft.unwrap_or(u64::MAX), "hard": bound.hard.unwrap_or(u64::MAX) })
        })
        .collect();
    process
}

fn resources(plan: &Plan) -> Value {
    let limits = &plan.limits;
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(bytes) = limits.memory_bytes {
        resources["memory"] = json!({ "limit": bytes });
        if plan.bounds_swap {
            // Of both together, whatever the version of the control groups: nothing of a cell is swapped out.
            resources["memory"]["swap"] = bytes.into();
        }
    }
    if let Some(millis) = limits.cpu_millis {
        resources["cpu"]["quota"] = cgroup::quota(millis).into();
        resources["cpu"]["period"] = 100_000.into();
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}

fn tmpfs(target: &str, mode: &str, size: u64) -> Value {
    let mut options: Vec<String> = ["nosuid", "nodev"].map(str::to_owned).to_vec();
    options.extend(mode.split(',').map(str::to_owned));
    options.push(format!("size={size}"));
    json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(target: &str, source: &Path, directory: bool, read_only: bool) -> Value {
    let mut options = vec!["rbind", "nosuid", "nodev", if read_only { "ro" } else { "rw" }];
    // Each also for what the machine has mounted below. Nothing is below a file, and crun refuses to look.
    if directory {
        options.extend(["rnosuid", "rnodev"]);
        options.extend(read_only.then_some("rro"));
    }
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

fn mounts(bundle: &Path, plan: &Plan) -> Vec<Value> {
    let mut all = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }),
        tmpfs("/dev", "mode=755", 65_536),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        tmpfs("/dev/shm", "mode=1777", plan.options.shm_bytes.unwrap_or(DEFAULT_TMPFS)),
    ];
    all.extend(
        plan.init
            .as_ref()
            .map(|program| bind(init::TARGET, program, false, true)),
    );
    if plan.image.is_some() {
        all.extend(image::mounts(bundle, &plan.etc));
    } else {
        all.extend(host_mounts(&plan.etc));
    }

    for (target, entry) in &plan.mounts {
        all.push(match entry {
            Entry::Bind {
                source,
                directory,
                read_only,
            } => bind(target, source, *directory, *read_only),
            Entry::Content { source, .. } => bind(target, source, false, true),
            Entry::Storage { source } => build::storage(target, source),
            Entry::Tmpfs(memory) => {
                let mut mode = format!("mode={:o}", memory.mode);
                mode.extend(memory.uid.map(|id| format!(",uid={id}")));
                mode.extend(memory.gid.map(|id| format!(",gid={id}")));
                mode.extend(memory.read_only.then_some(",ro"));
                tmpfs(target, &mode, memory.size.unwrap_or(DEFAULT_TMPFS))
            }
        });
    }
    all
}

/// What stands in for a root: parts of the host's, and memory.
fn host_mounts(etc: &Path) -> Vec<Value> {
    let mut all = vec![
        tmpfs("/tmp", "mode=1777", DEFAULT_TMPFS * 4),
        tmpfs("/run", "mode=1777", DEFAULT_TMPFS),
        bind("/etc", etc, true, true),
    ];
    for name in HOST_DIRECTORIES {
        let host = Path::new("/").join(name);
        if host.is_dir() && !host.is_symlink() {
            all.push(bind(&format!("/{name}"), &host, true, true));
            // In a user namespace crun takes none of them along by itself.
            for point in mounted_below(&host) {
                all.push(bind(&point.display().to_string(), &point, point.is_dir(), true));
            }
        }
    }
    all
}

/// What the machine has mounted below a directory, in the order in which that was done, within reason.
fn mounted_below(directory: &Path) -> Vec<PathBuf> {
    // A file of the kernel's; the fifth field is the mount point.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // What has a space or the like in its name is written in another way, and none of the machine's packages.
    let plain = points.filter(|point| !point.contains('\\')).map(PathBuf::from);
    let below = plain.filter(|point| point.starts_with(directory) && point != directory);
    below.take(MOUNTED_MAX).collect()
}

#[cfg(test)]
mod tests;
