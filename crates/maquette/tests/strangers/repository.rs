//! One repository: as it is found, with what `maquette init` writes, and through the life of a pull request.

use crate::{
    bench::run,
    rig::{Rig, Visitor},
};
use forge::{
    PullRequestNumber,
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::CommitId;
use std::{
    cell::OnceCell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// All of them build at the same time, one after the other, on a machine that is busy with other tests, too.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is known of a repository.
pub(crate) struct Stranger {
    pub(crate) name: &'static str,
    /// What `init` writes.
    pub(crate) wrote: &'static [&'static str],
    /// On its page.
    pub(crate) says: &'static [&'static str],
    /// A file, a text in it, and another in its place.
    pub(crate) change: (&'static str, &'static str, &'static str),
    /// On its page when that was pushed.
    pub(crate) then: &'static [&'static str],
}

pub(crate) struct Repository {
    pub(crate) stranger: &'static Stranger,
    /// The forge's directory.
    pub(crate) place: PathBuf,
    forge: LocalForge,
    files: PathBuf,
    opened: OnceCell<(PullRequestNumber, String)>,
}

fn files_below(directory: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, below, found);
        } else {
            found.push(path.strip_prefix(below).unwrap().display().to_string());
        }
    }
}

impl Repository {
    /// A fresh repository with what the stranger wrote in its first commit, and what `init` writes in the second.
    pub(crate) async fn new(rig: &Rig, stranger: &'static Stranger) -> Self {
        let origin = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/strangers/repositories")
            .join(stranger.name);
        let place = rig.root.join("forges").join(stranger.name);
        let files = rig.root.join("checkouts").join(stranger.name);
        fs::create_dir_all(&place).unwrap();
        let (path, main) = (
            format!("strangers/{}", stranger.name).parse().unwrap(),
            "main".parse().unwrap(),
        );
        let forge = LocalForge::open(&place, &path, &main).await.unwrap();
        let mut found = Vec::new();
        files_below(&origin, &origin, &mut found);
        for path in &found {
            let target = files.join(path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(origin.join(path), target).unwrap();
        }
        let read = |path: &str| FileChange::write(path, fs::read(files.join(path)).unwrap());
        let first: Vec<FileChange> = found.iter().map(|path| read(path)).collect();
        forge.commit(&main, None, &first, "As it was").await.unwrap();

        let ended = run(&["init", files.to_str().unwrap()], "").await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let mut now = Vec::new();
        files_below(&files, &files, &mut now);
        let before: BTreeSet<&String> = found.iter().collect();
        let mut wrote: Vec<&str> = now.iter().filter(|p| !before.contains(p)).map(String::as_str).collect();
        wrote.sort_unstable();
        assert_eq!(wrote, stranger.wrote, "{}: {ended:?}", stranger.name);
        let second: Vec<FileChange> = wrote.iter().map(|path| read(path)).collect();
        forge.commit(&main, None, &second, "Maquette").await.unwrap();
        let repository = Self {
            stranger,
            place,
            forge,
            files,
            opened: OnceCell::new(),
        };
        repository.give(rig);
        repository
    }

    fn give(&self, rig: &Rig) {
        rig.give_all(&self.place);
    }

    async fn push(&self, rig: &Rig, files: &[FileChange]) -> CommitId {
        let (branch, main) = ("change".parse().unwrap(), "main".parse().unwrap());
        let commit = self.forge.commit(&branch, Some(&main), files, "Change").await.unwrap();
        self.give(rig);
        commit
    }

    pub(crate) async fn goes_live(&self, rig: &Rig) {
        let commit = self
            .push(rig, &[FileChange::write("NEWS.md", "A pull request\n")])
            .await;
        let new = NewPullRequest::new("change".parse().unwrap(), "main".parse().unwrap(), "A change");
        let number = self.forge.open_pull_request(new).await.unwrap().number;
        self.give(rig);
        let label = format!("pr-{number}--{}", self.stranger.name);
        self.opened.set((number, label)).unwrap();
        self.live(rig, &commit).await;
        self.page(rig, self.stranger.says).await;
    }

    pub(crate) async fn follows(&self, rig: &Rig) {
        let (path, before, after) = self.stranger.change;
        let text = fs::read_to_string(self.files.join(path)).unwrap();
        assert!(text.contains(before), "{path}");
        let change = FileChange::write(path, text.replace(before, after));
        let commit = self.push(rig, &[change]).await;
        self.live(rig, &commit).await;
        self.page(rig, self.stranger.then).await;
    }

    pub(crate) async fn ends(&self, rig: &Rig) {
        let (number, label) = self.opened.get().unwrap();
        self.forge.close(*number).await.unwrap();
        self.give(rig);
        let since = Instant::now();
        loop {
            let ended = rig.run(&["--json", "receipt", label]).await;
            let receipt: serde_json::Value = serde_json::from_str(&ended.out).unwrap_or_default();
            if receipt["complete"] == true {
                let entries = receipt["entries"].as_array().unwrap();
                let gone = entries.iter().all(|entry| entry["gone"].is_u64());
                assert!(!entries.is_empty() && gone, "{receipt:#}");
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{label}: {ended:?}\n{}", rig.log());
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the comment says that this commit is live.
    async fn live(&self, rig: &Rig, commit: &CommitId) {
        let (number, label) = self.opened.get().unwrap();
        let since = Instant::now();
        loop {
            let comments = self.forge.comments(*number).unwrap_or_default();
            let told = comments
                .first()
                .map(|comment| comment.body.as_str())
                .unwrap_or_default();
            let headline = told.lines().next().unwrap_or_default();
            if headline.ends_with(&format!("live** with `{}`", commit.short())) {
                return;
            }
            let failed = headline.contains("failed") && headline.contains(commit.short());
            if failed || since.elapsed() > PATIENCE {
                let why = rig.run(&["why", label]).await;
                panic!("{label}:\n{told}\n{}{}\n{}", why.out, why.err, rig.log());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the page says all of this.
    async fn page(&self, rig: &Rig, wanted: &[&str]) {
        let (_, label) = self.opened.get().unwrap();
        let visitor = Visitor::new(rig, label).await;
        let since = Instant::now();
        loop {
            let (status, text) = visitor.get("/").await;
            if status == 200 && wanted.iter().all(|part| text.contains(part)) {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{label} never said {wanted:?}: {status} {text}\n{}",
                rig.log()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }
}
