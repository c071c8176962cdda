//! The `/etc` that all containers on this machine share: written by us, or copied from a short allow list. No secret of the host
//! is in it.

use super::network::HUB_ADDRESS;
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

/// Files and directories of the host's `/etc` that its packages need to run and that hold nothing private.
const ALLOWED: [&str; 22] = [
    "alternatives",
    "ca-certificates.conf",
    "debian_version",
    "erlang",
    "fonts",
    "host.conf",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "networks",
    "os-release",
    "perl",
    "php",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];
/// The name server is on this machine and answers at once, also that there is no such name; who is not there is refused by the kernel.
/// What takes longer is a machine that has too much to do, and a resolver that gives up makes it an error of the application. musl
/// divides the time among its attempts, glibc takes it for each.
const RESOLVER: &str = "options timeout:5 attempts:4";
/// Where the files that differ per container lie; the shared `/etc` has links to them.
pub(crate) const OWN_FILES: &str = ".cell";
const MAX_DEPTH: u32 = 8;
const MAX_FILE: u64 = 4 << 20;

/// The users that the host's packages find.
pub(crate) const PASSWD: &str = "root:x:0:0:root:/tmp:/bin/sh\n\
daemon:x:1:1:daemon:/nonexistent:/usr/sbin/nologin\n\
www-data:x:33:33:www-data:/nonexistent:/usr/sbin/nologin\n\
engine:x:999:999:engine:/run/maquette:/usr/sbin/nologin\n\
service:x:1000:1000:service:/tmp:/bin/sh\n\
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
/// Their groups.
pub(crate) const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nengine:x:999:\nservice:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
protocols: files\nservices: files\n";

/// Writes the shared `/etc` into `target`, which must not exist.
pub(crate) fn write(target: &Path) -> io::Result<()> {
    let part = target.with_extension("part");
    super::conmon::remove_directory(&part)?;
    fs::create_dir_all(&part)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    for name in ALLOWED {
        if let Some(parent) = Path::new(name).parent() {
            fs::create_dir_all(part.join(parent))?;
        }
        copy(&Path::new("/etc").join(name), &part.join(name), 0)?;
    }
    fs::write(part.join("passwd"), PASSWD)?;
    fs::write(part.join("group"), GROUP)?;
    fs::write(part.join("nsswitch.conf"), NSSWITCH)?;
    fs::write(
        part.join("resolv.conf"),
        format!("nameserver {HUB_ADDRESS}\n{RESOLVER}\n"),
    )?;
    for name in ["hosts", "hostname"] {
        symlink(format!("/{OWN_FILES}/{name}"), part.join(name))?;
    }
    symlink("/proc/self/mounts", part.join("mtab"))?;
    fs::rename(&part, target)
}

/// Copies what everybody may read. A file that is missing or private is left out.
fn copy(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    let meta = match fs::symlink_metadata(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if meta.permissions().mode() & 0o004 == 0 {
        return Ok(());
    }
    if meta.is_dir() && depth < MAX_DEPTH {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
        }
    } else if meta.is_file() && meta.len() <= MAX_FILE {
        fs::copy(from, to)?;
    }
    Ok(())
}
