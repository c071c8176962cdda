//! Control groups of both versions: limits, freezing, and the list of processes that belongs to each container.
//!
//! The tree is `<parent>/<environment>/<container>`, for builds `<parent>/builds/<environment>/<container>`; the host process and the
//! monitors live in `<parent>/host`.

pub(crate) mod builds;
mod share;

use model::Limits;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
const HOST: &str = "host";
/// Stands where an environment would, for the trial of an OCI runtime.
pub(crate) const TRIAL: &str = "trial";
const PERIOD_MICROS: u64 = 100_000;
/// Who was killed ends when the disk has answered that it waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The hierarchies of version 1 that Maquette itself writes to; the OCI runtime makes its groups in the others too.
const OWN_V1: [&str; 4] = ["memory", "cpu", "pids", "freezer"];

/// Kernels may be built or booted without the accounting of swap. Where it is, memory that is swapped out counts too.
const SWAP_FILES: [&str; 2] = ["memory.memsw.limit_in_bytes", "memory.swap.max"];

/// The part of the machine's control groups that belongs to one instance.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    unified: bool,
    hierarchies: Vec<(String, PathBuf)>,
    parent: String,
}

impl Cgroups {
    /// Finds the hierarchies and makes the instance's own group. `parent` is a path without leading slash.
    pub(crate) fn open(parent: &str) -> io::Result<Self> {
        let unified = rustix::fs::statfs(ROOT)?.f_type == CGROUP2_MAGIC;
        let hierarchies = if unified {
            vec![(String::new(), PathBuf::from(ROOT))]
        } else {
            hierarchies_v1()?
        };
        let groups = Self {
            unified,
            hierarchies,
            parent: parent.to_owned(),
        };
        if unified {
            let mut path = PathBuf::from(ROOT);
            delegate(&path)?;
            for part in parent.split('/') {
                path.push(part);
                fs::create_dir_all(&path)?;
                delegate(&path)?;
            }
        }
        Ok(groups)
    }

    /// Moves the calling process, and with it all monitors that it will start, into a group that no service manager empties.
    pub(crate) fn adopt_self(&self) -> io::Result<()> {
        for (name, root) in &self.hierarchies {
            if matches!(name.as_str(), "cpuset" | "devices") {
                continue;
            }
            let path = root.join(&self.parent).join(HOST);
            fs::create_dir_all(&path)?;
            fs::write(path.join("cgroup.procs"), std::process::id().to_string())?;
        }
        Ok(())
    }

    /// Says that a process will be moved between groups in a few milliseconds, which is when the OCI runtime does it.
    ///
    /// The kernel lets the first such move wait until every processor has been elsewhere once, and those that follow soon after
    /// not. This is a move that changes nothing: it waits while the runtime is still being started.
    pub(crate) fn expect_move(&self) {
        let Some(path) = self.group("freezer", HOST) else {
            return;
        };
        let file = path.join("cgroup.procs");
        let moved = thread::Builder::new().stack_size(64 << 10).spawn(move || {
            // Nothing depends on it but time.
            let _ = fs::write(file, std::process::id().to_string());
        });
        drop(moved);
    }

    /// The path of a group as the OCI runtime wants it.
    pub(crate) fn oci_path(&self, environment: &str, container: &str) -> String {
        format!("/{}/{environment}/{container}", self.parent)
    }

    /// Makes the group of an environment and sets its limits.
    pub(crate) fn ensure(&self, environment: &str, limits: &Limits) -> io::Result<()> {
        for (name, root) in self.own() {
            let path = root.join(&self.parent).join(environment);
            fs::create_dir_all(&path)?;
            self.limit(name, &path, limits)?;
            let builds = self.of_builds(root, environment);
            if builds.is_dir() {
                self.limit(name, &builds, limits)?;
            }
        }
        Ok(())
    }

    /// Sets the limits of an environment's group in one hierarchy.
    fn limit(&self, hierarchy: &str, path: &Path, limits: &Limits) -> io::Result<()> {
        if self.unified {
            delegate(path)?;
        }
        for (controller, file, value) in settings(self.unified, limits) {
            if (self.unified || controller == hierarchy) && (!SWAP_FILES.contains(&file) || path.join(file).exists()) {
                fs::write(path.join(file), value)?;
            }
        }
        Ok(())
    }

    /// Whether the kernel can keep an environment from swapping.
    pub(crate) fn bounds_swap(&self) -> bool {
        // The root of version 2 has no limits, so its files are not there.
        let below = if self.unified { self.parent.as_str() } else { "" };
        let mut roots = self
            .hierarchies
            .iter()
            .filter(|(name, _)| self.unified || name == "memory");
        roots.any(|(_, root)| SWAP_FILES.iter().any(|file| root.join(below).join(file).exists()))
    }

