//! Leaves nothing behind: processes, control groups, mounts and loop devices of one instance, however its part ended.

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

/// Removes on drop what an instance has made.
#[derive(Debug)]
pub(crate) struct Traces {
    /// The instance, once it is known.
    pub(crate) instance: Option<String>,
    /// Its run directory.
    pub(crate) run: PathBuf,
    /// All its other files.
    pub(crate) directory: tempfile::TempDir,
}

impl Traces {
    /// A directory for a part, passable for everybody, and a place for sockets.
    pub(crate) fn new(part: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::Builder::new().prefix("maquette-bench-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let run = PathBuf::from(format!("/run/maquette-bench-{part}-{}", std::process::id()));
        Ok(Self {
            instance: None,
            run,
            directory,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(instance) = &self.instance {
            let groups = groups(instance);
            for _ in 0..300 {
                let mut left = Vec::new();
                groups.iter().for_each(|group| collect(group, &mut left));
                if left.is_empty() {
                    break;
                }
                for pid in left.into_iter().filter_map(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                sleep(Duration::from_millis(10));
            }
            groups.iter().for_each(|group| remove_groups(group));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = |point: &&str| Path::new(point).starts_with(&self.run) || Path::new(point).starts_with(self.path());
        let mut points: Vec<&str> = points.filter(ours).collect();
        points.reverse();
        for point in points {
            let _ = unmount(point, UnmountFlags::DETACH);
        }
        detach_loops(self.path());
        let _ = fs::remove_dir_all(&self.run);
    }
}

fn groups(instance: &str) -> Vec<PathBuf> {
    let name = format!("maquette-{instance}");
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]).map(|path| path.join(&name));
    all.filter(|path| path.is_dir()).collect()
}

fn children(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn collect(group: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    children(group).for_each(|child| collect(&child, pids));
}

fn remove_groups(group: &Path) {
    children(group).for_each(|child| remove_groups(&child));
    let _ = fs::remove_dir(group);
}

fn detach_loops(directory: &Path) {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    for device in devices {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(file.trim()).starts_with(directory) {
            let path = Path::new("/dev").join(device.file_name());
            let _ = Command::new("losetup").arg("-d").arg(path).status();
        }
    }
}
