//! The one who writes to the repository: a queue, so that what several environments want at the same time goes in one push, each in
//! a commit of its own. Whoever else pushes comes first; what we want is then put on top of theirs.

use super::folder::Sheet;
use crate::api::{jittered, unreachable};
use forge::git::{Author, Branch, Files, FolderCommit, GitError, Pushed, TreeLimits};
use model::{CommitId, EnvironmentId, Generation};
use runtime::{Result, RuntimeError};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// The pause before what has failed is tried again: the first, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long somebody else may come first, again and again.
const RACES: Duration = Duration::from_secs(120);

/// How long a repository that can not be reached is tried before those who wait are told.
const ABSENCE: Duration = Duration::from_secs(15);

/// How many requests are taken in; who comes then waits for the next push.
const QUEUE: usize = 256;

/// Bounds of an environment's folder: files, and bytes of one of them.
const FILES: TreeLimits = TreeLimits { entries: 10_000 };
const FILE_MAX: u64 = 4 << 20;

/// Changes the files of an environment. It is called again whenever somebody else was first.
pub(crate) type Edit = Box<dyn Fn(&mut Files) + Send + Sync>;

/// What is wanted of an environment's folder.
pub(crate) struct Order {
    pub(crate) environment: EnvironmentId,
    /// Whose environment it is, for the message; not known when one is removed.
    pub(crate) about: Option<String>,
    pub(crate) generation: Generation,
    /// In words, for the message.
    pub(crate) what: String,
    /// `None` removes the folder.
    pub(crate) edit: Option<Edit>,
}

struct Waiting {
    order: Order,
    answer: oneshot::Sender<Result<Option<CommitId>>>,
}

/// What is asked of the task that has the repository.
enum Request {
    Write(Waiting),
    List(oneshot::Sender<Result<Vec<String>>>),
}

/// The queue of one repository.
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where and how is written.
pub(crate) struct Place {
    /// The folder of all environments.
    pub(crate) folder: String,
    /// The author of the commits.
    pub(crate) name: String,
    pub(crate) email: String,
    /// The least time between two pushes.
    pub(crate) interval: Duration,
    /// How the repository is called in messages.
    pub(crate) called: String,
}

impl Writer {
    pub(crate) fn start(branch: Branch, place: Place) -> Self {
        let (queue, asked) = mpsc::channel(QUEUE);
        let task = tokio::spawn(Task { branch, place }.run(asked));
        Self { queue, task }
    }

    /// Writes, and returns the commit of the branch at which the folder is as wanted; `None` if it was removed and there is nothing at all.
    ///
    /// # Errors
    /// `Superseded` if the folder is that of a newer generation, or one is written instead; `Unreachable` if the repository is.
    pub(crate) async fn write(&self, order: Order) -> Result<Option<CommitId>> {
        let (answer, told) = oneshot::channel();
        self.ask(Request::Write(Waiting { order, answer }), told).await
    }

    /// The names of the folders that are there now.
    ///
    /// # Errors
    /// `Unreachable` if the repository is.
    pub(crate) async fn list(&self) -> Result<Vec<String>> {
        let (answer, told) = oneshot::channel();
        self.ask(Request::List(answer), told).await
    }

    async fn ask<T>(&self, request: Request, told: oneshot::Receiver<Result<T>>) -> Result<T> {
        let ended = || unreachable("the writer of the GitOps repository has ended".to_owned());
        self.queue.send(request).await.map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }
}

struct Task {
    branch: Branch,
    place: Place,
}

/// How the folders of those who wait are to be.
struct Batch {
    commits: Vec<FolderCommit>,
    /// For each environment: which of the commits is its own, or the one that has its folder already.
    of: BTreeMap<EnvironmentId, Result<At>>,
}

/// Where an environment's folder is as wanted.
enum At {
    Made(usize),
    There(Option<CommitId>),
}

impl Task {
    async fn run(self, mut asked: mpsc::Receiver<Request>) {
        let mut pushed: Option<Instant> = None;
        while let Some(request) = asked.recv().await {
            let mut waiting = Vec::new();
            self.take(request, &mut waiting).await;
            if waiting.is_empty() {
                continue;
            }
            if let Some(at) = pushed {
                tokio::time::sleep_until((at + self.place.interval).into()).await;
            }
            let began = Instant::now();
            self.carry_out(waiting, &mut asked).await;
            pushed = Some(began);
        }
    }

