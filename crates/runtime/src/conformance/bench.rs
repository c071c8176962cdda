//! What cases are written with: environments that are removed at the end, waiting, and short ways to ask a runtime.

use super::{Fixture, Program};
use crate::{Connection, ExecExit, LogQuery, NoSecrets, Runtime, RuntimeError, Target};
use bytes::Bytes;
use futures::StreamExt;
use model::{
    EnvironmentId, EnvironmentSpec, Generation, Job, JobEvent, JobName, Limits, Mount, MountKind, Observation, Origin,
    Restart, Service, ServiceFact, ServiceName, ServiceStack, ServiceState, Stack, Stage, Volume, VolumeName,
    VolumeOrigin,
};
use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long one answer may take that needs no waiting for anything else.
const ANSWER: Duration = Duration::from_secs(150);

/// Why a case failed, in words.
pub(super) type Outcome<T = ()> = Result<T, String>;

/// Fails the case with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// A name, or a message that it is none.
pub(super) fn name<T: FromStr>(text: &str) -> Outcome<T> {
    text.parse()
        .map_err(|_| format!("the suite's own name `{text}` is refused"))
}

/// The answer, or a message of what was asked.
pub(super) fn ok<T>(action: &str, answer: Result<T, RuntimeError>) -> Outcome<T> {
    answer.map_err(|error| format!("{action}: expected success, got: {error}"))
}

