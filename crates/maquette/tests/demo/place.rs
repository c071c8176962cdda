//! A demo's own state directory and ports. Everything of it is removed at the end, whatever happened.

use crate::{outside::belongings, rig::free_port};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// One at a time: the pool of a demo takes 6 GiB of the disk.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Place {
    pub(crate) root: PathBuf,
    ports: [String; 2],
}

impl Place {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("maquette-demo-test-{}-{number:03}", std::process::id()));
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            root,
            ports: [free_port().to_string(), free_port().to_string()],
        }
    }

    /// What follows the program's name.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.arguments_for(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop"))
    }

    /// The same with another application than the example shop.
    pub(crate) fn arguments_for(&self, shop: &Path) -> Vec<String> {
        let mut all = vec!["demo".to_owned(), "--state".to_owned(), self.root.display().to_string()];
        all.extend(["--shop".to_owned(), shop.display().to_string()]);
        all.extend(["--api-port".to_owned(), self.ports[0].clone()]);
        all.extend(["--port".to_owned(), self.ports[1].clone()]);
        all
    }

    /// What Maquette said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("maquette.log")).unwrap_or_default()
    }

    fn run_dir(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.root.join("maquette-server.yaml")).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("run_dir: "))?;
        Some(line.into())
    }

    fn instance(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("state/store.instance")).ok()?;
        Some(text.trim().to_owned())
    }

    /// What there is of any of its environments.
    pub(crate) fn left(&self) -> Vec<String> {
        belongings(
            &self.instance().unwrap(),
            &self.root.join("cells"),
            &self.run_dir().unwrap(),
        )
    }

    /// Its processes, by number.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let words_of = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let group = self.instance().map(|id| format!("/maquette-{id}/"));
        let root = self.root.display().to_string();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |pid: &i32| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            *pid != std::process::id().cast_signed()
                && (String::from_utf8_lossy(&words_of(*pid)).contains(&root)
                    || group.as_ref().is_some_and(|group| groups.contains(group)))
        };
        pids.filter(ours).collect()
    }
}

impl Place {
    /// Waits until there is nothing of any environment, and no process.
    pub(crate) async fn is_empty(&self) {
        let since = Instant::now();
        loop {
            let (left, processes) = (self.left(), self.processes());
            if left.is_empty() && processes.is_empty() {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "left: {left:#?}, processes {processes:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Maquette said:\n{}", self.log());
        }
        let program = self.root.join("bin/maquette");
        if program.exists() {
            let config = self.root.join("maquette-server.yaml");
            let mut stop = Command::new(program);
            stop.args(["stop".as_ref(), "--config".as_ref(), config.as_os_str()]);
            let _ = stop
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        for _ in 0..200 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(id) = self.instance() {
            let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            for parent in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
                remove_groups(&parent.join(format!("maquette-{id}")));
            }
        }
        let image = self.root.join("cells/pool.img");
        let devices = Command::new("losetup").arg("-j").arg(&image).output();
        for line in devices.iter().flat_map(|found| found.stdout.split(|b| *b == b'\n')) {
            if let Some((device, _)) = String::from_utf8_lossy(line).split_once(':') {
                let _ = Command::new("losetup").args(["-d", device]).status();
            }
        }
        let run = self.run_dir();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours = |point: &&str| {
            let point = Path::new(point);
            point.starts_with(&self.root) || run.as_ref().is_some_and(|run| point.starts_with(run))
        };
        for point in points.filter(ours).collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", point]).status();
        }
        let _ = fs::remove_dir_all(&self.root);
        if let Some(run) = run {
            let _ = fs::remove_dir_all(run);
        }
    }
}
