//! Removal of directories that a container has written to.
//!
//! Whoever wrote them chose their depth and their links: nothing here recurses, holds more than two directories open, or follows
//! a link.

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat},
    io::Errno,
};
use std::{
    ffi::CString,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

/// Somebody may still be writing; then it does not become empty.
const ROUNDS: u32 = 64;

/// Removes a directory with all that is in it. Nothing happens if it is gone.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for _ in 0..ROUNDS {
        empty(path)?;
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Removes all that is in a directory. Nothing happens if it is gone.
pub(crate) fn empty(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match openat(CWD, path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut moved = 0u64;
    for _ in 0..ROUNDS {
        let mut directories = files_removed(&top)?;
        if directories.is_empty() {
            return Ok(());
        }
        while let Some(name) = directories.pop() {
            let inner = match openat(&top, &name, flags, Mode::empty()) {
                Ok(inner) => inner,
                // It is gone or something else by now: the next round sees.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(e.into()),
            };
            // Instead of going down, what is below comes up.
            for child in files_removed(&inner)? {
                let place = lifted(&inner, &child, &top, &mut moved)?;
                directories.extend(place);
            }
            drop(inner);
            match unlinkat(&top, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Moves a directory to the top under a name that nothing else has there.
fn lifted(from: &OwnedFd, name: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<Option<CString>> {
    loop {
        *moved += 1;
        let place = CString::new(format!(".removed-{moved}"))?;
        match renameat_with(from, name, top, &place, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(place)),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Removes everything but directories, whose names are returned.
fn files_removed(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            directories.push(name.to_owned());
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => directories.push(name.to_owned()),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_deeper_than_any_stack_goes_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(outside.path(), top.join("link")).unwrap();
        fs::create_dir(top.join(".removed-1")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = openat(CWD, &top, flags, Mode::empty()).unwrap();
        for _ in 0..30_000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat(c"../../../..", &at, c"up").unwrap();
            at = openat(&at, c"d", flags, Mode::empty()).unwrap();
        }
        // As little stack as the host's threads have.
        let removing = std::thread::Builder::new().stack_size(256 << 10);
        removing
            .spawn(move || {
                remove(&top).unwrap();
                assert!(!top.exists());
                remove(&top).unwrap();
            })
            .unwrap()
            .join()
            .unwrap();
        assert!(outside.path().join("kept").exists());
    }
}