/// One case's view of the runtime.
pub(super) struct Bench<'a> {
    pub(super) fixture: &'a dyn Fixture,
    made: Mutex<Vec<EnvironmentId>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(fixture: &'a dyn Fixture) -> Self {
        Self {
            fixture,
            made: Mutex::default(),
        }
    }

    pub(super) fn runtime(&self) -> &'a dyn Runtime {
        self.fixture.runtime()
    }

    /// The first generation of a new environment, with nothing in it.
    pub(super) fn spec(&self) -> Outcome<EnvironmentSpec> {
        let environment = self.fixture.environment();
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(environment.clone());
        Ok(EnvironmentSpec {
            environment,
            generation: Generation(1),
            project: name("conformance")?,
            origin: Origin::PullRequest { number: 1 },
            sources: BTreeMap::new(),
            stack: Stack::Services(ServiceStack::default()),
            limits: Limits::default(),
            egress: model::Egress::default(),
            secrets: BTreeMap::new(),
        })
    }

    /// A service that does this.
    pub(super) fn service(&self, program: &Program) -> Service {
        let serves = matches!(program, Program::Serve { .. });
        Service {
            workload: self.fixture.workload(program),
            aliases: Vec::new(),
            // A service without a port is ready when it was started; one that never listens never gets ready.
            ports: vec![self.fixture.port()],
            public_port: serves.then(|| self.fixture.port()),
            depends_on: BTreeMap::new(),
            health: None,
            restart: Restart::Never,
            stop_signal: "SIGTERM".to_owned(),
            stop_grace_ms: 5_000,
            networks: BTreeMap::new(),
            restarts_with: std::collections::BTreeSet::new(),
            restart_limit: None,
            net: model::NetworkMode::default(),
        }
    }

    /// A service that serves its text.
    pub(super) fn server(&self, text: &str) -> Service {
        self.service(&Program::Serve { text: text.to_owned() })
    }

    /// A job that does this.
    pub(super) fn job(&self, job: &str, program: &Program, timeout: Duration) -> Outcome<Job> {
        Ok(Job {
            name: name(job)?,
            workload: self.fixture.workload(program),
            on: JobEvent::Start,
            needs: Vec::new(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            product: None,
            schedule: None,
        })
    }

    /// Removes whatever the case made.
    pub(super) async fn clean(&self) -> Outcome {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for environment in made {
            ok(
                "removing the environment at the end",
                self.runtime().remove(&environment, Generation(u64::MAX)).await,
            )?;
        }
        Ok(())
    }

    pub(super) async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage) -> Outcome {
        let action = format!("applying {stage:?} of generation {}", spec.generation);
        ok(&action, self.runtime().apply(spec, stage, &NoSecrets).await)
    }

    /// Applies the envelope and all services.
    pub(super) async fn apply_all(&self, spec: &EnvironmentSpec) -> Outcome {
        self.apply(spec, &Stage::Envelope).await?;
        self.apply(spec, &all_services(spec)).await
    }

    /// Applies everything and waits until every service is ready.
    pub(super) async fn bring_up(&self, spec: &EnvironmentSpec) -> Outcome {
        self.apply_all(spec).await?;
        for service in spec.services().into_iter().flat_map(|stack| stack.services.keys()) {
            self.ready(&spec.environment, service.as_str()).await?;
        }
        Ok(())
    }

    pub(super) async fn observe(&self, environment: &EnvironmentId) -> Outcome<Observation> {
        let seen = ok("observing", self.runtime().observe(environment).await)?;
        seen.ok_or_else(|| format!("expected {environment} to exist, but nothing is there"))
    }

    pub(super) async fn fact(&self, environment: &EnvironmentId, service: &str) -> Outcome<ServiceFact> {
        let seen = self.observe(environment).await?;
        let fact = seen
            .services
            .into_iter()
            .find(|(name, _)| name.as_str() == service)
            .map(|(_, fact)| fact);
        fact.ok_or_else(|| format!("expected the service {service} to exist, but it is not observed"))
    }

    /// Waits until a service is in a state that is looked for.
    pub(super) async fn state(
        &self,
        environment: &EnvironmentId,
        service: &str,
        wanted: &str,
        is: impl Fn(&ServiceState) -> bool + Send,
    ) -> Outcome<ServiceFact> {
        let mut last = None;
        for _ in 0..self.fixture.patience() {
            let fact = self.fact(environment, service).await?;
            if is(&fact.state) {
                return Ok(fact);
            }
            last = Some(fact);
            self.fixture.pause().await;
        }
        Err(format!("expected {service} to become {wanted}; last seen: {last:?}"))
    }

    pub(super) async fn ready(&self, environment: &EnvironmentId, service: &str) -> Outcome<ServiceFact> {
        self.state(environment, service, "ready", |state| *state == ServiceState::Ready)
            .await
    }

    pub(super) async fn dial(&self, environment: &EnvironmentId, service: &str) -> Outcome<Connection> {
        let target = Target::Port(self.fixture.port());
        ok(
            &format!("dialling {service}"),
            self.runtime().dial(environment, &name(service)?, target).await,
        )
    }

    /// The line with which a service greets.
    pub(super) async fn greeting(&self, environment: &EnvironmentId, service: &str) -> Outcome<String> {
        let mut connection = self.dial(environment, service).await?;
        line(&mut connection).await
    }

    /// Expects a service to greet with this text.
    pub(super) async fn greets(&self, environment: &EnvironmentId, service: &str, text: &str) -> Outcome {
        let greeting = self.greeting(environment, service).await?;
        ensure!(
            greeting == text,
            "expected {service} to answer `{text}`, it answered `{greeting}`"
        );
        Ok(())
    }

    /// Runs a command to its end; its exit status and what it printed.
    pub(super) async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &str,
        argv: &[&str],
        input: &[u8],
    ) -> Outcome<(ExecExit, String)> {
        self.exec_with(environment, service, argv, input, &BTreeMap::new())
            .await
    }

    /// As [`Self::exec`], with variables.
    pub(super) async fn exec_with(
        &self,
        environment: &EnvironmentId,
        service: &str,
        argv: &[&str],
        input: &[u8],
        variables: &BTreeMap<String, String>,
    ) -> Outcome<(ExecExit, String)> {
        let words: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let action = format!("running {argv:?} in {service}");
        let started = self
            .runtime()
            .exec(environment, &name(service)?, &words, variables)
            .await;
        let mut exec = ok(&action, started)?;
        let work = async {
            if !input.is_empty() {
                exec.stdin
                    .send(Bytes::copy_from_slice(input))
                    .await
                    .map_err(|_| format!("{action}: it does not read"))?;
            }
            drop(exec.stdin);
            let mut printed = Vec::new();
            while let Some(bytes) = exec.stdout.recv().await {
                printed.extend_from_slice(&bytes);
            }
            let exit = exec.exit.await.map_err(|_| format!("{action}: it never ended"))?;
            Ok((exit, String::from_utf8_lossy(&printed).into_owned()))
        };
        tokio::time::timeout(ANSWER, work)
            .await
            .map_err(|_| format!("{action}: no end within {ANSWER:?}"))?
    }

    /// Writes a file in a service's container.
    pub(super) async fn write(&self, environment: &EnvironmentId, service: &str, path: &str, text: &str) -> Outcome {
        let (exit, _) = self.exec(environment, service, &["tee", path], text.as_bytes()).await?;
        ensure!(
            exit == ExecExit::Status(0),
            "expected {service} to be able to write {path}: {exit:?}"
        );
        Ok(())
    }

    /// Reads a file in a service's container; `None` if `cat` fails.
    pub(super) async fn read(&self, environment: &EnvironmentId, service: &str, path: &str) -> Outcome<Option<String>> {
        let (exit, text) = self.exec(environment, service, &["cat", path], b"").await?;
        Ok((exit == ExecExit::Status(0)).then_some(text))
    }

    /// All lines that are kept of a log.
    pub(super) async fn log(&self, environment: &EnvironmentId, name: &str) -> Outcome<Vec<String>> {
        let lines = ok(
            &format!("reading the log of {name}"),
            self.runtime().logs(environment, name, LogQuery::default()).await,
        )?;
        let all = lines.map(|line| line.text).collect::<Vec<_>>();
        tokio::time::timeout(ANSWER, all)
            .await
            .map_err(|_| format!("the log of {name} without `follow` does not end"))
    }

    /// Waits until a line is in a log: what a container prints may take a moment to get there.
    pub(super) async fn printed(&self, environment: &EnvironmentId, name: &str, text: &str) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        for _ in 0..self.fixture.patience() {
            lines = self.log(environment, name).await?;
            if lines.iter().any(|line| line == text) {
                return Ok(lines);
            }
            self.fixture.pause().await;
        }
        Err(format!("expected `{text}` in the log of {name}, which is {lines:?}"))
    }
}

