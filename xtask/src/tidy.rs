//! Finds the workspace's files, applies the rules and collects what they say.

mod lexer;
mod manifests;
mod sources;

use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Folders that hold nothing of ours, or nothing that is kept.
const SKIPPED: [&str; 6] = [
    "target",
    ".git",
    ".cache",
    "node_modules",
    "proptest-regressions",
    "snapshots",
];

/// Larger files are not text that people write.
const FILE_MAX: u64 = 1 << 20;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path relative to the workspace.
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The rule's short name.
    pub(crate) rule: &'static str,
    /// What was found.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: [{}] {}\n  hint: {}",
            self.file, self.line, self.rule, self.message, self.hint
        )
    }
}

/// What was found in the whole workspace.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What must be mended.
    pub(crate) findings: Vec<Finding>,
    /// What is worth a look.
    pub(crate) notes: Vec<String>,
    /// How many files were read.
    pub(crate) files: usize,
}

/// Checks the workspace at `root`. `home` is the directory whose path must not stand in any file.
pub(crate) fn check(root: &Path, home: Option<&str>) -> Result<Report> {
    let mut files = BTreeMap::new();
    collect(root, root, &mut files)?;
    let mut report = Report {
        files: files.len(),
        ..Report::default()
    };
    // A short home (`/`) would be found in every path, and root's is the same on every machine.
    let private: Vec<String> = [root.to_str(), home]
        .into_iter()
        .flatten()
        .filter(|path| path.len() >= 5 && *path != "/root")
        .map(|path| format!("{}/", path.trim_end_matches('/')))
        .collect();
    for (path, text) in &files {
        sources::check(path, text, &private, &mut report);
    }
    manifests::check(&files, &mut report.findings);
    report
        .findings
        .sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(report)
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let kind = entry.file_type()?;
        let path: PathBuf = entry.path();
        if kind.is_dir() {
            if !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                collect(root, &path, files)?;
            }
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_MAX {
            // What is not text is nobody's style.
            let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
            if let Ok(text) = fs::read_to_string(&path) {
                files.insert(relative, text);
            }
        }
    }
    Ok(())
}
