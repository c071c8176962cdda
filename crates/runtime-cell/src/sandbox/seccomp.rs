//! The system calls that a container may make.
//!
//! Deny by default: what nobody listed does not exist (`ENOSYS`, so that programs fall back to older calls); what is dangerous
//! is not permitted (`EPERM`), so that the error is the one that programs expect.

use serde_json::{Value, json};

/// Allowed names, one per line, `#` begins a comment.
const ALLOWED: &str = include_str!("seccomp-allow.txt");
/// Names that exist and are refused.
const REFUSED: &str = include_str!("seccomp-refuse.txt");
const ENOSYS: i32 = libc::ENOSYS;
const EPERM: i32 = libc::EPERM;
/// All `CLONE_NEW…` flags: no container makes namespaces of its own.
const NEW_NAMESPACES: u64 = 0x7E02_0080;
/// Those that a build makes none of either: all but `CLONE_NEWNS` and `CLONE_NEWUTS`.
const NOT_FOR_BUILDS: u64 = NEW_NAMESPACES & !0x0402_0000;

fn names(list: &str) -> Vec<&str> {
    list.lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
        .filter(|l| !l.is_empty())
        .collect()
}

/// The `linux.seccomp` part of a container's configuration.
pub(crate) fn profile() -> Value {
    let mut profile = fixed();
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        rules.extend(device_calls());
    }
    profile
}

/// The `linux.seccomp` part of a container that assembles images: it mounts the old way and has mount namespaces of its own.
pub(crate) fn profile_of_builds() -> Value {
    const CALLS: [&str; 5] = ["chroot", "mount", "pivot_root", "sethostname", "umount2"];
    let mut profile = profile();
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        for rule in rules.iter_mut() {
            let refuses = rule["action"] == "SCMP_ACT_ERRNO";
            if let Some(names) = rule["names"].as_array_mut().filter(|_| refuses) {
                names.retain(|name| {
                    name.as_str()
                        .is_none_or(|name| name != "unshare" && !CALLS.contains(&name))
                });
            }
            if rule["names"] == json!(["clone"]) {
                rule["args"][0]["value"] = NOT_FOR_BUILDS.into();
            }
        }
        rules.push(json!({ "names": CALLS, "action": "SCMP_ACT_ALLOW" }));
        rules.push(json!({ "names": ["unshare"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": NOT_FOR_BUILDS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] }));
    }
    profile
}

/// `ioctl` with everything but the requests of btrfs: whoever owns a directory may make subvolumes in it, which have limits
/// of their own. What is left of these are the clones of files, that all file systems have.
fn device_calls() -> Vec<Value> {
    const KIND: u64 = 0xff00;
    const BTRFS: u64 = 0x9400;
    // FICLONE, FICLONERANGE, FIDEDUPERANGE; the kernel looks at the lower half only.
    const CLONES: [u64; 3] = [0x4004_9409, 0x4020_940d, 0xc018_9436];
    let rule = |mask: u64, value: u64| {
        json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" }] })
    };
    // There is no "not equal under a mask": a kind differs if at least one of its bits does.
    let bits = (0..64).map(|bit| 1 << bit).filter(|bit| KIND & bit != 0);
    let others = bits.map(|bit| rule(bit, !BTRFS & bit));
    others.chain(CLONES.map(|clone| rule(0xffff_ffff, clone))).collect()
}

fn fixed() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        // The native architecture alone: the 32-bit tables would double the filter and its holes.
        "architectures": [if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }],
        "syscalls": [
            { "names": names(ALLOWED), "action": "SCMP_ACT_ALLOW" },
            { "names": names(REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            // Only the two personalities that programs ask for, and the question itself.
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0xFFFF_FFFF_u32, "op": "SCMP_CMP_EQ" }] },
            // Local, internet and routing-netlink sockets (to list interfaces); no packet, vsock or crypto sockets.
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": libc::AF_UNIX, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": libc::AF_INET, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": libc::AF_INET6, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": libc::AF_NETLINK, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": libc::NETLINK_ROUTE, "op": "SCMP_CMP_EQ" }] }
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_gets_what_mounting_takes_and_nothing_else() {
        let rules = profile_of_builds()["syscalls"].as_array().unwrap().clone();
        let of = |rule: &Value| -> Vec<String> { serde_json::from_value(rule["names"].clone()).unwrap() };
        let freely = |call: &str| {
            let names = |rule: &&Value| rule["args"].is_null() && of(rule).iter().any(|name| name == call);
            rules
                .iter()
                .find(names)
                .is_some_and(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        };
        assert!(freely("mount") && freely("pivot_root"));
        for dangerous in [
            "bpf",
            "ptrace",
            "keyctl",
            "setns",
            "fsopen",
            "open_tree",
            "unshare",
            "clone",
            "userfaultfd",
        ] {
            assert!(!freely(dangerous), "{dangerous}");
        }
        for call in ["clone", "unshare"] {
            let rule = rules.iter().find(|rule| of(rule) == [call]).unwrap();
            let mask = rule["args"][0]["value"].as_u64().unwrap();
            assert_eq!(mask & 0x1000_0000, 0x1000_0000, "{call} makes no user namespace");
            assert_eq!(mask & 0x0002_0000, 0, "{call} makes mount namespaces");
        }
    }

    #[test]
    fn no_call_is_both_allowed_and_refused_and_the_dangerous_ones_are_not_allowed() {
        let allowed = names(ALLOWED);
        for refused in names(REFUSED) {
            assert!(!allowed.contains(&refused), "{refused}");
        }
        for dangerous in [
            "mount",
            "bpf",
            "ptrace",
            "keyctl",
            "unshare",
            "setns",
            "io_uring_setup",
            "userfaultfd",
            "clone",
            "ioctl",
            "socket",
            "open_by_handle_at",
        ] {
            assert!(!allowed.contains(&dangerous), "{dangerous}");
        }
    }
}
