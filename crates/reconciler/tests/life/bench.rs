//! A bench on which a pull request lives its life.

use crate::gate::Gate;
use forge::{
    Forge, PullRequestNumber, StatusState,
    git::{Git, GitLimits},
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::{BranchName, CommitId, EnvironmentId, Origin, Phase, Resource, Timestamp};
use reconciler::{Base, Clock, Handle, Project, Reconciler, Settings, Source, standing};
use runtime::{Runtime, simulator::Simulator};
use secrets::Vault;
use std::{sync::Arc, time::Duration};
use store::{EnvironmentRow, Store};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Nothing on this bench takes longer, unless it never happens. Simulated time goes ten times as fast as ours, and more slowly on a
/// machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// So many looks, 10 ms apart or more, take as long as that.
pub(crate) const LOOKS: usize = 18_000;

struct SimulatedClock(Simulator);

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

pub(crate) struct Bench {
    pub(crate) forge: Arc<LocalForge>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) simulator: Simulator,
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
    pub(crate) handle: Option<Handle>,
    /// Read at each start.
    pub(crate) settings: Settings,
    /// The name of the project in the configuration, read at each start.
    pub(crate) project: &'static str,
    /// The name of its source.
    pub(crate) source: &'static str,
    /// A further source called `api`.
    pub(crate) api: Option<Arc<Gate>>,
    /// Whether pull requests of one branch share an environment.
    pub(crate) joins: bool,
    /// The cluster that is the project's target, read at each start.
    pub(crate) cluster: Option<&'static str>,
    clock: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

pub(crate) fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

/// A Compose file with one public service that prints and answers `text`.
pub(crate) fn compose(text: &str) -> String {
    format!(
        "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\n{text}\"]\n    \
         ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    depends_on: [cache]\n  cache:\n    image: redis:7\n"
    )
}

pub(crate) const SETTINGS: &str =
    "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// With other settings than the intervals, which are short here.
    pub(crate) async fn with(settings: Settings) -> Self {
        Self::on(Simulator::new(), settings).await
    }

    /// The same on a runtime that builds from Dockerfiles.
    pub(crate) async fn with_builds(settings: Settings) -> Self {
        let mut capabilities = Simulator::new().capabilities().clone();
        capabilities.features.insert(model::Feature::Builds);
        Self::on(Simulator::with(capabilities), settings).await
    }

    async fn on(simulator: Simulator, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = "developer/shop".parse().unwrap();
        let forge = Arc::new(
            LocalForge::open(directory.path().join("forge"), &path, &branch("main"))
                .await
                .unwrap(),
        );
        let files = [
            FileChange::write("compose.yaml", compose("one")),
            FileChange::write("maquette.yaml", SETTINGS),
        ];
        forge.commit(&branch("main"), None, &files, "Begin").await.unwrap();
        let ticking = simulator.clone();
        let clock = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(5)).await;
                ticking.advance(Duration::from_millis(50));
            }
        });
        let store = Store::open(&directory.path().join("store.sqlite")).await.unwrap();
        let mut bench = Self {
            gate: Arc::new(Gate::new(Arc::clone(&forge))),
            forge,
            simulator,
            store,
            directory,
            handle: None,
            settings,
            project: "shop",
            source: "shop",
            api: None,
            joins: false,
            cluster: None,
            clock,
        };
        bench.start().await;
        bench
    }

    pub(crate) async fn start(&mut self) {
        let git = Git::new(self.directory.path().join("git"), GitLimits::default()).unwrap();
        let source = Source {
            name: self.source.parse().unwrap(),
            forge: Arc::clone(&self.gate) as Arc<dyn Forge>,
            repository: self.forge.repository_id().clone(),
            base_branch: branch("main"),
            policy_branch: branch("main"),
        };
        let further = self.api.as_ref().map(|gate| Source {
            name: "api".parse().unwrap(),
            forge: Arc::clone(gate) as Arc<dyn Forge>,
            repository: gate.local().repository_id().clone(),
            base_branch: branch("main"),
            policy_branch: branch("main"),
        });
        let base = Base {
            scheme: "http".into(),
            domain: "preview.test".into(),
            port: None,
            shared: false,
        };
        let reconciler = Reconciler {
            store: self.store.clone(),
            runtime: Arc::new(self.simulator.clone()),
            projects: vec![Project {
                name: self.project.parse().unwrap(),
                base,
                sources: std::iter::once(source).chain(further).collect(),
                joins: self.joins,
                cluster: self.cluster.map(|name| name.parse().unwrap()),
            }],
            git,
            mirrors: self.directory.path().join("mirrors"),
            vault: Arc::new(
                Vault::open(
                    &self.directory.path().join("secrets"),
                    &self.directory.path().join("secrets.key"),
                )
                .unwrap(),
            ),
            clock: Arc::new(SimulatedClock(self.simulator.clone())),
            settings: Settings {
                poll_interval: Duration::from_millis(100),
                sweep_interval: Duration::from_secs(2),
                look_interval: Duration::from_millis(200),
                ..self.settings.clone()
            },
        };
        self.handle = Some(reconciler.start().await.unwrap());
    }

    /// Has the forge looked at.
    pub(crate) fn nudge(&self) {
        if let Some(handle) = &self.handle {
            handle.nudge_project(&self.project.parse().unwrap());
        }
    }

    /// Has the goldens looked at: a new commit of the policy branch does that.
    pub(crate) async fn nudge_goldens(&self) {
        let text = format!("{:?}", self.simulator.now());
        let more = [FileChange::write("README", text)];
        self.forge.commit(&branch("main"), None, &more, "More").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        self.nudge();
        sleep(Duration::from_millis(100)).await;
    }

    /// Lets time pass in which somebody looks at the forge.
    pub(crate) async fn pass(&self, time: Duration) {
        self.simulator.advance(time);
        self.nudge();
        sleep(Duration::from_millis(15)).await;
    }

    /// Ends every task of the reconciler at once, wherever it is.
    pub(crate) fn kill(&mut self) {
        self.handle = None;
    }

    pub(crate) async fn open(&self, name: &str) -> PullRequestNumber {
        self.push(name, &compose("two")).await;
        let new = NewPullRequest::new(branch(name), branch("main"), "A change");
        self.forge.open_pull_request(new).await.unwrap().number
    }

    /// Lets every try to comment on this pull request fail.
    pub(crate) fn spoil_comments(&self, number: u64) {
        let comments = self.directory.path().join("forge/comments");
        std::fs::create_dir_all(&comments).unwrap();
        std::fs::write(comments.join(number.to_string()), "").unwrap();
    }

    pub(crate) async fn push(&self, name: &str, compose: &str) -> CommitId {
        let files = [FileChange::write("compose.yaml", compose)];
        self.forge
            .commit(&branch(name), Some(&branch("main")), &files, "Change")
            .await
            .unwrap()
    }

    /// All environments of a pull request, the newest last.
    pub(crate) async fn environments(&self, number: PullRequestNumber) -> Vec<EnvironmentRow> {
        let origin = Origin::PullRequest { number: number.0 };
        let mut rows = self.store.environment_list(None, true).await.unwrap();
        rows.retain(|row| row.origin == origin);
        rows
    }

    pub(crate) async fn phase(&self, id: &EnvironmentId) -> Phase {
        let row = self.store.environment_get(id).await.unwrap().unwrap();
        standing(&row, &self.store.generation_list(id).await.unwrap()).1
    }

    /// Waits until the pull request's only environment that has not ended is in this phase at this commit.
    pub(crate) async fn reaches(
        &self,
        number: PullRequestNumber,
        phase: Phase,
        commit: Option<&CommitId>,
    ) -> EnvironmentRow {
        let wait = async {
            loop {
                if let Some(row) = self.environments(number).await.pop() {
                    let at = commit.is_none_or(|commit| row.head.values().any(|head| head == commit));
                    if at && self.phase(&row.id).await == phase {
                        // It was read before its phase.
                        return self.store.environment_get(&row.id).await.unwrap().unwrap();
                    }
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => panic!(
                "pull request {number} never reached {phase:?}:\n{}",
                self.report(number).await
            ),
        }
    }

    async fn report(&self, number: PullRequestNumber) -> String {
        let mut text = String::new();
        for row in self.environments(number).await {
            text += &format!("{row:#?}\nphase {:?}\n", self.phase(&row.id).await);
            for generation in self.store.generation_list(&row.id).await.unwrap() {
                text += &format!(
                    "{:?} {:?} {:?}\n",
                    generation.generation, generation.outcome, generation.failure
                );
                let attempts = self.store.attempt_list(&row.id, generation.generation).await.unwrap();
                text += &format!("  attempts {attempts:#?}\n");
            }
            if let Some(handle) = &self.handle {
                text += &format!("{:#?}\n", handle.plan(&row.id).await);
            }
        }
        text
    }

    /// Waits until our comment contains this text.
    pub(crate) async fn comment_says(&self, number: PullRequestNumber, text: &str) -> String {
        let wait = async {
            loop {
                let comments = self.forge.comments(number).unwrap();
                if let [only] = comments.as_slice()
                    && only.body.contains(text)
                {
                    return only.body.clone();
                }
                assert!(comments.len() < 2, "two comments: {comments:#?}");
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(body) => body,
            Err(_) => panic!(
                "the comment never said {text:?}: {:#?}",
                self.forge.comments(number).unwrap()
            ),
        }
    }

    /// Waits until our status of a commit is this and contains the text. It is written after the comment, and there is none at
    /// first.
    pub(crate) async fn status_says(&self, commit: &CommitId, state: StatusState, text: &str) -> String {
        let wait = async {
            loop {
                if let Some(status) = self.forge.status(commit).unwrap()
                    && status.state == state
                    && status.description.contains(text)
                {
                    return status.description;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(description) => description,
            Err(_) => panic!(
                "the status of {commit} never was {state:?} {text:?}: {:?}",
                self.forge.status(commit).unwrap()
            ),
        }
    }

    /// Commits settings to the policy branch: what `stack:` is for all, and this policy.
    pub(crate) async fn rule(&self, policy: &str) -> CommitId {
        let settings = format!("stack:\n  services:\n    web: {{ host: true, public: true }}\npolicy: {policy}\n");
        let files = [FileChange::write("maquette.yaml", settings)];
        self.forge.commit(&branch("main"), None, &files, "Rule").await.unwrap()
    }

    /// Lets a branch begin or end at a commit, whatever was there, as a push with force does.
    pub(crate) fn set_branch(&self, name: &str, commit: &CommitId) {
        let done = std::process::Command::new("git")
            .arg("-C")
            .arg(self.forge.repository_dir())
            .args(["update-ref", &format!("refs/heads/{name}"), commit.as_str()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// Waits until the environment is in this phase; or says where it is instead.
    pub(crate) async fn stands(&self, id: &EnvironmentId, phase: Phase) -> EnvironmentRow {
        let wait = async {
            while self.phase(id).await != phase {
                sleep(Duration::from_millis(10)).await;
            }
            self.store.environment_get(id).await.unwrap().unwrap()
        };
        match timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => panic!("{id} never was {phase:?}, it is {:?}", self.phase(id).await),
        }
    }

    pub(crate) async fn inventory(&self) -> Vec<Resource> {
        match self.simulator.inventory(None).await {
            Ok(found) => found,
            // A fault that was ordered for a later call than this life needed hits the question itself.
            Err(_) => self.simulator.inventory(None).await.unwrap(),
        }
    }

    /// At no time are there two environments for one pull request.
    pub(crate) async fn assert_one(&self, number: PullRequestNumber) {
        let open = self
            .environments(number)
            .await
            .into_iter()
            .filter(|row| row.ended.is_none())
            .count();
        assert!(open <= 1, "{open} environments");
    }
}
