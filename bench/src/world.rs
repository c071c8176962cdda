//! A real cell host as a child process, and in this process a reconciler with local forges in front of it.

use crate::{
    front::{Entry, Gate},
    traces::Traces,
    variant::Variant,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use forge::{
    Forge,
    git::{Git, GitLimits},
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::{BranchName, CommitId, EnvironmentId, Generation, InstanceId, Origin, Phase, ProjectName, SnapshotId};
use reconciler::{Project, Reconciler, Settings, Source, SpareFor, SpareSettings, SystemClock, standing};
use runtime::Runtime;
use runtime_cell::{
    CellRuntime,
    host::{HostConfig, run},
    pool::{Place, PoolConfig},
};
use secrets::Vault;
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use store::{EnvironmentRow, GoldenState, Store};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Of parts that keep little.
pub(crate) const POOL_GIB: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(90);

/// What the cell host of a bench is told.
#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    #[arg(long)]
    instance: InstanceId,
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    pool_gib: u64,
}

/// Runs the cell host until it is killed.
pub(crate) fn host(args: &HostArgs) -> Result<()> {
    let pool = PoolConfig {
        place: Place::Image {
            path: args.directory.join("pool.img"),
            size: args.pool_gib << 30,
            mountpoint: pool_root(&args.directory),
            reserve: 0,
        },
        instance: args.instance.to_string(),
        watermark_percent: 5,
    };
    let mut config = HostConfig::new(
        args.instance.clone(),
        args.run.clone(),
        args.directory.join("cells"),
        pool,
    );
    config.door_uid = Some(crate::door::UID);
    config.images.unpacker = vec!["unpack-image".to_owned()];
    run(config).context("the cell host has ended")
}

fn pool_root(directory: &Path) -> PathBuf {
    directory.join("pool")
}

/// Ended with its owner.
pub(crate) struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A reconciler, what tells it of news as a webhook would, and the gateway in front. Dropping it ends all; environments go on.
struct Running {
    _news: JoinSet<()>,
    _gate: Gate,
}

/// Everything that the shop's part runs against. Dropping it leaves nothing; fields are dropped in order.
pub(crate) struct World {
    running: Mutex<Option<Running>>,
    /// The runtime.
    pub(crate) cell: Arc<dyn Runtime>,
    /// The store.
    pub(crate) store: Store,
    /// The gateway.
    pub(crate) entry: Entry,
    forges: BTreeMap<ProjectName, Arc<LocalForge>>,
    _host: Host,
    traces: Traces,
}

impl World {
    /// Starts it with both variants of the shop.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub(crate) async fn start(shop: &Path) -> Result<Self> {
        let mut traces = Traces::new("shop")?;
        let instance = instance(std::process::id())?;
        traces.instance = Some(instance.to_string());
        let host = start_host(&instance, &traces, POOL_GIB)?;
        let cell = connect(&traces, &instance).await?;
        let store = Store::open(&traces.path().join("store.sqlite")).await?;
        let entry = Entry::new(&store, traces.path(), &traces.run).await?;
        let mut forges = BTreeMap::new();
        for variant in Variant::ALL {
            let name: ProjectName = variant.name().parse()?;
            let files = traces.path().join("files").join(variant.name());
            variant.write(shop, &files)?;
            let at = traces.path().join("forges").join(variant.name());
            let forge = LocalForge::open(at, &format!("developer/{name}").parse()?, &main_branch()?).await?;
            forge.import(&files, &main_branch()?, "The shop").await?;
            forges.insert(name, Arc::new(forge));
        }
        let world = Self {
            running: Mutex::new(None),
            cell,
            store,
            entry,
            forges,
            _host: host,
            traces,
        };
        world.reconcile(false).await?;
        Ok(world)
    }

    /// Starts the reconciler, again if it runs: with a spare for each project, or without any.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn reconcile(&self, spares: bool) -> Result<()> {
        let mut running = self.running.lock().await;
        drop(running.take());
        let projects = self.forges.iter().map(|(name, forge)| self.project(name, forge));
        let handle = Reconciler {
            store: self.store.clone(),
            runtime: Arc::clone(&self.cell),
            projects: projects.collect::<Result<_>>()?,
            git: Git::new(self.traces.path().join("git"), GitLimits::default())?,
            mirrors: self.traces.path().join("mirrors"),
            vault: Arc::new(Vault::open(
                &self.traces.path().join("secrets"),
                &self.traces.path().join("secrets.key"),
            )?),
            clock: Arc::new(SystemClock),
            settings: Settings {
                spares: SpareSettings {
                    per_project: usize::from(spares),
                    // Whether the small shop is worth one is what this shows, too.
                    wanted_for: SpareFor::AnyEngine,
                    ..SpareSettings::default()
                },
                front: self.entry.in_front(),
                ..Settings::default()
            },
        }
        .start()
        .await?;
        let mut tasks = JoinSet::new();
        for (name, forge) in &self.forges {
            // As a webhook would: it says that there is news and nothing else.
            let (nudge, name, mut news) = (handle.clone(), name.clone(), forge.subscribe());
            tasks.spawn(async move {
                while news.recv().await.is_ok() {
                    nudge.nudge_project(&name);
                }
            });
        }
        let gate = self.entry.open(self.store.clone(), Arc::clone(&self.cell), handle);
        *running = Some(Running {
            _gate: gate.await?,
            _news: tasks,
        });
        Ok(())
    }

    fn project(&self, name: &ProjectName, forge: &Arc<LocalForge>) -> Result<Project> {
        let source = Source {
            name: name.as_str().parse()?,
            forge: Arc::clone(forge) as Arc<dyn Forge>,
            repository: forge.repository_id().clone(),
            base_branch: main_branch()?,
            policy_branch: main_branch()?,
        };
        Ok(Project {
            name: name.clone(),
            base: self.entry.base(),
            sources: vec![source],
            joins: false,
            cluster: None,
        })
    }

    /// Waits until every project has its spare, or until there is none left. Returns them.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) async fn spares(&self, wanted: bool) -> Result<Vec<EnvironmentRow>> {
        let count = if wanted { self.forges.len() } else { 0 };
        self.until("the spares", async || {
            let mut rows = self.store.environment_list(None, false).await?;
            rows.retain(|row| row.origin == Origin::Spare);
            let settled = rows.iter().all(|row| row.live.is_some());
            Ok((rows.len() == count && settled).then_some(rows))
        })
        .await
    }

    /// The files of a variant.
    pub(crate) fn files(&self, variant: Variant) -> PathBuf {
        self.traces.path().join("files").join(variant.name())
    }

    /// A directory for the bare processes, passable for everybody.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.traces.path().join("bare")
    }

    /// The root of the pool.
    pub(crate) fn pool(&self) -> PathBuf {
        pool_root(self.traces.path())
    }

    fn forge(&self, variant: Variant) -> Result<&Arc<LocalForge>> {
        let name: ProjectName = variant.name().parse()?;
        self.forges.get(&name).context("there is no such forge")
    }

    /// Waits for the golden, which both variants share because their migrations and seed are the same, and for the end of what
    /// made it. Returns the milliseconds.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) async fn goldens(&self) -> Result<f64> {
        let since = Instant::now();
        self.until("the golden", async || {
            if self.ready_golden().await?.is_none() {
                return Ok(None);
            }
            let rows = self.store.environment_list(None, true).await?;
            Ok(rows.iter().all(|row| row.ended.is_some()).then_some(()))
        })
        .await?;
        Ok(since.elapsed().as_secs_f64() * 1e3)
    }

    async fn ready_golden(&self) -> Result<Option<SnapshotId>> {
        let mut ready = Vec::new();
        for name in self.forges.keys() {
            let goldens = self.store.golden_list(name).await?;
            ready.extend(
                goldens
                    .into_iter()
                    .filter(|golden| golden.seeded && golden.state == GoldenState::Ready),
            );
        }
        Ok(ready
            .into_iter()
            .max_by_key(|golden| golden.created)
            .map(|golden| golden.id))
    }

    /// The directory of the golden of PostgreSQL.
    pub(crate) async fn golden(&self) -> Result<PathBuf> {
        let golden = self.ready_golden().await?.context("there is no golden")?;
        Ok(self.pool().join("snapshots").join(golden.as_str()).join("tree"))
    }

    /// Opens a pull request that changes the page. Returns its number.
    pub(crate) async fn open(&self, variant: Variant, round: &str) -> Result<(u64, News)> {
        let forge = self.forge(variant)?;
        let branch: BranchName = format!("topic-{round}").parse()?;
        let change = [page(&format!("opened {round}"))];
        forge
            .commit(&branch, Some(&main_branch()?), &change, "Change the page")
            .await?;
        // The branch is news, too; nobody waits for it.
        sleep(Duration::from_millis(200)).await;
        let new = NewPullRequest::new(branch, main_branch()?, "Change the page");
        let (opened, news) = tokio::join!(forge.open_pull_request(new), first_news(forge));
        Ok((opened?.number.0, news?))
    }

    /// Pushes a further commit.
    pub(crate) async fn push(&self, variant: Variant, round: &str) -> Result<(CommitId, News)> {
        let forge = self.forge(variant)?;
        let branch: BranchName = format!("topic-{round}").parse()?;
        let change = [page(&format!("pushed {round}"))];
        let commit = forge.commit(&branch, None, &change, "Change it again");
        let (commit, news) = tokio::join!(commit, first_news(forge));
        Ok((commit?, news?))
    }

    /// Closes the pull request.
    pub(crate) async fn close(&self, variant: Variant, number: u64) -> Result<News> {
        let forge = self.forge(variant)?;
        let (closed, news) = tokio::join!(forge.close(forge::PullRequestNumber(number)), first_news(forge));
        closed?;
        news
    }

    /// Waits until the pull request's environment is live, at this commit if one is given.
    pub(crate) async fn live(
        &self,
        variant: Variant,
        number: u64,
        commit: Option<&CommitId>,
    ) -> Result<EnvironmentRow> {
        let project: ProjectName = variant.name().parse()?;
        self.until("live", async || {
            let rows = self.store.environment_list(None, false).await?;
            let ours = |row: &EnvironmentRow| row.project == project && row.origin == Origin::PullRequest { number };
            let Some(row) = rows.into_iter().find(ours) else {
                return Ok(None);
            };
            // Whoever looks takes time from what is looked at: more is read only when there may be something to see.
            if row.failed.is_none() && (row.live.is_none() || row.live != row.newest) {
                return Ok(None);
            }
            let generations = self.store.generation_list(&row.id).await?;
            let at_commit = commit.is_none_or(|commit| {
                let newest = generations.iter().max_by_key(|g| g.generation);
                newest.is_some_and(|g| g.spec.sources.values().any(|c| c == commit))
            });
            let phase = standing(&row, &generations).1;
            if phase == Phase::Failed {
                bail!("the environment failed: {generations:?}");
            }
            Ok((at_commit && phase == Phase::Live).then_some(row))
        })
        .await
    }

    /// Waits until the receipt is complete. Returns how many entries it has.
    pub(crate) async fn receipt(&self, id: &EnvironmentId) -> Result<usize> {
        self.until("a receipt", async || {
            Ok(self.store.receipt_get(id).await?.map(|r| r.entries.len()))
        })
        .await
    }

    /// Looks whenever something of what is looked for was written. Whoever looks more often measures himself.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let mut changes = self.store.subject_changes();
        let found = timeout(PATIENCE, async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                let _ = timeout(Duration::from_millis(500), changes.changed()).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => bail!("not there after {} s: {what}", PATIENCE.as_secs()),
        }
    }

    /// Removes every environment as the reconciler would; whatever is left is ended when this is dropped.
    pub(crate) async fn end(self) {
        for row in self.store.environment_list(None, false).await.unwrap_or_default() {
            let newest = row.newest.unwrap_or(Generation(1));
            let removed = self.cell.remove(&row.id, Generation(newest.0 + 1)).await;
            if let Err(error) = removed {
                tracing::warn!(environment = %row.id, %error, "could not be removed in order");
            }
        }
        drop(self.running.lock().await.take());
    }
}

