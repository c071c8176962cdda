//! A developer's checkout, used with the real git.

use super::{Error, process::failed};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A clone in a temporary directory.
#[derive(Debug)]
pub struct WorkTree {
    dir: TempDir,
}

impl WorkTree {
    /// An empty repository.
    ///
    /// # Errors
    /// If git fails.
    pub fn init() -> Result<Self, Error> {
        let tree = Self {
            dir: tempfile::tempdir().map_err(failed("temporary directory"))?,
        };
        tree.git(&["init", "--quiet", "--initial-branch=main", "."])?;
        Ok(tree)
    }

    /// A clone of a repository.
    ///
    /// # Errors
    /// If git fails.
    pub fn clone(url: &str) -> Result<Self, Error> {
        let tree = Self {
            dir: tempfile::tempdir().map_err(failed("temporary directory"))?,
        };
        tree.git(&["clone", "--quiet", "--", url, "."])?;
        Ok(tree)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a file of it is.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file, commits everything and returns the id of the commit.
    ///
    /// # Errors
    /// If git fails.
    pub fn commit(&self, path: &str, content: &str, message: &str) -> Result<String, Error> {
        let file = self.file(path);
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).map_err(failed("directory"))?;
        }
        fs::write(&file, content).map_err(failed("file"))?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message])?;
        self.head()
    }

    /// The id of the commit that is checked out.
    ///
    /// # Errors
    /// If there is none.
    pub fn head(&self) -> Result<String, Error> {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git here and returns what it printed.
    ///
    /// # Errors
    /// If it fails; the message has what it said.
    pub fn git(&self, args: &[&str]) -> Result<String, Error> {
        let out = Command::new("git")
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@localhost")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@localhost")
            .output()
            .map_err(failed("git"))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(Error(format!(
                "git {}: {said}",
                args.first().copied().unwrap_or_default()
            )));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }
}
