//! System calls for which no safe wrapper exists. Apart from the pool's ioctls `unsafe` stands here and below only.
#![allow(unsafe_code)]

pub(crate) mod confined;

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};
use tokio::io::{Interest, unix::AsyncFd};

/// One line of a uid or gid map: `count` ids from `inside` on appear as `outside` and the following.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First id as the namespace sees it.
    pub(crate) inside: u32,
    /// First id as the machine sees it.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) count: u32,
}

/// Opens a socket that sees the packets of one interface, in the network namespace of the calling thread, from their IP header on, as far
/// as a program of classic BPF lets them through. It does not block, and keeps so many bytes until they are read, no more.
pub(crate) fn packet_socket(interface: u32, program: &[(u16, u8, u8, u32)], bytes: libc::c_int) -> io::Result<OwnedFd> {
    // Without a protocol it sees nothing before it is bound, and then only what the program lets through.
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: has no conditions.
    let raw = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made, and that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let filter = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    set_option(&socket, libc::SO_ATTACH_FILTER, &filter)?;
    set_option(&socket, libc::SO_RCVBUF, &bytes)?;
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the address lives for the call, and its size is passed with it.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the value and what it points to live for the call, and its size is passed with it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Maps the ids of a detached mount through a user namespace and forbids devices and set-uid files on it.
pub(crate) fn mount_map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let bounds = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    map_ids(
        tree,
        user_namespace,
        bounds | if read_only { MOUNT_ATTR_RDONLY } else { 0 },
        0,
    )
}

/// As [`mount_map_ids`], and takes off that no programs of other users run and no device files work.
pub(crate) fn mount_map_ids_unbound(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    map_ids(tree, user_namespace, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
}

fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP | set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).unwrap_or(0),
    };
    // SAFETY: the path is a constant C string and `attr` lives for the call; its size is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel says of objects of which it allows no more what it says of a full disk, but room on a disk does not help: `limit` does.
pub(crate) fn not_the_disk(limit: &str) -> impl Fn(io::Error) -> io::Error {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(format!("the kernel allows no more of them: `sysctl {limit}`")),
        _ => error,
    }
}

/// Makes a user namespace with these maps and returns a descriptor of it.
pub(crate) fn user_namespace(users: &[Extent], groups: &[Extent]) -> io::Result<OwnedFd> {
    let child = spawn_in_user_namespace().map_err(not_the_disk("user.max_user_namespaces"))?;
    let made = write_maps(child, users, groups)
        .and_then(|()| fs::File::open(format!("/proc/{child}/ns/user")).map(OwnedFd::from));
    // SAFETY: the child is ours and not yet waited for, so its id can not have been given to another process.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let mut status = 0;
    // SAFETY: as above; `status` lives for the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    made
}

fn write_maps(child: libc::pid_t, users: &[Extent], groups: &[Extent]) -> io::Result<()> {
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        let text: String = map
            .iter()
            .map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count))
            .collect();
        fs::write(format!("/proc/{child}/{file}"), &text)?;
    }
    Ok(())
}

fn spawn_in_user_namespace() -> io::Result<libc::pid_t> {
    // SAFETY: has no conditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: without a stack or shared memory this behaves like fork(2). The child only makes async-signal-safe calls.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: async-signal-safe; the child dies with the thread that made it.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // Who died before that is not told of any more, and this process would hold all that was open for ever: the lock of the
        // pool keeps every host that follows from starting.
        // SAFETY: async-signal-safe.
        if unsafe { libc::getppid() } != parent {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(1) };
        }
        loop {
            // SAFETY: async-signal-safe and without arguments.
            unsafe { libc::pause() };
        }
    }
    if child < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(libc::pid_t::try_from(child).unwrap_or(-1))
    }
}

/// Writes files under `/proc/sys/user` as seen from inside a user namespace: the kernel shows each process those of its own.
pub(crate) fn write_inside_user_namespace(user_namespace: BorrowedFd<'_>, files: &[(&Path, u64)]) -> io::Result<()> {
    let files: Vec<(CString, CString)> = files
        .iter()
        .map(|(path, value)| {
            let path = CString::new(path.as_os_str().as_encoded_bytes())?;
            Ok((path, CString::new(value.to_string())?))
        })
        .collect::<Result<_, std::ffi::NulError>>()?;
    // SAFETY: the child only makes async-signal-safe calls on memory that was prepared before.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: async-signal-safe; the process has one thread, as setns(2) asks of it.
        if unsafe { libc::setns(user_namespace.as_raw_fd(), libc::CLONE_NEWUSER) } != 0 {
            // From here the files would be those of the whole machine.
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(1) };
        }
        let mut failed = false;
        for (path, value) in &files {
            // SAFETY: `path` is a C string that lives until the process ends.
            let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
            let length = value.as_bytes().len();
            // SAFETY: `value` has `length` bytes; a bad descriptor only makes the call fail.
            let written = unsafe { libc::write(fd, value.as_ptr().cast(), length) };
            failed |= usize::try_from(written) != Ok(length);
        }
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(failed)) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: the child is ours; `status` lives for the call.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if waited == child && status == 0 {
        Ok(())
    } else {
        Err(io::Error::other("the limits of a user namespace could not be set"))
    }
}

/// Lets the started process inherit these descriptors under the numbers that they have.
///
/// The caller keeps them open until the process was spawned.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<RawFd>) {
    let clear = move || {
        for fd in &descriptors {
            // SAFETY: async-signal-safe; runs in the child, whose table of descriptors is its own.
            if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `clear` allocates nothing and only makes async-signal-safe calls.
    unsafe { command.pre_exec(clear) };
}

/// Lets the event loop watch a descriptor for becoming readable.
pub(crate) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it stays the same and open for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// A second descriptor for what this number stands for, closed on exec.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for this call only; a number that stands for nothing makes the call fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number.max(0)) };
    borrowed.try_clone_to_owned()
}