/// When news came, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    /// To measure by.
    pub(crate) at: Instant,
    /// To compare with what the store says.
    pub(crate) wall: SystemTime,
}

/// The moment at which the forge tells of the next thing: as if a webhook had been received. It listens from this call on, also
/// before the future is asked for the first time.
fn first_news(forge: &LocalForge) -> impl Future<Output = Result<News>> + use<> {
    let mut news = forge.subscribe();
    async move {
        timeout(PATIENCE, news.recv())
            .await
            .context("the forge told nothing")??;
        Ok(News {
            at: Instant::now(),
            wall: SystemTime::now(),
        })
    }
}

fn page(text: &str) -> FileChange {
    let theme = serde_json::json!({ "accent": "#123456", "headline": text, "banner": "" });
    FileChange::write("web/theme.json", theme.to_string())
}

fn main_branch() -> Result<BranchName> {
    Ok("main".parse()?)
}

/// The id of an installation that no other process of this kind has.
pub(crate) fn instance(pid: u32) -> Result<InstanceId> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = String::from("b");
    let mut rest = pid as usize;
    for _ in 0..5 {
        text.push(char::from(DIGITS[rest % 36]));
        rest /= 36;
    }
    Ok(text.parse()?)
}

/// Starts a cell host.
pub(crate) fn start_host(instance: &InstanceId, traces: &Traces, pool_gib: u64) -> Result<Host> {
    let log = File::create(traces.path().join("host.log"))?;
    let child = Command::new("/proc/self/exe")
        .args(["host", "--instance", instance.as_str()])
        .arg("--run")
        .arg(&traces.run)
        .arg("--directory")
        .arg(traces.path())
        .args(["--pool-gib", &pool_gib.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("the cell host can not be started")?;
    Ok(Host(child))
}

/// Waits until it answers.
pub(crate) async fn connect(traces: &Traces, instance: &InstanceId) -> Result<Arc<dyn Runtime>> {
    let since = Instant::now();
    loop {
        match CellRuntime::connect(&traces.run, instance.clone()).await {
            Ok(cell) => return Ok(Arc::new(cell)),
            Err(error) if since.elapsed() > PATIENCE => {
                let log = std::fs::read_to_string(traces.path().join("host.log")).unwrap_or_default();
                return Err(error).context(format!("the cell host said: {log}"));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
