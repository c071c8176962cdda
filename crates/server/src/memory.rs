//! The memory of this machine, as the kernel tells it: what is available, and how much is waited for it.

use reconciler::{Memory, MemoryReading};
use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

/// The largest file that is read, in bytes; both are much smaller.
const FILE_MAX: u64 = 16 << 10;

/// Reads the kernel's files each time.
#[derive(Clone, Debug)]
pub struct KernelMemory {
    proc: PathBuf,
}

impl Default for KernelMemory {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl KernelMemory {
    /// Reads below this directory, which is `/proc` but in tests.
    #[must_use]
    pub fn at(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }

    fn file(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        File::open(self.proc.join(name))?
            .take(FILE_MAX)
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Memory for KernelMemory {
    fn read(&self) -> Option<MemoryReading> {
        let text = self.file("meminfo").ok()?;
        let bytes = |name: &str| -> Option<u64> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()?
                .checked_mul(1024)
        };
        Some(MemoryReading {
            total: bytes("MemTotal")?,
            available: bytes("MemAvailable")?,
            stalled_percent: self.file("pressure/memory").ok().and_then(|text| stalled(&text)),
        })
    }
}

/// From `some avg10=0.12 avg60=…`.
fn stalled(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let ten = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    ten.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let memory = KernelMemory::at(directory.path());
        assert_eq!(memory.read(), None);
        let meminfo = "MemTotal:        2048 kB\nMemFree:            1 kB\nMemAvailable:    1024 kB\n";
        fs::write(directory.path().join("meminfo"), meminfo).unwrap();
        let mut reading = MemoryReading {
            total: 2 << 20,
            available: 1 << 20,
            stalled_percent: None,
        };
        assert_eq!(memory.read(), Some(reading));
        fs::create_dir(directory.path().join("pressure")).unwrap();
        let pressure =
            "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=1\n";
        fs::write(directory.path().join("pressure/memory"), pressure).unwrap();
        reading.stalled_percent = Some(12.5);
        assert_eq!(memory.read(), Some(reading));
    }

    #[test]
    fn this_machine_has_memory() {
        let reading = KernelMemory::default().read().expect("a Linux kernel tells");
        assert!(
            reading.total >= reading.available && reading.available > 0,
            "{reading:?}"
        );
    }
}
