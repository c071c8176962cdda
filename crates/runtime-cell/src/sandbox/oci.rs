//! The OCI runtime: the program that makes containers, and how it is asked on this machine.
//!
//! Both make the same containers from the same bundle. `crun` takes less than half of the time, but has two traps. It gives the
//! container's root whatever is its standard input, and that would be the machine's own `/dev/null`: it gets a pipe instead. And
//! it refuses machines on which both versions of the control groups have controllers: there it is started in a mount namespace
//! without the second one.
//!
//! Before it does anything, crun sees to it that no container can write to its program: it makes a place from which it starts once
//! more. It is started from a sealed copy in memory instead, to which nobody can write, and stays what it is.

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with},
};
use std::{
    fmt, fs,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    sync::OnceLock,
};

/// Where distributions put programs like these.
const DIRECTORIES: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];
/// The second version of the control groups beside the first.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// The programs that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OciKind {
    /// In C: less than half of the time.
    Crun,
    /// In Go: the reference.
    Runc,
}

impl OciKind {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Crun, Self::Runc];

    /// The name of the program, which is that of its Debian package too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }
}

impl fmt::Display for OciKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OciKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("`{}` is neither `crun` nor `runc`", text.escape_debug()))
    }
}

/// One of them on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Oci {
    /// Which.
    pub(crate) kind: OciKind,
    /// The installed one, or a copy of it.
    program: PathBuf,
    /// Enters the mount namespace that crun needs, where it needs one.
    enter: Option<PathBuf>,
}

/// How containers are made with it, for as long as one is being made.
pub(crate) struct Maker {
    /// The program to start.
    pub(crate) program: PathBuf,
    /// Its arguments before those of the runtime's command.
    pub(crate) arguments: Vec<String>,
    /// The arguments name it.
    _view: Option<OwnedFd>,
}

/// A program of the machine.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES
        .into_iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

impl Oci {
    /// The one of that name, if the machine has it.
    pub(crate) fn find(kind: OciKind) -> Option<Self> {
        let installed = find(kind.name())?;
        let program = match kind {
            OciKind::Crun => sealed_crun(&installed).unwrap_or(installed),
            OciKind::Runc => installed,
        };
        let enter = match kind {
            OciKind::Crun if both_versions() => Some(find("nsenter")?),
            _ => None,
        };
        Some(Self { kind, program, enter })
    }

    fn arguments(&self, root: &Path) -> Vec<String> {
        let mut all = vec![format!("--root={}", root.display())];
        if self.kind == OciKind::Crun {
            // Never by way of a service manager, whatever its default is.
            all.push("--cgroup-manager=cgroupfs".to_owned());
        }
        all
    }

    /// The runtime with its state in a directory and nothing of our environment.
    pub(crate) fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments(root))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// What a monitor has to start. To be asked for once everything is mounted that the container will see.
    pub(crate) fn maker(&self, root: &Path) -> io::Result<Maker> {
        let Some(enter) = &self.enter else {
            return Ok(Maker {
                program: self.program.clone(),
                arguments: self.arguments(root),
                _view: None,
            });
        };
        let view = without_unified()?;
        let mut arguments = vec![
            format!("--mount=/proc/{}/fd/{}", std::process::id(), view.as_raw_fd()),
            self.program.display().to_string(),
        ];
        arguments.extend(self.arguments(root));
        Ok(Maker {
            program: enter.clone(),
            arguments,
            _view: Some(view),
        })
    }

    /// Whether the monitor has to keep a pipe as standard input of the container, to be closed with [`close_input`].
    pub(crate) fn wants_input(&self) -> bool {
        self.kind == OciKind::Crun
    }

    /// Lets the first process of a created container go on, without starting another program for it. It waits at the fifo:
    /// that of runc wants to write, that of crun to read.
    pub(crate) fn release(&self, fifo: &Path, patience: std::time::Duration) -> io::Result<()> {
        match self.kind {
            OciKind::Runc => super::conmon::read_fifo(fifo, patience),
            OciKind::Crun => write_fifo(fifo),
        }
    }
}

/// A copy of crun that this process keeps for as long as it lives, by a name that other processes can use too. `None` where the
/// kernel does not want programs in memory.
fn sealed_crun(installed: &Path) -> Option<PathBuf> {
    static COPY: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let copy = COPY.get_or_init(|| {
        sealed_copy(installed)
            .inspect_err(|error| tracing::warn!(%error, "crun is started from where it is installed"))
            .ok()
    });
    let copy = copy.as_ref()?;
    Some(PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        copy.as_raw_fd()
    )))
}

fn sealed_copy(program: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Older kernels do not know the flag, and allow it without.
    let memory = memfd_create(c"crun", flags | MemfdFlags::EXEC).or_else(|_| memfd_create(c"crun", flags))?;
    let mut copy = fs::File::from(memory);
    io::copy(&mut fs::File::open(program)?, &mut copy)?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, all)?;
    // A descriptor that was opened for reading only, as the kernel runs nothing that somebody has open for writing.
    let read_only = fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(OwnedFd::from(read_only))
}

fn write_fifo(path: &Path) -> io::Result<()> {
    // Without waiting: if the process has died meanwhile, nobody reads.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut fifo = fs::File::from(open(path, flags, Mode::empty())?);
    // Its absence marks the container as running.
    fs::remove_file(path)?;
    fifo.write_all(&[0])
}

/// Whether this machine has both versions of the control groups, each with controllers.
fn both_versions() -> bool {
    fs::read_to_string(Path::new(UNIFIED).join("cgroup.controllers")).is_ok_and(|text| !text.trim().is_empty())
}

/// A copy of our mount namespace, without the second version of the control groups. It goes with its last process.
fn without_unified() -> io::Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|error| crate::sys::not_the_disk("user.max_mnt_namespaces")(error.into()))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        unmount(UNIFIED, UnmountFlags::DETACH)?;
        Ok(OwnedFd::from(fs::File::open("/proc/thread-self/ns/mnt")?))
    };
    // A namespace of a thread: that of the process stays.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, make)?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in a mount namespace panicked"))?
    })
}

/// Ends the standard input of a container, so that reading from it is like reading from `/dev/null`. The monitor holds the other
/// end of the pipe and lets go of it when whoever is attached has nothing more to say.
pub(crate) fn close_input(bundle: &Path) -> io::Result<()> {
    let directory = open(
        bundle,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // The names of sockets are short; those of bundles need not be.
    let place = format!("/proc/self/fd/{}/attach", directory.as_raw_fd());
    let attached = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&attached, &SocketAddrUnix::new(place.as_str())?)?;
    shutdown(&attached, Shutdown::Write)?;
    Ok(())
}
