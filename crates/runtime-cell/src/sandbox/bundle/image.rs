//! What is different about a container whose root is an image: nothing of the host is in it but the names of the environment, and its
//! root user has what the entrypoints of official images need, inside its own user namespace only.

use super::{Plan, bind, plain_target, write_names};
use model::Options;
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A part of what OCI runtimes give by default. Left out is what has no effect in a user namespace (device nodes, the audit log, file
/// capabilities) and raw sockets, which could speak in the name of other services.
const CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// Mount targets below these would hide what the sandbox is made of.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];
/// The container's own files, below its bundle.
const FILES: &str = "files";

/// A root that is not made from the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRoot {
    /// Where it is mounted when the container is made.
    pub(crate) path: PathBuf,
    /// Whether the container may only read it.
    pub(crate) read_only: bool,
}

impl ImageRoot {
    pub(super) fn root(&self) -> Value {
        json!({ "path": self.path, "readonly": self.read_only })
    }
}

/// A mount target that stays where it says, in a root that holds nothing of the host. Errors are for the author of the stack.
pub(crate) fn check_target_in_image(target: &str) -> Result<(), String> {
    let path = plain_target(target)?;
    // Shared memory is a directory of its own that programs ask for.
    let shared = path.starts_with("/dev/shm");
    if target == "/" || (!shared && RESERVED.iter().any(|r| path.starts_with(r))) {
        return Err(format!(
            "nothing can be mounted at `{target}`: the sandbox itself is there"
        ));
    }
    Ok(())
}

pub(super) fn write_files(bundle: &Path, plan: &Plan) -> io::Result<()> {
    let own = bundle.join(FILES);
    fs::create_dir(&own)?;
    write_names(&own, plan)
}

pub(super) fn mounts(bundle: &Path, etc: &Path) -> Vec<Value> {
    let own = bundle.join(FILES);
    vec![
        bind("/etc/hosts", &own.join("hosts"), false, true),
        bind("/etc/hostname", &own.join("hostname"), false, true),
        bind("/etc/resolv.conf", &etc.join("resolv.conf"), false, true),
    ]
}

/// Those of a process. Whoever is not root keeps none, and can not get any back.
pub(super) fn capabilities(user: u32, options: &Options) -> Value {
    let none: [&str; 0] = [];
    let names = |list: &[String], name: &str| {
        let plain = name.trim_start_matches("CAP_");
        list.iter().any(|listed| listed == plain || listed == "ALL")
    };
    let kept = |name: &&str| names(&options.add_capabilities, name) || !names(&options.drop_capabilities, name);
    let all: Vec<&str> = CAPABILITIES.into_iter().filter(kept).collect();
    let held: &[&str] = if user == 0 { &all } else { &none };
    json!({
        "bounding": all, "effective": held, "permitted": held, "inheritable": none, "ambient": none,
    })
}

pub(super) fn no_capabilities() -> Value {
    let none: [&str; 0] = [];
    json!({ "bounding": none, "effective": none, "permitted": none, "inheritable": none, "ambient": none })
}