/// The stage with all services.
pub(super) fn all_services(spec: &EnvironmentSpec) -> Stage {
    Stage::Services(
        spec.services()
            .map(|stack| stack.services.keys().cloned().collect())
            .unwrap_or_default(),
    )
}

/// Reads one line.
pub(super) async fn line(connection: &mut Connection) -> Outcome<String> {
    let work = async {
        let mut text = Vec::new();
        loop {
            match connection.read_u8().await {
                Ok(b'\n') => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Ok(byte) if text.len() < 10_000 => text.push(byte),
                Ok(_) => return Err("expected a line, got 10 kB without an end".to_owned()),
                Err(error) => {
                    return Err(format!(
                        "expected a line, the connection ended after {} bytes: {error}",
                        text.len()
                    ));
                }
            }
        }
    };
    tokio::time::timeout(ANSWER, work)
        .await
        .map_err(|_| format!("expected a line, nothing came within {ANSWER:?}"))?
}

/// Sends a line and expects it back.
pub(super) async fn echoes(connection: &mut Connection, text: &str) -> Outcome {
    let sent = connection.write_all(format!("{text}\n").as_bytes()).await;
    sent.map_err(|error| format!("expected to send `{text}`: {error}"))?;
    let back = line(connection).await?;
    ensure!(back == text, "expected `{text}` back, got `{back}`");
    Ok(())
}

/// Short ways to write a generation.
pub(super) trait Draft: Sized {
    /// Changes the stack; the suite's environments have services.
    fn edit(self, change: impl FnOnce(&mut ServiceStack)) -> Self;

    /// The same with this service.
    fn with(self, service: &str, description: Service) -> Outcome<Self> {
        let service = name(service)?;
        Ok(self.edit(|stack| drop(stack.services.insert(service, description))))
    }

    /// The same without this service.
    fn without(self, service: &str) -> Outcome<Self> {
        let service = name::<ServiceName>(service)?;
        Ok(self.edit(|stack| drop(stack.services.remove(&service))))
    }

    /// The same with this job.
    fn with_job(self, job: Job) -> Self {
        let name: JobName = job.name.clone();
        self.edit(|stack| drop(stack.jobs.insert(name, job)))
    }

    /// The same with this volume.
    fn with_volume(self, volume: &str, origin: VolumeOrigin, incarnation: Generation) -> Outcome<Self> {
        let volume = name(volume)?;
        Ok(self.edit(|stack| {
            drop(stack.volumes.insert(
                volume,
                Volume {
                    origin,
                    incarnation,
                    limit_bytes: None,
                },
            ))
        }))
    }

    /// The same with this network.
    fn with_network(self, network: &str, what: model::Network) -> Outcome<Self> {
        let network = name(network)?;
        Ok(self.edit(|stack| {
            stack.networks.insert(network, what);
        }))
    }

    /// The generation that follows.
    fn next(self) -> Self;
}

impl Draft for EnvironmentSpec {
    fn edit(mut self, change: impl FnOnce(&mut ServiceStack)) -> Self {
        if let Stack::Services(stack) = &mut self.stack {
            change(stack);
        }
        self
    }

    fn next(mut self) -> Self {
        self.generation = self.generation.next();
        self
    }
}

/// The same service with a volume mounted.
pub(super) fn mounting(mut service: Service, volume: &str, target: &str) -> Outcome<Service> {
    let volume: VolumeName = name(volume)?;
    service.workload.mounts.push(Mount {
        target: target.to_owned(),
        kind: MountKind::Volume { volume },
        read_only: false,
    });
    Ok(service)
}
