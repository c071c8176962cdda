//! Starts processes of ours. They outlive the one that starts them, and those of another user get nothing of root's that they do
//! not need.

use super::user::User;
use crate::exit::Failure;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
    set_capabilities_secure_bits,
};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// What a process of another user gets of the environment variables of root, among which may be secrets.
const KEPT: [&str; 4] = ["PATH", "MAQUETTE_LOG", "RUST_BACKTRACE", "TZ"];
const FIRST_FREE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Starts one as the same user.
pub(super) fn spawn(arguments: impl IntoIterator<Item = OsString>) -> Result<Child, Failure> {
    command(arguments).spawn().map_err(|error| failed(&error))
}

/// Starts one as another user; it may listen on this port, also where only root may.
pub(super) fn spawn_as(
    user: &User,
    port: u16,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Child, Failure> {
    let mut command = command(arguments);
    command.uid(user.uid).gid(user.gid).env_clear().envs(kept());
    if is_privileged(port) {
        spawn_for_low_ports(&mut command)
    } else {
        command.spawn()
    }
    .map_err(|error| failed(&error))
}

/// The environment variables of a process of another user.
pub(super) fn kept() -> impl Iterator<Item = (&'static str, OsString)> {
    KEPT.into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
}

fn command(arguments: impl IntoIterator<Item = OsString>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(super::NAME)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(1, format!("a process could not be started: {error}"))
}

fn is_privileged(port: u16) -> bool {
    let first_free = fs::read_to_string(FIRST_FREE).ok();
    let first_free = first_free.and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    (1..first_free).contains(&u32::from(port))
}

/// As `AmbientCapabilities=CAP_NET_BIND_SERVICE` does for a unit: this right, and no other, stays with the process and with those
/// that it starts. Capabilities are a thread's, so nothing changes for the others of this process.
fn spawn_for_low_ports(command: &mut Command) -> io::Result<Child> {
    let start = || -> io::Result<Child> {
        let mut sets = capabilities(None)?;
        sets.inheritable |= CapabilitySet::NET_BIND_SERVICE;
        set_capabilities(None, sets)?;
        // Else the change of the user would take it away before the program begins; beginning it takes away all the others.
        set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        configure_capability_in_ambient_set(CapabilitySet::NET_BIND_SERVICE, true)?;
        command.spawn()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 << 10)
            .spawn_scoped(scope, start)?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread that starts it panicked"))?
    })
}
