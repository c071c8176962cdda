//! The walls of a cell: namespaces, mounts, control groups, the OCI runtime. Blocking calls; the host runs them off its loop.

pub(crate) mod bundle;
pub(crate) mod cgroup;
pub(crate) mod conmon;
pub(crate) mod etc;
pub(crate) mod filter;
pub(crate) mod idmap;
pub(crate) mod init;
pub(crate) mod netlink;
pub(crate) mod network;
pub(crate) mod oci;
pub(crate) mod process;
pub(crate) mod refused;
pub(crate) mod seccomp;
pub(crate) mod sysctl;
pub(crate) mod tree;
pub(crate) mod trial;

#[cfg(test)]
mod tests;
