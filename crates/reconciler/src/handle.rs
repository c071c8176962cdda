//! Starting the reconciler, and what others may ask of it.

mod runs;
mod secrets_of;
mod spares;
mod update;

use crate::{
    clock::Clock,
    context::{Context, Settings, Trouble},
    heads::Heads,
    nudge::Nudges,
    pins,
    places::Places,
    project::{Project, Source},
    pulls,
    repository::{Repositories, RepositoryError},
    task::{self, forges::siblings},
    trust::{self, Trust},
};
use forge::{BranchFact, PullRequestFact, PullRequestNumber, git::Git};
use model::{BranchName, CommitId, EnvironmentId, JobName, Origin, Power, ProjectName, ServiceName, SourceName};
use planner::{Desired, Plan};
use runtime::Runtime;
use secrets::Vault;
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};
use store::{EnvironmentPatch, EnvironmentRow, Outcome, Store};
use tokio::task::JoinSet;

pub use secrets_of::SecretUser;

/// What the reconciler is made from.
pub struct Reconciler {
    /// What is remembered.
    pub store: Store,
    /// Where environments run that are not on a cluster ([`Settings::clusters`]).
    pub runtime: Arc<dyn Runtime>,
    /// What is looked after.
    pub projects: Vec<Project>,
    /// Runs git.
    pub git: Git,
    /// Where mirrors of the sources are kept.
    pub mirrors: PathBuf,
    /// The secrets of all projects.
    pub vault: Arc<Vault>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Intervals.
    pub settings: Settings,
}

/// The reconciler could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not answer.
    #[error("the store can not be read")]
    Store(#[source] store::StoreError),
    /// A store that knows nothing may have been lost, and what exists can not be looked at.
    #[error("what exists can not be listed: {0}")]
    Recover(String),
    /// A mirror could not be opened.
    #[error("the mirrors of the sources can not be opened")]
    Repository(#[source] RepositoryError),
}

/// Something that a person asked for and that could not be noted.
#[derive(Debug, thiserror::Error)]
pub enum Intent {
    /// The project is not configured.
    #[error("there is no project {0}")]
    NoProject(ProjectName),
    /// The branch does not exist.
    #[error("there is no branch {0}")]
    NoBranch(BranchName),
    /// The commit is not the newest one.
    #[error("{given} is not the newest commit, {newest} is", given = .given.short())]
    Moved {
        /// The commit that was named.
        given: CommitId,
        /// The newest one.
        newest: CommitId,
    },
    /// The environment belongs to no pull request that is open.
    #[error("{0} belongs to no open pull request")]
    NoPullRequest(EnvironmentId),
    /// The environment has no such service.
    #[error("there is no service {0}")]
    NoService(ServiceName),
    /// The environment has no such job that people run.
    #[error("there is no job {0} that is run by hand")]
    NoJob(JobName),
    /// It can not be done at present.
    #[error("{0}")]
    NotNow(String),
    /// The policy does not allow it.
    #[error("{what}")]
    NotAllowed {
        /// What it was.
        what: String,
        /// What would allow it.
        hint: String,
    },
    /// What would run then can not.
    #[error("{0}")]
    Unusable(String),
    /// The environment does not exist, or has ended.
    #[error("there is no environment {0}")]
    NoEnvironment(EnvironmentId),
    /// There is one already.
    #[error("there is an environment for that already")]
    Exists,
    /// Nothing can be written down.
    #[error("the disk of the server's state directory is full")]
    DiskFull,
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
}

impl From<Trouble> for Intent {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoProject(name) => Self::NoProject(name),
            Trouble::Store(error) => error.into(),
            trouble => Self::Failed(crate::text::chain(&trouble)),
        }
    }
}

impl From<store::StoreError> for Intent {
    fn from(error: store::StoreError) -> Self {
        if error.is_full() {
            return Self::DiskFull;
        }
        Self::Failed(crate::text::chain(&error))
    }
}

/// A running reconciler. Dropping the last handle ends its tasks; environments go on.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    _tasks: Arc<JoinSet<()>>,
}

