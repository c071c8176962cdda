//! The process that unpacks images. What it reads is hostile; it is root of a user namespace that owns nothing but the target, has no
//! network, sees no file system besides, and makes no system calls but those that this takes.
//!
//! The cell host starts it, gives it open files, and takes from it how far it is and how it ended, in lines of JSON.

use crate::sys::{self, confined};
use images::{
    BlobDigest,
    layer::{self, Bounds},
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Resource, Rlimit, setrlimit},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd, RawFd},
};

/// The longest order, in bytes.
const ORDER_MAX: u64 = 256 << 10;
/// Address space: windows of zstd are the largest part of it.
const MEMORY: u64 = 3 << 30;
const OPEN_FILES: u64 = 4096;
/// Seconds of CPU.
const TIME: u64 = 3600;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The empty directory.
    pub(crate) target: RawFd,
    /// Where lines go.
    pub(crate) answers: RawFd,
    /// The lowest first.
    pub(crate) layers: Vec<OrderedLayer>,
    /// Files, directories and links at most.
    pub(crate) entries: u64,
    /// Bytes at most, as they are uncompressed.
    pub(crate) bytes: u64,
}

/// One layer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderedLayer {
    /// Its archive.
    pub(crate) file: RawFd,
    /// What it is when it is uncompressed.
    pub(crate) diff: BlobDigest,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// So many layers are done.
    Layers(usize),
    /// The layers can not be an image.
    Refused(String),
    /// Something else went wrong; the kind of error where it matters.
    Failed {
        /// In words.
        reason: String,
        /// Whether there was no room.
        full: bool,
    },
    /// All of it is there.
    Done,
}

/// The whole life of that process: to be called first thing by whatever program the cell host starts for it.
///
/// # Errors
/// When it was not started by a cell host, or could not be confined. What is wrong with an image is told to the cell host.
pub fn main() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().lock().take(ORDER_MAX).read_to_end(&mut text)?;
    let order: Order = serde_json::from_slice(&text)?;
    let mut answers = File::from(taken(order.answers)?);
    let target = taken(order.target)?;
    let layers = order.layers.iter().map(|l| Ok((File::from(taken(l.file)?), l.diff)));
    let layers = layers.collect::<io::Result<Vec<_>>>()?;
    confine()?;
    let mut bounds = Bounds {
        entries: order.entries,
        bytes: order.bytes,
    };
    for (number, (file, diff)) in layers.into_iter().enumerate() {
        if let Err(error) = layer::apply(file, &diff, target.as_fd(), &mut bounds) {
            return say(&mut answers, &told(number + 1, &error));
        }
        say(&mut answers, &Line::Layers(number + 1))?;
    }
    say(&mut answers, &Line::Done)
}

fn told(number: usize, error: &layer::LayerError) -> Line {
    let mut reason = format!("layer {number}: {error}");
    let layer::LayerError::Io { source, .. } = error else {
        return Line::Refused(reason);
    };
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    reason.push_str(&format!(": {source}"));
    Line::Failed { reason, full }
}

fn say(answers: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    answers.write_all(&text)
}

/// A descriptor that the cell host has let this process inherit.
fn taken(number: RawFd) -> io::Result<OwnedFd> {
    // A second one for the same file: who owns the number can not be known here.
    sys::duplicate(number)
}

fn confine() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("none", "/tmp", "tmpfs", flags, Some(c"size=4k,nr_inodes=2"))?;
    std::env::set_current_dir("/tmp")?;
    confined::pivot_here()?;
    let bounds = [
        (Resource::As, MEMORY),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Cpu, TIME),
        (Resource::Core, 0),
    ];
    for (resource, most) in bounds {
        // What the machine's own bound does not allow is bounded already.
        let most = rustix::process::getrlimit(resource)
            .maximum
            .map_or(most, |m| m.min(most));
        let bound = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, bound)?;
    }
    confined::allow_only(&CALLS)
}

/// What reading archives, writing files, memory and two threads take.
const CALLS: [libc::c_long; 61] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_utimensat,
    libc::SYS_getdents64,
    libc::SYS_copy_file_range,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_tgkill,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_membarrier,
];
