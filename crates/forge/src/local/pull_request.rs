//! Pull requests of a local forge.

use super::{
    LocalForge,
    client::{git_failed, now, numbers, read_document, write_document},
    repository, wire,
};
use crate::{
    Account, DisplayText, ForgeError, HeadOrigin, PullRequest, PullRequestAction, PullRequestFact, PullRequestNumber,
    PullRequestState, RepositoryId, Result, Subject, git::remove_leftovers,
};
use model::{BranchName, CommitId};
use std::{collections::HashMap, path::PathBuf, time::Duration};

/// The most pull requests that are listed.
const OPEN_MAX: usize = 1000;

/// Where the head of a new pull request lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalHead {
    /// A branch of the repository.
    Branch(BranchName),
    /// A commit that stands for one from a fork.
    Fork(CommitId),
}

/// A pull request to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPullRequest {
    /// Its head.
    pub head: LocalHead,
    /// The branch that it is for.
    pub base: BranchName,
    /// The title.
    pub title: DisplayText,
    /// Who opens it; by default the developer, or the stranger for a fork.
    pub author: Option<Account>,
    /// The labels.
    pub labels: Vec<DisplayText>,
    /// Marked as not ready.
    pub draft: bool,
}

impl NewPullRequest {
    /// One from a branch, without labels.
    #[must_use]
    pub fn new(branch: BranchName, base: BranchName, title: &str) -> Self {
        let title = DisplayText::new(title);
        Self {
            head: LocalHead::Branch(branch),
            base,
            title,
            author: None,
            labels: Vec::new(),
            draft: false,
        }
    }
}

impl LocalForge {
    /// Opens a pull request.
    ///
    /// # Errors
    /// If a branch does not exist, or the head branch has an open pull request for the same base.
    pub async fn open_pull_request(&self, new: NewPullRequest) -> Result<PullRequest> {
        let what = "new pull request";
        let lock = self.lock().await?;
        let references = repository::references(self)?;
        let missing = |branch: &BranchName| ForgeError::invalid(what, format!("there is no branch `{branch}`"));
        let find = |branch: &BranchName| references.get(&format!("refs/heads/{branch}")).cloned();
        find(&new.base).ok_or_else(|| missing(&new.base))?;
        let (branch, head, author) = match new.head {
            LocalHead::Fork(commit) => (None, commit, Self::stranger()),
            LocalHead::Branch(branch) => {
                let head = find(&branch).ok_or_else(|| missing(&branch))?;
                (Some(branch), head, Self::developer())
            }
        };
        let all = numbers(&self.pulls())?;
        for number in &all {
            let other = self.document(PullRequestNumber(*number))?;
            let same = other
                .is_some_and(|o| o.state.is_open() && branch.is_some() && o.branch == branch && o.base == new.base);
            if same {
                return Err(ForgeError::invalid(
                    what,
                    format!("pull request {number} is open for this branch"),
                ));
            }
        }
        let document = wire::PullRequest {
            number: all.last().copied().unwrap_or(0) + 1,
            state: PullRequestState::Open,
            branch,
            head,
            base: new.base,
            title: new.title,
            author: new.author.unwrap_or(author),
            labels: new.labels,
            draft: new.draft,
            updated: now(),
        };
        self.keep_head(&document).await?;
        self.save(&document)?;
        drop(lock);
        self.announce(&document, PullRequestAction::Opened)?;
        self.present(document, &repository::references(self)?)
    }

