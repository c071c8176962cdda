//! What an environment takes from the others: its share of the CPU when there is not enough for all, and its memory.

use super::Cgroups;
use std::{fs, io, path::Path};

impl Cgroups {
    /// Gives an environment the usual share of the CPU, or the least that there is: then it gets what nobody else wants.
    pub(crate) fn set_share(&self, environment: &str, least: bool) -> io::Result<()> {
        let Some(path) = self.group("cpu", environment) else {
            return Ok(());
        };
        let (file, value) = match (self.unified, least) {
            (true, false) => ("cpu.weight", "100"),
            (true, true) => ("cpu.weight", "1"),
            (false, false) => ("cpu.shares", "1024"),
            (false, true) => ("cpu.shares", "2"),
        };
        match fs::write(path.join(file), value) {
            // A kernel without shares of the CPU has everybody share alike.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    /// Bytes of memory that an environment keeps from others: what its processes hold, without what is also on disk. `None` if the
    /// kernel does not count.
    pub(crate) fn memory(&self, environment: &str) -> Option<u64> {
        let paths = self.both("memory", environment).into_iter();
        let counted = paths.filter_map(|path| self.memory_at(&path));
        counted.reduce(|sum, bytes| sum + bytes)
    }

    fn memory_at(&self, path: &Path) -> Option<u64> {
        let text = fs::read_to_string(path.join("memory.stat")).ok()?;
        let names = if self.unified {
            ["anon", "shmem"]
        } else {
            ["total_rss", "total_shmem"]
        };
        let value = |name: &str| -> Option<u64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        };
        // Older kernels do not say what is shared.
        Some(value(names[0])? + value(names[1]).unwrap_or(0))
    }
}
