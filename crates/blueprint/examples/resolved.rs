//! Prints the Compose files of a directory, put together, as JSON; for `tools/compose-diff`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the one who runs it"
)]

use blueprint::{Address, Context, Kind, Tree};
use std::{borrow::Cow, env, fs, path::PathBuf, process::ExitCode};

/// The files of a directory.
struct Directory(PathBuf);

impl Tree for Directory {
    fn kind(&self, path: &str) -> Option<Kind> {
        let metadata = fs::symlink_metadata(self.0.join(path)).ok()?;
        Some(match metadata.file_type() {
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::File { bytes: metadata.len() },
        })
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        fs::read(self.0.join(path)).ok().map(Cow::Owned)
    }

    fn list(&self) -> Vec<String> {
        Vec::new()
    }
}

fn context() -> Result<Context, Box<dyn std::error::Error>> {
    Ok(Context {
        project: "project".parse()?,
        source: "project".parse()?,
        commit: "0".repeat(40).parse()?,
        branch: None,
        base: None,
        pull_request: None,
        environment: "pr-1".parse()?,
        address: Address {
            scheme: "http".to_owned(),
            base: "localhost".to_owned(),
            port: None,
        },
        without: std::collections::BTreeSet::new(),
        endpoints: std::collections::BTreeMap::new(),
        with: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        images: None,
    })
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let directory = env::args_os().nth(1).ok_or("usage: resolved DIRECTORY")?;
    Ok(
        match blueprint::compose_resolved(&Directory(directory.into()), &context()?) {
            Ok(mut resolved) => {
                // An extension has no effect of its own.
                if let Some(top) = resolved.value.as_object_mut() {
                    top.insert("x-chosen".to_owned(), resolved.chosen.into_iter().collect());
                }
                println!("{:#}", resolved.value);
                ExitCode::SUCCESS
            }
            Err(problems) => {
                eprintln!("{problems}");
                ExitCode::FAILURE
            }
        },
    )
}