    /// Answers a question, or lets an order wait.
    async fn take(&self, request: Request, waiting: &mut Vec<Waiting>) {
        match request {
            Request::Write(order) => waiting.push(order),
            Request::List(answer) => drop(answer.send(self.list().await.map_err(|error| self.told(&error)))),
        }
    }

    async fn list(&self) -> Result<Vec<String>, GitError> {
        match self.branch.fetch().await? {
            Some(head) => self.branch.folders(&head, &self.place.folder).await,
            None => Ok(Vec::new()),
        }
    }

    fn told(&self, error: &GitError) -> RuntimeError {
        let reason = crate::api::with_causes(error);
        unreachable(format!("the GitOps repository {}: {reason}", self.place.called))
    }

    /// Writes what is wanted, and what comes to be wanted meanwhile, until it is there or it is told why not.
    async fn carry_out(&self, mut waiting: Vec<Waiting>, asked: &mut mpsc::Receiver<Request>) {
        let from = Instant::now();
        let mut pause = PAUSE;
        loop {
            while let Ok(request) = asked.try_recv() {
                self.take(request, &mut waiting).await;
            }
            drop_superseded(&mut waiting);
            if waiting.is_empty() {
                return;
            }
            let (error, patience) = match self.attempt(&mut waiting).await {
                Ok(true) => return,
                Ok(false) => {
                    let reason = "somebody else pushed at the same time, again and again".to_owned();
                    (
                        unreachable(format!("the GitOps repository {}: {reason}", self.place.called)),
                        RACES,
                    )
                }
                Err(error) => (self.told(&error), ABSENCE),
            };
            if from.elapsed() > patience {
                let reason = error.to_string();
                tracing::warn!(reason, "nothing could be written to the GitOps repository");
                for Waiting { answer, .. } in waiting {
                    drop(answer.send(Err(unreachable(reason_of(&error)))));
                }
                return;
            }
            tracing::debug!(%error, "writing to the GitOps repository again");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Fetches, commits and pushes once. Whether those who wait have their answers: not if somebody else has pushed meanwhile.
    async fn attempt(&self, waiting: &mut Vec<Waiting>) -> Result<bool, GitError> {
        let head = self.branch.fetch().await?;
        let Batch { commits, mut of } = self.batch(head.as_ref(), waiting).await?;
        let made = if commits.is_empty() {
            Vec::new()
        } else {
            let author = Author {
                name: self.place.name.clone(),
                email: self.place.email.clone(),
                time: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs(),
            };
            let made = self.branch.commit(head.as_ref(), &author, &commits).await?;
            if let Some(last) = made.last()
                && self.branch.push(last).await? == Pushed::Moved
            {
                return Ok(false);
            }
            made
        };
        let mut written = BTreeMap::new();
        for Waiting { order, answer } in std::mem::take(waiting) {
            let at = match of.get_mut(&order.environment) {
                Some(Ok(At::Made(number))) => made.get(*number).cloned(),
                Some(Ok(At::There(commit))) => commit.clone(),
                Some(Err(error)) => {
                    drop(answer.send(Err(superseded_again(error))));
                    continue;
                }
                None => None,
            };
            let remembered = order.edit.as_ref().and(at.clone());
            written.insert(order.environment.to_string(), remembered);
            drop(answer.send(Ok(at)));
        }
        // It is written; what is not remembered is read from the branch.
        if let Err(error) = self.branch.remember(&written.into_iter().collect::<Vec<_>>()).await {
            tracing::warn!(%error, "what was written to the GitOps repository could not be remembered");
        }
        Ok(true)
    }

    /// What is to be committed on top of `head`.
    async fn batch(&self, head: Option<&CommitId>, waiting: &[Waiting]) -> Result<Batch, GitError> {
        let remembered = self.branch.remembered().await?;
        let mut batch = Batch {
            commits: Vec::new(),
            of: BTreeMap::new(),
        };
        let mut orders: BTreeMap<&EnvironmentId, Vec<&Order>> = BTreeMap::new();
        for Waiting { order, .. } in waiting {
            orders.entry(&order.environment).or_default().push(order);
        }
        for (environment, orders) in orders {
            let folder = format!("{}/{environment}", self.place.folder);
            let there = self.files(head, &folder).await?;
            let ours = remembered.get(environment.as_str());
            let before = self.files(ours, &folder).await.unwrap_or_default();
            let made = wanted(&orders, &there, &before);
            let at = match made {
                Ok(files) if files == there => {
                    // The commit that a cluster was told of before, if that is as good: others may have rewritten the branch.
                    let as_good = match (ours, head) {
                        (Some(ours), Some(head)) => before == there && self.branch.contains(head, ours).await?,
                        _ => false,
                    };
                    Ok(At::There(ours.filter(|_| as_good).or(head).cloned()))
                }
                Ok(files) => {
                    let message = message(environment, &orders);
                    batch.commits.push(FolderCommit { folder, files, message });
                    Ok(At::Made(batch.commits.len() - 1))
                }
                Err(error) => Err(error),
            };
            batch.of.insert(environment.clone(), at);
        }
        Ok(batch)
    }

    async fn files(&self, commit: Option<&CommitId>, folder: &str) -> Result<Files, GitError> {
        match commit {
            Some(commit) => self.branch.files(commit, folder, FILES, FILE_MAX).await,
            None => Ok(Files::new()),
        }
    }
}

/// How an environment's folder is to be: `there` is how the branch has it, `before` how we have written it last.
fn wanted(orders: &[&Order], there: &Files, before: &Files) -> Result<Files> {
    let sheet = Sheet::of(there);
    // Where nobody of us has written since, what we wrote counts, and not what others have made of it.
    let mut files = if sheet.is_some() && sheet == Sheet::of(before) {
        before.clone()
    } else {
        there.clone()
    };
    let mut newest = sheet.map(|sheet| sheet.generation);
    for order in orders {
        if let Some(newest) = newest.filter(|newest| order.generation < *newest) {
            return Err(superseded(order, newest));
        }
        newest = Some(order.generation);
        match &order.edit {
            Some(edit) => edit(&mut files),
            None => files.clear(),
        }
    }
    let (Some(last), Some(generation)) = (orders.last(), newest) else {
        return Ok(files);
    };
    if last.edit.is_none() {
        return Ok(files);
    }
    let write = sheet.map_or(0, |sheet| sheet.write);
    Sheet { generation, write }.put(&mut files, &last.environment);
    if files != *there {
        let write = write + 1;
        Sheet { generation, write }.put(&mut files, &last.environment);
    }
    Ok(files)
}

/// Tells those whom nobody waits for any more, and those whose environment has a newer generation waiting, that they are not written.
fn drop_superseded(waiting: &mut Vec<Waiting>) {
    let mut newest: BTreeMap<EnvironmentId, Generation> = BTreeMap::new();
    for Waiting { order, .. } in waiting.iter() {
        let of = newest.entry(order.environment.clone()).or_insert(order.generation);
        *of = order.generation.max(*of);
    }
    let (kept, dropped): (Vec<_>, Vec<_>) = std::mem::take(waiting)
        .into_iter()
        .filter(|waiting| !waiting.answer.is_closed())
        .partition(|waiting| newest.get(&waiting.order.environment) == Some(&waiting.order.generation));
    *waiting = kept;
    for Waiting { order, answer } in dropped {
        let newest = newest.get(&order.environment).copied().unwrap_or(order.generation);
        drop(answer.send(Err(superseded(&order, newest))));
    }
}

fn superseded(order: &Order, newest: Generation) -> RuntimeError {
    RuntimeError::Superseded {
        environment: order.environment.clone(),
        given: order.generation,
        newest,
    }
}

/// The same for another who waits.
fn superseded_again(error: &RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Superseded {
            environment,
            given,
            newest,
        } => RuntimeError::Superseded {
            environment: environment.clone(),
            given: *given,
            newest: *newest,
        },
        other => unreachable(reason_of(other)),
    }
}

fn reason_of(error: &RuntimeError) -> String {
    match error {
        RuntimeError::Unreachable { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// What a person reads in the history.
fn message(environment: &EnvironmentId, orders: &[&Order]) -> String {
    let what: Vec<&str> = orders.iter().map(|order| order.what.as_str()).collect();
    let about = orders.iter().find_map(|order| order.about.clone());
    let about = about.unwrap_or_else(|| environment.to_string());
    // What strangers call their branches is in it.
    let subject = format!("{about}: {}", what.join("; ")).replace(char::is_control, " ");
    format!("{subject}\n\nEnvironment: {environment}\n")
}

#[cfg(test)]
mod tests;