impl Reconciler {
    /// Starts all tasks.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Handle, StartError> {
        let instance = self.store.instance().await.map_err(StartError::Store)?;
        let repositories = Repositories::open(&self.git, self.mirrors, self.projects.iter())
            .await
            .map_err(StartError::Repository)?;
        let clusters = self.settings.clusters.clone();
        let places = Arc::new(Places::new(self.store.clone(), self.runtime, clusters));
        let context = Arc::new(Context {
            instance,
            store: self.store,
            runtime: Arc::clone(&places) as _,
            places,
            projects: self
                .projects
                .into_iter()
                .map(|project| (project.name.clone(), project))
                .collect(),
            repositories,
            vault: self.vault,
            heads: Heads::default(),
            clock: self.clock,
            nudges: Nudges::default(),
            settings: self.settings,
            spares: task::spares::Spares::default(),
            images: crate::image::Images::default(),
            completing: tokio::sync::Mutex::default(),
        });
        task::recover::after_loss(&context)
            .await
            .map_err(|trouble| StartError::Recover(crate::text::chain(&trouble)))?;
        let before = context.store.job_run_list_open().await.map_err(StartError::Store)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(task::environments::run(Arc::clone(&context)));
        tasks.spawn(task::runtime_changes::run(Arc::clone(&context)));
        tasks.spawn(task::goldens::run(Arc::clone(&context)));
        tasks.spawn(task::images::run(Arc::clone(&context)));
        tasks.spawn(task::announce::run(Arc::clone(&context)));
        tasks.spawn(task::sweep::run(Arc::clone(&context)));
        tasks.spawn(task::spares::run(Arc::clone(&context)));
        tasks.spawn(task::runs::run(Arc::clone(&context), before));
        for name in context.projects.keys() {
            tasks.spawn(task::forges::run(Arc::clone(&context), name.clone()));
        }
        Ok(Handle {
            context,
            _tasks: Arc::new(tasks),
        })
    }
}

