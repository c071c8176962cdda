//! Layers made from programs and directories of this machine, with the libraries that they need: what look-alikes of official images
//! hold besides a shell.

use crate::gitea::Error;
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A layer that grows.
pub struct Snapshot {
    builder: tar::Builder<Vec<u8>>,
    there: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("there", &self.there.len())
            .finish_non_exhaustive()
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

impl Snapshot {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        builder.mode(tar::HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        Self {
            builder,
            there: BTreeSet::new(),
        }
    }

    /// A program or library with the libraries that it is linked with.
    ///
    /// # Errors
    /// When this machine does not have it.
    pub fn program(&mut self, path: impl AsRef<Path>, at: &str) -> Result<&mut Self, Error> {
        let path = path.as_ref();
        self.file(path, Path::new(at))?;
        self.libraries(path)?;
        Ok(self)
    }

    /// A directory with all that is in it, but paths of which this says so.
    ///
    /// # Errors
    /// When this machine does not have it.
    pub fn directory(
        &mut self,
        path: impl AsRef<Path>,
        at: &str,
        leave: &dyn Fn(&Path) -> bool,
    ) -> Result<&mut Self, Error> {
        let path = path.as_ref();
        self.walk(path, Path::new(at), leave)?;
        Ok(self)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn link(&mut self, at: &str, target: &str) -> Result<&mut Self, Error> {
        if self.there.insert(PathBuf::from(at)) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            self.builder
                .append_link(&mut header, at, target)
                .map_err(|error| failed(Path::new(at), &error))?;
        }
        Ok(self)
    }

    /// A file with this text that may be run.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn script(&mut self, at: &str, text: &str) -> Result<&mut Self, Error> {
        if self.there.insert(PathBuf::from(at)) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            self.builder
                .append_data(&mut header, at, text.as_bytes())
                .map_err(|error| failed(Path::new(at), &error))?;
        }
        Ok(self)
    }

    /// The archive.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn layer(self) -> Result<Vec<u8>, Error> {
        self.builder
            .into_inner()
            .map_err(|error| Error(format!("a layer: {error}")))
    }

    fn file(&mut self, path: &Path, at: &Path) -> Result<(), Error> {
        if !self.there.insert(at.to_owned()) {
            return Ok(());
        }
        let real = fs::canonicalize(path).map_err(|error| failed(path, &error))?;
        self.builder
            .append_path_with_name(&real, at)
            .map_err(|error| failed(path, &error))
    }

    fn walk(&mut self, path: &Path, at: &Path, leave: &dyn Fn(&Path) -> bool) -> Result<(), Error> {
        let mut entries: Vec<_> = fs::read_dir(path)
            .and_then(Iterator::collect::<io::Result<_>>)
            .map_err(|error| failed(path, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (from, to) = (entry.path(), at.join(entry.file_name()));
            if leave(&from) {
                continue;
            }
            let found = fs::symlink_metadata(&from).map_err(|error| failed(&from, &error))?;
            if found.is_dir() {
                self.walk(&from, &to, leave)?;
            } else if found.is_symlink() {
                // A target elsewhere on this machine is not in the image.
                let inside = |real: PathBuf| fs::canonicalize(path).is_ok_and(|own| real.starts_with(own));
                match fs::read_link(&from) {
                    Ok(target) if target.is_relative() && fs::canonicalize(&from).is_ok_and(inside) => {
                        let (to, target) = (to.display().to_string(), target.display().to_string());
                        self.link(&to, &target)?;
                    }
                    _ if from.is_file() => self.file(&from, &to)?,
                    _ if from.is_dir() => self.walk(&from, &to, leave)?,
                    _ => {}
                }
            } else if found.is_file() {
                self.file(&from, &to)?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.contains(".so") || found.permissions().mode() & 0o111 != 0 {
                    self.libraries(&from)?;
                }
            }
        }
        Ok(())
    }

    /// Those that the linker finds for a program, and the linker itself.
    fn libraries(&mut self, path: &Path) -> Result<(), Error> {
        let is_program = fs::File::open(path).is_ok_and(|mut file| {
            let mut start = [0; 4];
            io::Read::read_exact(&mut file, &mut start).is_ok() && start == *b"\x7fELF"
        });
        if !is_program {
            return Ok(());
        }
        // Cargo sets a path for libraries, which images do not have.
        let told = Command::new("ldd").arg(path).env_remove("LD_LIBRARY_PATH").output();
        let told = told.map_err(|error| failed(path, &error))?;
        for line in String::from_utf8_lossy(&told.stdout).lines() {
            let found = line.split_whitespace().find(|word| word.starts_with('/'));
            let Some(library) = found else { continue };
            // Libraries beside the program came, or come, with it.
            let inside = Path::new(library);
            if fs::metadata(inside).is_ok() && inside.parent() != path.parent() && !library.contains("/../") {
                self.file(inside, Path::new(library.trim_start_matches('/')))?;
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error(format!(
        "{}: {error}.\nhint: run scripts/install-packages test once",
        path.display()
    ))
}
