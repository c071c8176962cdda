//! Settings of the kernel that a container has for itself: those of its network, its shared memory and its message queues. The
//! host writes them from outside, inside of the container's namespaces: older kernels let nobody else.

use super::process::Process;
use rustix::{
    process::Uid,
    thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_uid},
};
use std::{collections::BTreeMap, fs, io, os::fd::AsFd as _, path::Path};

/// Whether it belongs to a network namespace.
pub(crate) fn is_of_network(name: &str) -> bool {
    name.starts_with("net.")
}

/// Whether it belongs to an IPC namespace.
pub(crate) fn is_of_ipc(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.msg", "kernel.shm", "fs.mqueue."]
            .iter()
            .any(|start| name.starts_with(start))
}

/// Sets them for a container whose root user the machine knows by this number; the names of those that this kernel does not give to a container, or not to this value, are returned.
pub(crate) fn set(process: &Process, root: u32, settings: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let (network, ipc) = (process.namespace("net")?, process.namespace("ipc")?);
    let work = || -> io::Result<Vec<String>> {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(ipc.as_fd(), Some(LinkNameSpaceType::InterProcessCommunication))?;
        let mut refused: Vec<(&String, &String)> = settings.iter().collect();
        refused.retain(|(name, value)| write(name, value).is_err());
        // Newer kernels let the root user of the container write those of its IPC namespace, and no other. This thread is that user
        // from now on; it has no rights any more and ends here.
        if refused.iter().any(|(name, _)| is_of_ipc(name)) {
            let root = Uid::from_raw(root);
            set_thread_res_uid(root, root, root)?;
            refused.retain(|(name, value)| write(name, value).is_err());
        }
        Ok(refused.into_iter().map(|(name, _)| name.clone()).collect())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in a container's namespaces panicked"))?
    })
}

/// The files are those of the namespaces of the thread that opens them.
fn write(name: &str, value: &str) -> io::Result<()> {
    // Nothing else of the machine may be written from here, whoever calls.
    if !is_of_network(name) && !is_of_ipc(name) || name.contains('/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::OpenOptions::new()
        .write(true)
        .open(Path::new("/proc/sys").join(name.replace('.', "/")))
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
}
