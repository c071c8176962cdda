//! What the kernel says of processes and of its own memory.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// Memory of processes, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Everything that is mapped and present.
    pub(crate) rss: u64,
    /// The same with shared pages divided among those who share them.
    pub(crate) pss: u64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.rss += other.rss;
        self.pss += other.pss;
    }
}

/// The memory of a process; zero if it is gone.
pub(crate) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let fields = kib_fields(&text);
    let of = |name: &str| fields.get(name).copied().unwrap_or_default();
    Memory {
        rss: of("Rss"),
        pss: of("Pss"),
    }
}

/// CPU time of all threads of a process in milliseconds; those that have ended are missing.
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e6
}

/// User and system time of a process, those of ended threads too, in milliseconds; the kernel counts it in hundredths of a second.
pub(crate) fn cpu_ticks_ms(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let of = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or_default()
    };
    // The unit of this file is a hundredth of a second on every Linux.
    (of(11) + of(12)) * 10.0
}

/// Memory that the kernel uses for itself, in KiB, by kind.
pub(crate) fn kernel_memory() -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mut fields = kib_fields(&text);
    fields.retain(|name, _| {
        matches!(
            name.as_str(),
            "SReclaimable" | "SUnreclaim" | "KernelStack" | "PageTables" | "Percpu"
        )
    });
    fields
}

/// Processes whose program's name ends so and one of whose arguments contains the text.
pub(crate) fn processes(program: &str, contains: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let matches = |pid: &u32| {
        let line = fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.split('\0').next().is_some_and(|name| name.ends_with(program)) && line.contains(contains)
    };
    pids.filter(matches).collect()
}

fn kib_fields(text: &str) -> BTreeMap<String, u64> {
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.trim().strip_suffix(" kB")?.parse().ok()?))
    };
    text.lines().filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_time() {
        let own = memory(std::process::id());
        assert!(own.rss >= own.pss && own.pss > 0, "{own:?}");
        assert_eq!(memory(u32::MAX), Memory::default());
        assert!(kernel_memory().contains_key("KernelStack"));
    }

    #[test]
    fn fields_without_a_unit_are_left_out() {
        let fields = kib_fields("HugePages_Total:       0\nSlab:   120 kB\nbroken\n");
        assert_eq!(fields, BTreeMap::from([("Slab".to_owned(), 120)]));
    }
}
