//! A process without rights: started in a user namespace of its own, and confined to a list of system calls.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    os::unix::process::CommandExt as _,
    process::Command,
};

/// Everything but the file system that is left: no network, no other process's names, no mounts that others see.
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the started process be root of that user namespace and nobody outside, with namespaces of its own. It ends with the
/// thread that starts it.
///
/// The caller keeps the descriptor open until the process was spawned.
pub(crate) fn in_user_namespace(command: &mut Command, user_namespace: BorrowedFd<'_>) {
    let namespace = user_namespace.as_raw_fd();
    let enter = move || {
        // The calls themselves: the C library would tell threads that a forked process does not have.
        // SAFETY: async-signal-safe; the process has one thread, as setns(2) asks of it.
        check(unsafe { libc::syscall(libc::SYS_setns, namespace, libc::CLONE_NEWUSER) })?;
        // SAFETY: async-signal-safe; an empty list of groups.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
        // SAFETY: async-signal-safe and without pointers.
        check(unsafe { libc::syscall(libc::SYS_setresgid, 0, 0, 0) })?;
        // SAFETY: async-signal-safe and without pointers.
        check(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) })?;
        // SAFETY: async-signal-safe and without pointers.
        check(unsafe { libc::syscall(libc::SYS_unshare, NAMESPACES) })?;
        // Last: a change of ids takes it back.
        // SAFETY: async-signal-safe and without pointers.
        check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })
    };
    // SAFETY: `enter` allocates nothing and only makes async-signal-safe calls.
    unsafe { command.pre_exec(enter) };
}

/// Makes the current directory the root of this thread's mount namespace, and lets go of the root before.
pub(crate) fn pivot_here() -> io::Result<()> {
    // SAFETY: both paths are constant C strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: a constant C string.
    check(unsafe { libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH) })
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// From here on this thread, and those that it starts, make these system calls and no others: anything else ends the process.
pub(crate) fn allow_only(calls: &[libc::c_long]) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf: 0,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let ret = libc::BPF_RET | libc::BPF_K;
    let skip_next = |k: u32| libc::sock_filter {
        jt: 0,
        jf: 1,
        ..statement(equal, k)
    };
    // `struct seccomp_data`: the number of the call, then the architecture.
    let mut program = vec![
        statement(load, 4),
        libc::sock_filter {
            jt: 1,
            jf: 0,
            ..statement(equal, ARCHITECTURE)
        },
        statement(ret, libc::SECCOMP_RET_KILL_PROCESS),
        statement(load, 0),
    ];
    for call in calls {
        program.push(skip_next(u32::try_from(*call).unwrap_or(u32::MAX)));
        program.push(statement(ret, libc::SECCOMP_RET_ALLOW));
    }
    program.push(statement(ret, libc::SECCOMP_RET_KILL_PROCESS));
    let filter = libc::sock_fprog {
        len: libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: without pointers.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: the program and what describes it live for the call, which copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) })
}