    /// Closes a pull request; its branch stays. Nothing happens if it is closed.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn close(&self, number: PullRequestNumber) -> Result<()> {
        self.change(number, PullRequestAction::Closed, |pull| {
            if pull.state.is_open() {
                pull.state = PullRequestState::Closed;
            }
            Ok(())
        })
        .await
    }

    /// Marks a pull request as merged. The base branch is left as it is.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn mark_merged(&self, number: PullRequestNumber) -> Result<()> {
        self.change(number, PullRequestAction::Closed, |pull| {
            pull.state = PullRequestState::Merged;
            Ok(())
        })
        .await
    }

    /// Opens a closed pull request again.
    ///
    /// # Errors
    /// If there is no such pull request, it was merged, or its branch is gone.
    pub async fn reopen(&self, number: PullRequestNumber) -> Result<()> {
        let references = repository::references(self)?;
        self.change(number, PullRequestAction::Reopened, |pull| {
            let refuse = |reason: &str| Err(ForgeError::invalid(format!("pull request {number}"), reason));
            let gone = |branch: &BranchName| !references.contains_key(&format!("refs/heads/{branch}"));
            match pull.state {
                PullRequestState::Merged => refuse("it was merged"),
                _ if pull.branch.as_ref().is_some_and(gone) => refuse("its branch is gone"),
                _ => {
                    pull.state = PullRequestState::Open;
                    Ok(())
                }
            }
        })
        .await
    }

    /// Changes the branch that a pull request is for.
    ///
    /// # Errors
    /// If there is no such pull request or branch.
    pub async fn change_base(&self, number: PullRequestNumber, base: &BranchName) -> Result<()> {
        if repository::head(self, base)?.is_none() {
            let reason = format!("there is no branch `{base}`");
            return Err(ForgeError::invalid(format!("pull request {number}"), reason));
        }
        self.change(number, PullRequestAction::Changed, |pull| {
            pull.base = base.clone();
            Ok(())
        })
        .await
    }

    /// Changes the title of a pull request.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn change_title(&self, number: PullRequestNumber, title: &str) -> Result<()> {
        self.change(number, PullRequestAction::Changed, |pull| {
            pull.title = DisplayText::new(title);
            Ok(())
        })
        .await
    }

    /// Gives a pull request these labels in place of those that it has.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn change_labels(&self, number: PullRequestNumber, labels: &[&str]) -> Result<()> {
        self.change(number, PullRequestAction::Changed, |pull| {
            pull.labels = labels.iter().map(|label| DisplayText::new(label)).collect();
            Ok(())
        })
        .await
    }

    /// Marks a pull request as not ready, or as ready.
    ///
    /// # Errors
    /// If there is no such pull request.
    pub async fn change_draft(&self, number: PullRequestNumber, draft: bool) -> Result<()> {
        self.change(number, PullRequestAction::Changed, |pull| {
            pull.draft = draft;
            Ok(())
        })
        .await
    }

    /// Gives a pull request from a fork a new commit.
    ///
    /// # Errors
    /// If there is no such pull request, or it has a branch here.
    pub async fn push_fork(&self, number: PullRequestNumber, commit: &CommitId) -> Result<()> {
        self.change(number, PullRequestAction::Pushed, |pull| {
            if pull.branch.is_some() {
                return Err(ForgeError::invalid(
                    format!("pull request {number}"),
                    "it is not from a fork",
                ));
            }
            pull.head = commit.clone();
            Ok(())
        })
        .await
    }

    /// Deletes a branch, and closes its pull requests as every forge does.
    ///
    /// # Errors
    /// If git fails. That there is no such branch is no error.
    pub async fn delete_branch(&self, branch: &BranchName) -> Result<()> {
        // Each pull request learns its newest commit before the branch that has it is gone.
        let open = list_open(self, &self.id).await?;
        let lock = self.lock().await?;
        self.git("branch", "update-ref", ["-d", &format!("refs/heads/{branch}")])
            .await?;
        drop(lock);
        for pull in open
            .iter()
            .filter(|pull| pull.origin == HeadOrigin::BaseRepository(branch.clone()))
        {
            self.close(pull.number).await?;
        }
        self.announce_branch(branch, None)
    }

    pub(super) fn announce_pushed(&self, branch: &BranchName, commit: &CommitId) -> Result<()> {
        self.announce_branch(branch, Some(commit))?;
        for number in numbers(&self.pulls())? {
            let pull = self.document(PullRequestNumber(number))?;
            if let Some(pull) = pull.filter(|pull| pull.state.is_open() && pull.branch.as_ref() == Some(branch)) {
                self.announce(&pull, PullRequestAction::Pushed)?;
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        number: PullRequestNumber,
        action: PullRequestAction,
        change: impl FnOnce(&mut wire::PullRequest) -> Result<()> + Send,
    ) -> Result<()> {
        let lock = self.lock().await?;
        let missing = || ForgeError::NotFound {
            what: format!("pull request {number}"),
        };
        let mut pull = self.document(number)?.ok_or_else(missing)?;
        pull.head = current_head(&pull, &repository::references(self)?);
        change(&mut pull)?;
        pull.updated = now();
        self.keep_head(&pull).await?;
        self.save(&pull)?;
        drop(lock);
        self.announce(&pull, action)
    }

    fn announce(&self, pull: &wire::PullRequest, action: PullRequestAction) -> Result<()> {
        let number = PullRequestNumber(pull.number);
        self.emit(Subject::PullRequest { number, action })
    }

    fn announce_branch(&self, branch: &BranchName, commit: Option<&CommitId>) -> Result<()> {
        self.emit(Subject::Branch {
            branch: branch.clone(),
            commit: commit.cloned(),
        })
    }

    fn pulls(&self) -> PathBuf {
        self.root.join("pulls")
    }

    fn file(&self, number: PullRequestNumber) -> PathBuf {
        self.pulls().join(format!("{number}.json"))
    }

    pub(super) fn document(&self, number: PullRequestNumber) -> Result<Option<wire::PullRequest>> {
        read_document(&self.file(number))
    }

    pub(super) fn save(&self, pull: &wire::PullRequest) -> Result<()> {
        write_document(&self.file(PullRequestNumber(pull.number)), pull)
    }

    /// Points the reference of a pull request to its head, so that git keeps the commit and can fetch it.
    async fn keep_head(&self, pull: &wire::PullRequest) -> Result<()> {
        self.point(pull.number, &pull.head).await
    }

    /// Does so, under the lock: nobody else writes these references, so that a lock of git's there was left by one that was killed.
    async fn point(&self, number: u64, head: &CommitId) -> Result<()> {
        let (what, name) = (format!("pull request {number}"), fetch_ref(number));
        if let Some(directory) = self.repository.join(&name).parent() {
            remove_leftovers(directory, ".lock", Duration::ZERO).map_err(git_failed(&what))?;
        }
        self.git(&what, "update-ref", [name.as_str(), head.as_str()])
            .await
            .map(|_| ())
    }

    /// What a document says, with the head where the branch is now.
    fn present(&self, pull: wire::PullRequest, references: &HashMap<String, CommitId>) -> Result<PullRequest> {
        let number = PullRequestNumber(pull.number);
        let here = pull
            .branch
            .as_ref()
            .and_then(|branch| references.get(&format!("refs/heads/{branch}")));
        let origin = match (&pull.branch, here) {
            (None, _) => HeadOrigin::Fork { repository: None },
            (Some(_), None) => HeadOrigin::Detached,
            (Some(branch), Some(_)) => HeadOrigin::BaseRepository(branch.clone()),
        };
        let head = current_head(&pull, references);
        let label = pull.branch.as_ref().map_or("fork", BranchName::as_str);
        Ok(PullRequest {
            repository: self.id.clone(),
            number,
            state: pull.state,
            origin,
            head,
            head_label: DisplayText::new(label),
            base: Some(pull.base),
            fetch_ref: fetch_ref(pull.number),
            title: pull.title,
            author: pull.author,
            labels: pull.labels,
            draft: pull.draft,
            updated: pull.updated,
            page: None,
        })
    }
}

/// An open pull request follows its branch; one whose branch is gone has the commit that was last seen, and a closed one
/// that with which it was closed.
fn current_head(pull: &wire::PullRequest, references: &HashMap<String, CommitId>) -> CommitId {
    let followed = pull
        .branch
        .as_ref()
        .filter(|_| pull.state.is_open())
        .and_then(|branch| {
            references
                .get(&format!("refs/heads/{branch}"))
                .or_else(|| references.get(&fetch_ref(pull.number)))
        });
    followed.unwrap_or(&pull.head).clone()
}

fn fetch_ref(number: u64) -> String {
    format!("refs/maquette/pulls/{number}/head")
}

pub(super) async fn list_open(forge: &LocalForge, id: &RepositoryId) -> Result<Vec<PullRequest>> {
    forge.check(id)?;
    let references = repository::references(forge)?;
    let mut open = Vec::new();
    for number in numbers(&forge.pulls())? {
        if let Some(pull) = forge
            .document(PullRequestNumber(number))?
            .filter(|pull| pull.state.is_open())
        {
            open.push(forge.refresh(pull, &references).await?);
        }
        if open.len() >= OPEN_MAX {
            break;
        }
    }
    Ok(open)
}

pub(super) async fn read(forge: &LocalForge, id: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact> {
    forge.check(id)?;
    match forge.document(number)? {
        None => Ok(PullRequestFact::Absent),
        Some(pull) => {
            let references = repository::references(forge)?;
            Ok(PullRequestFact::Present(Box::new(
                forge.refresh(pull, &references).await?,
            )))
        }
    }
}

impl LocalForge {
    /// Presents a pull request; its reference follows the branch, which may have been pushed to by plain git.
    async fn refresh(&self, pull: wire::PullRequest, references: &HashMap<String, CommitId>) -> Result<PullRequest> {
        let number = pull.number;
        let presented = self.present(pull, references)?;
        if references.get(&presented.fetch_ref) != Some(&presented.head) {
            let _lock = self.lock().await?;
            // Somebody else may have closed it meanwhile, at a newer commit.
            if let Some(pull) = self.document(PullRequestNumber(number))? {
                let head = current_head(&pull, &repository::references(self)?);
                self.point(number, &head).await?;
            }
        }
        Ok(presented)
    }
}
