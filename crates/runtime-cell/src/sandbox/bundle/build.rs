//! What is different about a container that assembles images: it mounts file systems and changes roots, inside its own user
//! namespace only, and the programs of the Dockerfile get less from it than it has.

use serde_json::{Value, json};
use std::path::Path;

/// `SYS_ADMIN` mounts layers, `SETFCAP` is for packages whose programs have capabilities; the rest is what steps of a Dockerfile expect.
const CAPABILITIES: [&str; 12] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
];

pub(super) fn capabilities() -> Value {
    let none: [&str; 0] = [];
    json!({
        "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES, "inheritable": CAPABILITIES, "ambient": none,
    })
}

/// A bound that a mount brings into a user namespace can not be taken off again, and the builder mounts parts of this one elsewhere
/// without them. No device file of the pool is one in there, and no program gains rights: `noNewPrivileges`.
pub(super) fn storage(target: &str, source: &Path) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", "rw"] })
}