    /// Stops giving CPU to an environment and returns when every process has stopped.
    pub(crate) fn freeze(&self, environment: &str) -> io::Result<()> {
        self.set_frozen(environment, true)
    }

    /// Gives an environment CPU again; nothing happens if it is not frozen.
    pub(crate) fn thaw(&self, environment: &str) -> io::Result<()> {
        self.set_frozen(environment, false)
    }

    fn set_frozen(&self, environment: &str, frozen: bool) -> io::Result<()> {
        for path in self.both("freezer", environment) {
            if path.exists() {
                self.set_frozen_at(&path, frozen)?;
            }
        }
        Ok(())
    }

    fn set_frozen_at(&self, path: &Path, frozen: bool) -> io::Result<()> {
        let (file, value, state, wanted) = match (self.unified, frozen) {
            (true, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (true, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
            (false, true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            fs::write(path.join(file), value)?;
            if fs::read_to_string(path.join(state))?.lines().any(|l| l == wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the control group does not reach the wanted state"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// All processes in an environment, or in one container of it.
    pub(crate) fn processes(&self, environment: &str, container: Option<&str>) -> io::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for mut path in self.both("freezer", environment) {
            path.extend(container);
            collect_processes(&path, &mut found)?;
        }
        Ok(found)
    }

    /// Kills every process of an environment, or of one container of it, and returns when none is left.
    pub(crate) fn kill(&self, environment: &str, container: Option<&str>) -> io::Result<()> {
        self.thaw(environment)?;
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(500);
        loop {
            let processes = self.processes(environment, container)?;
            if processes.is_empty() {
                return Ok(());
            }
            if !self.kill_at_once(environment, container)? {
                for pid in processes {
                    self.kill_one(pid, environment);
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("processes survive being killed"));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        }
    }

    /// Has the kernel kill a group and all below it, those included that are being forked. Tells whether it can.
    fn kill_at_once(&self, environment: &str, container: Option<&str>) -> io::Result<bool> {
        if !self.unified {
            return Ok(false);
        }
        for mut path in self.both("freezer", environment) {
            path.extend(container);
            // Made by nobody but the kernel: where it is not, the kernel is too old or the group is gone.
            match fs::OpenOptions::new().write(true).open(path.join("cgroup.kill")) {
                Ok(mut file) => match io::Write::write_all(&mut file, b"1") {
                    Err(e) if !gone(&e) => return Err(e),
                    _ => {}
                },
                Err(e) if gone(&e) && path.is_dir() => return Ok(false),
                Err(e) if gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// A number may have been given to another process since it was read: look again once the process is held.
    fn kill_one(&self, pid: u32, environment: &str) {
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        let Ok(held) = pidfd_open(id, PidfdFlags::empty()) else {
            return;
        };
        let belongs =
            fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| self.is_within(&groups, environment));
        if belongs {
            // It may have ended in the meantime, which is what is wanted.
            let _ = pidfd_send_signal(held, Signal::KILL);
        }
    }

    /// Removes the groups of an environment, or of one container of it, and returns when they are gone.
    pub(crate) fn remove(&self, environment: &str, container: Option<&str>) -> io::Result<()> {
        for (_, root) in &self.hierarchies {
            for mut path in [
                root.join(&self.parent).join(environment),
                self.of_builds(root, environment),
            ] {
                path.extend(container);
                remove_tree(&path, Instant::now() + PATIENCE)?;
            }
            if container.is_none() {
                self.leave_builds(root);
            }
        }
        Ok(())
    }

    /// The environments that have a group anywhere.
    pub(crate) fn environments(&self) -> io::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for (_, root) in &self.hierarchies {
            let all = children(&root.join(&self.parent))?.into_iter();
            found.extend(all.filter(|name| ![HOST, TRIAL, builds::BUILDS].contains(&name.as_str())));
            found.extend(children(&root.join(&self.parent).join(builds::BUILDS))?);
        }
        Ok(found)
    }

    /// The groups of an environment, relative to the instance's own, without naming each hierarchy.
    pub(crate) fn groups(&self, environment: &str) -> io::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for (_, root) in &self.hierarchies {
            let path = root.join(&self.parent).join(environment);
            if path.exists() {
                found.insert(environment.to_owned());
            }
            found.extend(children(&path)?.into_iter().map(|name| format!("{environment}/{name}")));
            let path = self.of_builds(root, environment);
            if path.exists() {
                found.insert(builds::group(environment));
            }
            let units = children(&path)?.into_iter();
            found.extend(units.map(|name| builds::group_of(environment, &name)));
        }
        Ok(found)
    }

    /// The processes of the instance's own group: the host and the monitors.
    pub(crate) fn host_processes(&self) -> io::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        if let Some(path) = self.group("freezer", HOST) {
            collect_processes(&path, &mut found)?;
        }
        Ok(found)
    }

    /// How often the kernel killed a process of this container because its memory was used up.
    pub(crate) fn memory_kills(&self, environment: &str, container: &str) -> u64 {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let texts = self
            .both("memory", environment)
            .into_iter()
            .filter_map(|path| fs::read_to_string(path.join(container).join(file)).ok());
        let kills = |text: String| -> Option<u64> {
            text.lines()
                .find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        texts.filter_map(kills).sum()
    }

    /// What a file of a container's group says, if there is such a file.
    pub(crate) fn setting(&self, hierarchy: &str, environment: &str, container: &str, file: &str) -> Option<String> {
        let path = self.group(hierarchy, environment)?.join(container).join(file);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// Removes the instance's own group, with all that is in it.
    pub(crate) fn dismantle(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut roots = self.hierarchies.iter().map(|(_, root)| root.join(&self.parent));
        roots.try_for_each(|path| remove_tree(&path, deadline))
    }

    fn group(&self, hierarchy: &str, environment: &str) -> Option<PathBuf> {
        let (_, root) = self
            .hierarchies
            .iter()
            .find(|(name, _)| self.unified || name == hierarchy)?;
        Some(root.join(&self.parent).join(environment))
    }

    fn own(&self) -> impl Iterator<Item = (&str, &Path)> {
        let wanted = |name: &str| self.unified || OWN_V1.contains(&name);
        self.hierarchies
            .iter()
            .filter(move |(name, _)| wanted(name))
            .map(|(name, root)| (name.as_str(), root.as_path()))
    }
}

/// On hybrid hosts `cpu` may be a link to `cpu,cpuacct`: links are followed for the controllers, and listed once.
fn hierarchies_v1() -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let directory = entry.file_name().to_string_lossy().into_owned();
            let names: Vec<&str> = directory.split(',').collect();
            let name = OWN_V1
                .iter()
                .find(|own| names.contains(own))
                .map_or(directory.as_str(), |own| own);
            found.push((name.to_owned(), entry.path()));
        }
    }
    for needed in OWN_V1 {
        if !found.iter().any(|(name, _)| name == needed) {
            return Err(io::Error::other(format!(
                "the control group hierarchy `{needed}` is not mounted"
            )));
        }
    }
    Ok(found)
}

/// Lets the groups below have limits of their own. Controllers that the machine lacks are left out.
fn delegate(path: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(path.join("cgroup.controllers"))?;
    for controller in ["memory", "cpu", "pids"] {
        if offered.split_whitespace().any(|c| c == controller) {
            fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
    }
    Ok(())
}

/// Controller, file and value of each limit.
fn settings(unified: bool, limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    let number = |value: Option<u64>, none: &str| value.map_or_else(|| none.to_owned(), |v| v.to_string());
    if unified {
        all.push(("memory", "memory.max", number(limits.memory_bytes, "max")));
        let swap = if limits.memory_bytes.is_some() { "0" } else { "max" };
        all.push(("memory", "memory.swap.max", swap.to_owned()));
        let quota = number(limits.cpu_millis.map(quota), "max");
        all.push(("cpu", "cpu.max", format!("{quota} {PERIOD_MICROS}")));
        all.push(("pids", "pids.max", number(limits.pids, "max")));
    } else {
        // The sum of both may never be the smaller one, not even on the way.
        all.push(("memory", "memory.memsw.limit_in_bytes", "-1".to_owned()));
        all.push(("memory", "memory.limit_in_bytes", number(limits.memory_bytes, "-1")));
        all.push((
            "memory",
            "memory.memsw.limit_in_bytes",
            number(limits.memory_bytes, "-1"),
        ));
        all.push(("cpu", "cpu.cfs_period_us", PERIOD_MICROS.to_string()));
        all.push(("cpu", "cpu.cfs_quota_us", number(limits.cpu_millis.map(quota), "-1")));
        all.push(("pids", "pids.max", number(limits.pids, "max")));
    }
    all
}

/// CPU time per period; the kernel refuses less than a millisecond.
pub(crate) fn quota(cpu_millis: u64) -> u64 {
    (cpu_millis.saturating_mul(PERIOD_MICROS) / 1000).max(1000)
}

fn collect_processes(path: &Path, found: &mut BTreeSet<u32>) -> io::Result<()> {
    match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok())),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    for child in children(path)? {
        collect_processes(&path.join(child), found)?;
    }
    Ok(())
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn children(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The kernel lets go of a group a moment after its last process has ended.
fn remove_tree(path: &Path, deadline: Instant) -> io::Result<()> {
    for child in children(path)? {
        remove_tree(&path.join(child), deadline)?;
    }
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if gone(&e) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
    }
}
