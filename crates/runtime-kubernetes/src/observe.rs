//! What is known of the cluster: one watch per kind for all environments of this installation, never one per namespace.

mod facts;
mod why;

use crate::{
    api::{jittered, unreachable},
    build::labels::{self, ENVIRONMENT, INSTANCE, MARKER},
    gitops::Application,
};
use futures::TryStreamExt;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{self, Lookup, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use model::{EnvironmentId, InstanceId};
use runtime::Result;
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
};

pub(crate) use facts::{Seen, job_exit, job_timed_out, of_job, of_service};
pub(crate) use why::hopeless;

/// How long the first listing of all kinds may take.
const FIRST: Duration = Duration::from_secs(30);

/// The pause before a watch that failed is begun again: the first, and the longest.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// How many kinds of objects are watched, whoever delivers.
const KINDS: usize = 7;

/// How many changes wait for whoever listens; who is slower looks at everything.
const CHANGES: usize = 1024;

/// How many objects one answer to a watch's listing holds.
const PAGE: u32 = 500;

/// Everything that is watched.
pub(crate) struct Watches {
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) markers: Store<ConfigMap>,
    pub(crate) pods: Store<Pod>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) jobs: Store<Job>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    /// Argo CD's, where it delivers; otherwise none.
    pub(crate) applications: Store<Application>,
    shared: Arc<Shared>,
    /// How many kinds are watched.
    kinds: usize,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

/// What all watches tell.
struct Shared {
    changes: broadcast::Sender<EnvironmentId>,
    /// Counts events, for those who wait for one.
    events: watch::Sender<u64>,
    /// The kinds whose watch does not work at present, and why.
    broken: Mutex<BTreeMap<String, String>>,
    /// The kinds that were listed at least once.
    listed: Mutex<BTreeSet<String>>,
}

impl Watches {
    /// Starts to watch; the applications of a namespace, too, if Argo CD delivers. It ends when this is dropped.
    pub(crate) fn start(client: &Client, instance: &InstanceId, argo: Option<&str>) -> Self {
        let shared = Arc::new(Shared {
            changes: broadcast::channel(CHANGES).0,
            events: watch::channel(0).0,
            broken: Mutex::default(),
            listed: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let ours = format!("{INSTANCE}={instance}");
        let markers = format!("{ours},{}={}", MARKER.0, MARKER.1);
        let applications = match argo {
            Some(namespace) => begin_in(Api::namespaced(client.clone(), namespace), &ours, &shared, &mut tasks),
            None => reflector::store().0,
        };
        Self {
            applications,
            kinds: KINDS + usize::from(argo.is_some()),
            namespaces: begin(client, &ours, &shared, &mut tasks),
            markers: begin(client, &markers, &shared, &mut tasks),
            pods: begin(client, &ours, &shared, &mut tasks),
            deployments: begin(client, &ours, &shared, &mut tasks),
            stateful_sets: begin(client, &ours, &shared, &mut tasks),
            jobs: begin(client, &ours, &shared, &mut tasks),
            claims: begin(client, &ours, &shared, &mut tasks),
            shared,
            _tasks: tasks,
        }
    }

    /// Whether Argo CD delivers.
    pub(crate) fn has_applications(&self) -> bool {
        self.kinds > KINDS
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        self.shared.changes.subscribe()
    }

    /// Waits until all kinds were listed once. From a watch that does not work nothing may be concluded.
    ///
    /// # Errors
    /// `Unreachable`, with what the API server said.
    pub(crate) async fn current(&self) -> Result<()> {
        let listed = || lock(&self.shared.listed).len() == self.kinds;
        if !listed() && !self.until(FIRST, || listed() || self.broken().is_some()).await {
            return Err(unreachable(format!("objects were not listed within {FIRST:?}")));
        }
        match self.broken() {
            Some(reason) => Err(unreachable(reason)),
            None => Ok(()),
        }
    }

    fn broken(&self) -> Option<String> {
        let broken = lock(&self.shared.broken);
        let (kind, reason) = broken.first_key_value()?;
        Some(format!("watching objects of the kind {kind}: {reason}"))
    }

    /// Waits until something is seen, at most so long. Whether it was.
    pub(crate) async fn until(&self, limit: Duration, seen: impl Fn() -> bool) -> bool {
        let mut events = self.shared.events.subscribe();
        let wait = async {
            loop {
                events.mark_unchanged();
                if seen() || events.changed().await.is_err() {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(limit, wait).await);
        seen()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a watch has seen an object as it was at that version, or later. Versions of one kind can be compared since
/// Kubernetes 1.35; one that is no number is taken for seen.
pub(crate) fn has_seen<K>(store: &Store<K>, namespace: &str, name: &str, version: Option<&str>) -> bool
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + 'static,
{
    let number = |version: Option<&str>| version.and_then(|text| text.parse::<u64>().ok());
    let Some(wanted) = number(version) else {
        return true;
    };
    let found = store.get(&ObjectRef::new(name).within(namespace));
    found.is_some_and(|object| number(object.meta().resource_version.as_deref()).is_none_or(|seen| seen >= wanted))
}

/// Starts one watch. What is of no use here is thrown away at once: who wrote which field is most of an object.
fn begin<K>(client: &Client, selector: &str, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    <K as Resource>::DynamicType: Eq + Hash,
{
    begin_in(Api::all(client.clone()), selector, shared, tasks)
}

fn begin_in<K>(api: Api<K>, selector: &str, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    <K as Resource>::DynamicType: Eq + Hash,
{
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels(selector).page_size(PAGE);
    tasks.spawn(watch(api, config, writer, Arc::clone(shared)));
    reader
}

/// Lists and watches, for ever. After any error, a watch that has fallen behind (410) among them, it lists anew: then it is known
/// that what it knows is so.
async fn watch<K>(api: Api<K>, config: watcher::Config, mut writer: Writer<K>, shared: Arc<Shared>)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let kind = <K as Resource>::kind(&()).into_owned();
    let mut pause = AGAIN;
    loop {
        let stream = watcher(api.clone(), config.clone()).modify(|object| object.managed_fields_mut().clear());
        futures::pin_mut!(stream);
        let reason = loop {
            match stream.try_next().await {
                Ok(Some(event)) => {
                    writer.apply_watcher_event(&event);
                    shared.tell(&kind, &event);
                    if matches!(event, watcher::Event::InitDone) {
                        pause = AGAIN;
                    }
                }
                Ok(None) => break "it ended".to_owned(),
                Err(error) => break crate::api::with_causes(&error),
            }
        };
        tracing::warn!(kind, reason, "a watch failed and is begun again");
        lock(&shared.broken).insert(kind.clone(), reason);
        shared.count();
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

impl Shared {
    fn tell<K: Resource>(&self, kind: &str, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object) => {
                let of = labels::label(object.meta(), ENVIRONMENT).and_then(|id| id.parse().ok());
                if let Some(environment) = of {
                    // Nobody may listen.
                    drop(self.changes.send(environment));
                }
            }
            watcher::Event::Init => {}
            watcher::Event::InitDone => {
                lock(&self.broken).remove(kind);
                lock(&self.listed).insert(kind.to_owned());
            }
        }
        self.count();
    }

    fn count(&self) {
        self.events.send_modify(|count| *count = count.wrapping_add(1));
    }
}
