//! A cell host without a reconciler, for parts that look at one operation of the runtime, and environments that are made by hand.

use crate::{
    traces::Traces,
    world::{Host, connect, instance, start_host},
};
use anyhow::{Context, Result};
use async_trait::async_trait;
use model::{
    CommitId, Egress, EnvironmentId, EnvironmentSpec, Generation, Limits, Options, Origin, Restart, Root, Service,
    ServiceName, ServiceStack, SourceName, Stack, Stage, Workload,
};
use runtime::{Checkout, NoSecrets, Runtime, Sake, SourceKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Bytes that a container of this part may have.
const MEMORY: u64 = 1 << 30;

/// A cell host and what it keeps. Dropping it leaves nothing; fields are dropped in order.
pub(crate) struct Cells {
    pub(crate) cell: Arc<dyn Runtime>,
    _host: Host,
    pub(crate) traces: Traces,
    next: AtomicU32,
}

impl Cells {
    /// Starts one with a pool of this size.
    pub(crate) async fn start(part: &str, pool_gib: u64) -> Result<Self> {
        let mut traces = Traces::new(part)?;
        let instance = instance(std::process::id())?;
        traces.instance = Some(instance.to_string());
        let host = start_host(&instance, &traces, pool_gib)?;
        let cell = connect(&traces, &instance).await?;
        Ok(Self {
            cell,
            _host: host,
            traces,
            next: AtomicU32::new(1),
        })
    }

    /// A new environment with these services and the source `app`, if a commit of it is given; its envelope is there.
    pub(crate) async fn environment(
        &self,
        services: &[(&str, Service)],
        commit: Option<&CommitId>,
    ) -> Result<EnvironmentSpec> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let services = services
            .iter()
            .map(|(name, service)| Ok((name.parse()?, service.clone())));
        let mut sources = BTreeMap::new();
        if let Some(commit) = commit {
            sources.insert("app".parse()?, commit.clone());
        }
        let spec = EnvironmentSpec {
            environment: format!("e{number:0>9}").parse()?,
            generation: Generation(1),
            project: "bench".parse()?,
            origin: Origin::PullRequest { number: number.into() },
            sources,
            stack: Stack::Services(ServiceStack {
                services: services.collect::<Result<_>>()?,
                ..ServiceStack::default()
            }),
            secrets: BTreeMap::new(),
            limits: Limits::default(),
            egress: Egress::default(),
        };
        self.cell.apply(&spec, &Stage::Envelope, &NoSecrets).await?;
        Ok(spec)
    }

    /// Starts all services of an environment.
    pub(crate) async fn start_services(&self, spec: &EnvironmentSpec) -> Result<()> {
        let names: BTreeSet<ServiceName> = spec
            .services()
            .context("no services")?
            .services
            .keys()
            .cloned()
            .collect();
        Ok(self.cell.apply(spec, &Stage::Services(names), &NoSecrets).await?)
    }

    /// Removes an environment.
    pub(crate) async fn remove(&self, id: &EnvironmentId) -> Result<()> {
        Ok(self.cell.remove(id, Generation(99)).await?)
    }

    /// Puts the files of a commit of the source `app`.
    pub(crate) async fn put(&self, commit: &CommitId, files: &[(&str, String)]) -> Result<()> {
        let key = SourceKey {
            project: "bench".parse()?,
            source: "app".parse::<SourceName>()?,
            commit: commit.clone(),
        };
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
        let sake = self.sake()?;
        Ok(self.cell.source_put(&sake, &key, &Files(files.collect())).await?)
    }

    /// For the sake of nobody in particular.
    pub(crate) fn sake(&self) -> Result<Sake> {
        Ok(Sake {
            environment: "e000000000".parse()?,
            generation: Generation(1),
        })
    }
}

/// The files of a commit.
struct Files(BTreeMap<String, String>);

#[async_trait]
impl Checkout for Files {
    async fn write(&self, into: &Path) -> std::result::Result<(), String> {
        for (name, text) in &self.0 {
            let path = into.join(name);
            let written = path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, text));
            written.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }
}

/// What runs this command from a root.
pub(crate) fn workload(root: Root, argv: &[&str]) -> Workload {
    Workload {
        root,
        entrypoint: None,
        command: Some(argv.iter().map(|argument| (*argument).to_owned()).collect()),
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits {
            memory_bytes: Some(MEMORY),
            cpu_millis: None,
            pids: Some(512),
            disk_bytes: None,
        },
        read_only: false,
        options: Options::default(),
    }
}

/// A service of it that is never started again.
pub(crate) fn service(root: Root, argv: &[&str], ports: &[u16]) -> Service {
    Service {
        workload: workload(root, argv),
        aliases: Vec::new(),
        ports: ports.to_vec(),
        public_port: None,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Never,
        stop_signal: "SIGTERM".into(),
        stop_grace_ms: 1000,
        networks: BTreeMap::new(),
        restarts_with: BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}
