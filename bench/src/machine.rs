//! Which machine it was, and how busy it was before anything began.

use serde::{Deserialize, Serialize};
use std::fs;

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// How many of them there are.
    pub(crate) cores: usize,
    /// In MiB.
    pub(crate) memory_mib: u64,
    /// The kernel's version.
    pub(crate) kernel: String,
    /// The distribution.
    pub(crate) system: String,
    /// The load of the last minute.
    pub(crate) load: f64,
    /// Processes of others that used more than a twentieth of a core for a second, as `name percent`.
    pub(crate) busy: Vec<String>,
}

impl Machine {
    /// Looks for a second.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once([':', '=']))
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory
                .split_whitespace()
                .next()
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or_default()
                / 1024,
            // What a distribution or a host adds after the version tells nothing about speed.
            kernel: read("/proc/sys/kernel/osrelease")
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME"),
            load: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            busy: busy(),
        }
    }
}

fn busy() -> Vec<String> {
    let times = || -> Vec<(u32, f64)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.map(|pid| (pid, crate::procfs::cpu_ticks_ms(pid))).collect()
    };
    let before: std::collections::BTreeMap<u32, f64> = times().into_iter().collect();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let used = times().into_iter().filter_map(|(pid, now)| {
        let used = now - before.get(&pid).copied().unwrap_or(now);
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (used > 50.0 && pid != std::process::id()).then(|| format!("{} {:.0} %", name.trim(), used / 10.0))
    });
    used.collect()
}