impl Handle {
    /// All runtimes as one, which gives each environment to the one it is on.
    #[must_use]
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.context.runtime)
    }

    /// Something about this environment may have changed.
    pub fn nudge_environment(&self, id: &EnvironmentId) {
        self.context.nudges.environment(id);
    }

    /// Something on this project's forge may have changed.
    pub fn nudge_project(&self, name: &ProjectName) {
        self.context.nudges.project(name);
    }

    /// What people should know while the settings on a project's policy branch can not be used.
    #[must_use]
    pub fn policy_note(&self, project: &ProjectName) -> Option<String> {
        self.context.heads.note(project)
    }

    /// The projects that are looked after.
    pub fn projects(&self) -> impl Iterator<Item = &Project> {
        self.context.projects.values()
    }

    /// The plan of an environment as it stands: the steps that people see while they wait, and in `why`.
    ///
    /// # Errors
    /// [`Intent::NoEnvironment`], or whatever keeps it from being observed.
    pub async fn plan(&self, id: &EnvironmentId) -> Result<Plan, Intent> {
        let row = self.environment(id).await?;
        let Some(last) = self.context.store.generation_newest(id).await? else {
            return Ok(Plan::default());
        };
        let last = crate::environment::stops::numbered(&self.context, last).await?;
        let observed = crate::environment::observe::observe(&self.context, id, Some(&last), BTreeSet::new()).await?;
        let desired = if row.wanted {
            Desired::Present {
                spec: &last.spec,
                power: row.power_now(),
            }
        } else {
            Desired::Absent {
                last: Some(&last.spec),
                generation: last.generation.next(),
            }
        };
        Ok(planner::plan(
            &desired,
            &observed,
            self.context.capabilities(row.cluster.as_ref())?,
            self.context.now(),
        ))
    }

    /// Wants an environment of a branch: it follows pushes and ends with its branch. The base branch's is the baseline.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn create_branch(
        &self,
        project: &ProjectName,
        branch: &BranchName,
        reason: &str,
    ) -> Result<EnvironmentRow, Intent> {
        let project = self.context.project(project)?;
        let Some(source) = project.primary() else {
            return Err(Intent::NoProject(project.name.clone()));
        };
        let fact = source
            .forge
            .branch(&source.repository, branch)
            .await
            .map_err(Trouble::from)?;
        let BranchFact::At(commit) = fact else {
            return Err(Intent::NoBranch(branch.clone()));
        };
        let origin = if *branch == source.base_branch {
            Origin::Baseline { branch: branch.clone() }
        } else {
            Origin::Branch { branch: branch.clone() }
        };
        let via = format!("refs/heads/{branch}");
        let _using = self.context.repositories.in_use.read().await;
        self.context
            .repositories
            .ensure(&project.name, source, &commit, Some(&via))
            .await
            .map_err(Trouble::from)?;
        if let Origin::Baseline { .. } = &origin
            && let Some(row) = self.context.store.environment_find(&project.name, &origin).await?
            && row.wanted
            && row.power != Power::Running
        {
            return self.wake(&row, reason).await;
        }
        let wish = siblings::Wish::of(project, &origin, (*branch != source.base_branch).then_some(branch));
        let mut sight = siblings::Sight::default();
        let found = siblings::find(&self.context, project, &wish, &mut sight).await?;
        let head = (&source.name, &commit);
        self.create(project, origin, head, found, reason, serde_json::json!({}))
            .await
    }

    /// The policy's own baseline sleeps until somebody wants it.
    async fn wake(&self, row: &EnvironmentRow, reason: &str) -> Result<EnvironmentRow, Intent> {
        let patch = EnvironmentPatch {
            power: Some(Power::Running),
            ..EnvironmentPatch::default()
        };
        let store = &self.context.store;
        store.environment_update(&row.id, &patch).await?;
        store
            .event_add(Some(&row.id), &row.project, self.context.now(), "wake", reason)
            .await?;
        self.nudge_environment(&row.id);
        Ok(EnvironmentRow {
            power: Power::Running,
            ..row.clone()
        })
    }

    /// Wants a copy of an environment at the commits that it has now.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn create_clone(&self, of: &EnvironmentId, reason: &str) -> Result<EnvironmentRow, Intent> {
        let _using = self.context.repositories.in_use.read().await;
        let row = self.environment(of).await?;
        let project = self.context.project(&row.project)?;
        let commit = project.primary().and_then(|source| row.head.get(&source.name)).cloned();
        let (Some(commit), true) = (commit, row.approved_commit.is_some()) else {
            return Err(Intent::Failed("its commit is not approved".to_owned()));
        };
        if !trust::is_approved(project, &row) {
            return Err(Intent::Failed("its newest commit is not approved".to_owned()));
        }
        let overrides = match trust::of(&self.context, &row).await? {
            Trust::Full => serde_json::json!({ trust::TRUSTED: commit.as_str() }),
            Trust::Approved => serde_json::json!({}),
        };
        let Some(source) = project.primary() else {
            return Err(Intent::NoProject(project.name.clone()));
        };
        let pins = pins::pins(&row);
        let mut found = std::collections::BTreeMap::new();
        for further in project.further() {
            let branch = pins.get(&further.name).and_then(|pin| pin.branch.clone());
            let commit = row.head.get(&further.name).cloned();
            let at = commit.map(|commit| (branch.unwrap_or_else(|| further.base_branch.clone()), commit));
            let none = || format!("has no commit in {}", row.label);
            found.insert(further.name.clone(), at.ok_or_else(none));
        }
        let origin = Origin::Clone { of: of.clone() };
        self.create(project, origin, (&source.name, &commit), found, reason, overrides)
            .await
    }

    async fn create(
        &self,
        project: &Project,
        origin: Origin,
        (source, commit): (&SourceName, &CommitId),
        found: std::collections::BTreeMap<SourceName, siblings::Found>,
        reason: &str,
        overrides: serde_json::Value,
    ) -> Result<EnvironmentRow, Intent> {
        if self
            .context
            .store
            .environment_find(&project.name, &origin)
            .await?
            .is_some()
        {
            return Err(Intent::Exists);
        }
        let new = task::forges::New {
            origin: origin.clone(),
            head: Some((source, commit)),
            found,
            approved: Some(commit),
            power: Power::Running,
            reason,
            overrides,
        };
        task::forges::create(&self.context, project, new).await?;
        let made = self.context.store.environment_find(&project.name, &origin).await?;
        made.ok_or(Intent::Exists)
    }

    /// Wants a commit of the source that leads in an environment, until its branch moves on.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn deploy(&self, id: &EnvironmentId, commit: &CommitId) -> Result<(), Intent> {
        self.deploy_of(id, None, commit).await
    }

    /// Wants a commit of a source in an environment, until its branch moves on.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn deploy_of(
        &self,
        id: &EnvironmentId,
        source: Option<&SourceName>,
        commit: &CommitId,
    ) -> Result<(), Intent> {
        let row = self.environment(id).await?;
        let project = self.context.project(&row.project)?;
        let shared = matches!(row.origin, Origin::PullRequests { .. });
        let leading = project.leading(&row.origin).filter(|_| !shared);
        let named = match source {
            Some(name) => project.source(name),
            None => leading.or(project.primary()),
        };
        let Some(source) = named else {
            return Err(Intent::NoProject(project.name.clone()));
        };
        if leading.is_none_or(|leading| leading.name != source.name) {
            return self.deploy_further(&row, project, source, commit).await;
        }
        let using = self.context.repositories.in_use.read().await;
        self.context
            .repositories
            .ensure(&project.name, source, commit, None)
            .await
            .map_err(Trouble::from)?;
        // Read anew: fetching takes time in which somebody may ask for something else.
        let row = self.environment(id).await?;
        let mut overrides = row.overrides.clone();
        let followed = row.overrides.get("followed").cloned();
        let current = row.head.get(&source.name).map(|head| serde_json::json!(head.as_str()));
        if let (Some(fields), Some(followed)) = (overrides.as_object_mut(), followed.or(current)) {
            fields.insert("followed".to_owned(), followed);
        }
        let mut head = row.head.clone();
        let before = head.insert(source.name.clone(), commit.clone());
        // What failed for good is tried once more for whoever asks for it again: the world around it may have changed.
        let newest = self.context.store.generation_newest(id).await?;
        let failed = newest
            .as_ref()
            .is_some_and(|n| n.outcome == Some(Outcome::Failed) || n.restores.is_some());
        let again = failed && before.as_ref() == Some(commit);
        if let (true, Some(fields)) = (again, overrides.as_object_mut()) {
            let count = fields.get("asked").and_then(serde_json::Value::as_u64).unwrap_or(0);
            fields.insert("asked".to_owned(), serde_json::json!(count + 1));
        }
        let patch = EnvironmentPatch {
            head: Some(head),
            approved_commit: Some(Some(commit.clone())),
            overrides: Some(overrides),
            ..EnvironmentPatch::default()
        };
        self.context.store.environment_update(id, &patch).await?;
        drop(using);
        self.nudge_environment(id);
        if again {
            self.made(id, newest.map(|newest| newest.generation)).await?;
        }
        Ok(())
    }

    /// A commit of a source whose branch the environment follows beside that of its pull request.
    async fn deploy_further(
        &self,
        row: &EnvironmentRow,
        project: &Project,
        source: &Source,
        commit: &CommitId,
    ) -> Result<(), Intent> {
        let _using = self.context.repositories.in_use.read().await;
        self.context
            .repositories
            .ensure(&project.name, source, commit, None)
            .await
            .map_err(Trouble::from)?;
        // Read anew, as above.
        let row = self.environment(&row.id).await?;
        let mut deployed = pins::deployed(&row);
        if let Some(current) = row.head.get(&source.name) {
            deployed.entry(source.name.clone()).or_insert_with(|| current.clone());
        }
        let mut head = row.head.clone();
        head.insert(source.name.clone(), commit.clone());
        let patch = EnvironmentPatch {
            head: Some(head),
            overrides: Some(pins::with_deployed(&row.overrides, &deployed)),
            ..EnvironmentPatch::default()
        };
        self.context.store.environment_update(&row.id, &patch).await?;
        self.nudge_environment(&row.id);
        Ok(())
    }

    /// Lets the newest commit of a pull request run, whoever pushed it. The commit is named, so that one that was pushed since
    /// somebody read the change is not approved with it.
    ///
    /// # Errors
    /// [`Intent::Moved`] if another commit is the newest one by now.
    pub async fn approve(&self, id: &EnvironmentId, commit: &CommitId, who: &str) -> Result<(), Intent> {
        let row = self.environment(id).await?;
        let project = self.context.project(&row.project)?;
        // Of several that share the environment, the one whose newest commit this is.
        let pulls = pulls::pull_requests(&self.context.store, project, &row)
            .await
            .map_err(Trouble::from)?;
        let named = pulls.iter().find(|pull| pull.head == *commit).or(pulls.first());
        let of = named.and_then(|pull| Some((project.source(&pull.source)?, pull.number)));
        let Some((source, number)) = of.or(project.pull_request_of(&row.origin)) else {
            return Err(Intent::NoPullRequest(id.clone()));
        };
        let number = PullRequestNumber(number);
        let fact = source
            .forge
            .pull_request(&source.repository, number)
            .await
            .map_err(Trouble::from)?;
        let pull = match fact {
            PullRequestFact::Present(pull) if pull.state.is_open() && row.wanted => pull,
            _ => return Err(Intent::NoPullRequest(id.clone())),
        };
        if pull.head != *commit {
            let given = commit.clone();
            return Err(Intent::Moved {
                given,
                newest: pull.head,
            });
        }
        let _using = self.context.repositories.in_use.read().await;
        self.context
            .repositories
            .ensure(&project.name, source, commit, Some(&pull.fetch_ref))
            .await
            .map_err(Trouble::from)?;
        // Read anew, as above.
        let row = self.environment(id).await?;
        let mut patch = task::forges::approvals::given(&row, &source.name, commit);
        if !matches!(row.origin, Origin::PullRequests { .. }) {
            let (mut head, mut overrides) = (row.head.clone(), row.overrides.clone());
            head.insert(source.name.clone(), commit.clone());
            if let Some(fields) = overrides.as_object_mut() {
                fields.remove("followed");
            }
            (patch.head, patch.overrides) = (Some(head), Some(overrides));
        }
        self.context.store.environment_update(id, &patch).await?;
        self.nudge_project(&project.name);
        Ok(task::forges::approvals::approved(&self.context, &row, commit, who).await?)
    }

    /// Wants an environment gone. One of a pull request stays away until the next push; `again` has it made anew at once.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn delete(&self, id: &EnvironmentId, reason: &str, again: bool) -> Result<(), Intent> {
        let row = self.environment(id).await?;
        if row.origin == Origin::Spare {
            return self.delete_spare(&row, reason).await;
        }
        let mut overrides = row.overrides.clone();
        if let Some(fields) = overrides.as_object_mut().filter(|_| !again) {
            fields.insert(task::forges::DELETED.to_owned(), serde_json::json!(true));
        }
        let patch = EnvironmentPatch {
            wanted: Some(false),
            reason: Some(reason.to_owned()),
            overrides: Some(overrides),
            ..EnvironmentPatch::default()
        };
        self.context.store.environment_update(id, &patch).await?;
        self.nudge_environment(id);
        self.context.nudges.announcements();
        Ok(())
    }

    async fn environment(&self, id: &EnvironmentId) -> Result<EnvironmentRow, Intent> {
        let row = self.context.store.environment_get(id).await?;
        row.filter(|row| row.ended.is_none())
            .ok_or_else(|| Intent::NoEnvironment(id.clone()))
    }
}
