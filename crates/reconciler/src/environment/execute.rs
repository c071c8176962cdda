//! Carries out one step. Everything here may be done twice and may be interrupted anywhere.

use super::verify::verify;
use crate::{
    context::{Context, Trouble},
    database,
    image::bring,
    secret,
    text::chain,
};
use model::{EnvironmentId, EnvironmentSpec, Generation, Stage, VolumeOrigin};
use planner::Action;
use std::{sync::Arc, time::Duration};
use store::Failure;
use tokio::time::timeout;

/// Lines of log that go with a failure.
const LOG_LINES: usize = 20;

/// A step that failed, and whether trying again can help.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) failure: Failure,
    pub(crate) transient: bool,
    /// Whether there was no room, no registry, or no gateway: it is tried again until there is.
    pub(crate) waits: bool,
}

impl StepError {
    /// A message may carry its hint in a last line of its own.
    pub(crate) fn new(message: impl Into<String>, transient: bool) -> Self {
        let text = message.into();
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let failure = Failure {
            step: String::new(),
            message,
            hint,
            log: Vec::new(),
        };
        Self {
            failure,
            transient,
            waits: false,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.failure.hint = Some(hint.into());
        self
    }

    /// It is tried again until it succeeds.
    pub(crate) fn wait(mut self) -> Self {
        self.waits = true;
        self
    }

    pub(crate) fn log(mut self, log: Vec<String>) -> Self {
        self.failure.log = log;
        self
    }
}

impl From<runtime::RuntimeError> for StepError {
    fn from(error: runtime::RuntimeError) -> Self {
        let transient = error.is_transient();
        let this = Self::new(error.to_string(), transient);
        match error {
            runtime::RuntimeError::Unsupported { hint, .. } => this.hint(hint),
            runtime::RuntimeError::Full { .. } => Self { waits: true, ..this }.hint(
                "it goes on by itself when there is room: end environments that nobody needs, or give the runtime more",
            ),
            _ => this,
        }
    }
}

impl From<store::StoreError> for StepError {
    fn from(error: store::StoreError) -> Self {
        Self::new(chain(&error), true)
    }
}

/// What a step works on.
pub(crate) struct Job {
    pub(crate) context: Arc<Context>,
    pub(crate) environment: EnvironmentId,
    pub(crate) generation: Generation,
    /// Absent only for removals of environments that never had a generation.
    pub(crate) spec: Option<Arc<EnvironmentSpec>>,
}

impl Job {
    /// What a program printed may be in a failure: the secrets that the generation has are masked there.
    pub(crate) async fn carry_out(&self, action: &Action) -> Result<(), StepError> {
        let mut result = self.carried_out(action).await;
        if let (Err(error), Some(spec)) = (&mut result, &self.spec) {
            secret::mask(&self.context, spec, &mut error.failure).await;
        }
        result
    }

    async fn carried_out(&self, action: &Action) -> Result<(), StepError> {
        match action {
            Action::Remove => return self.remove().await,
            Action::Receipt => return Ok(()),
            _ => {}
        }
        let Some(spec) = &self.spec else {
            return Err(StepError::new("there is no generation to carry out", false));
        };
        match action {
            Action::Source(source) => self.source(spec, source).await,
            Action::Image { image, reference } => bring(&self.context, &self.sake(), image, reference).await,
            Action::AwaitSnapshot(_) | Action::Remove | Action::Receipt => Ok(()),
            Action::Dockerfile(service) => crate::dockerfile::build(&self.context, spec, service).await,
            Action::Wake => self.power(model::Power::Running).await,
            Action::Power(power) => self.power(*power).await,
            Action::Release(services) => self.stop(services).await,
            Action::Keep {
                service,
                volume,
                snapshot,
            } => {
                self.stop(std::slice::from_ref(service)).await?;
                Ok(self
                    .context
                    .runtime
                    .snapshot_create(&self.environment, self.generation, volume, snapshot)
                    .await?)
            }
            Action::Apply(stage) => self.apply(spec, stage).await,
            Action::Data(service) => database::bring_to(&self.context, spec, service).await,
            Action::Job(name) | Action::Build(name) => self.job(spec, name).await,
            Action::Verify => verify(&self.context, spec).await,
        }
    }

    async fn source(&self, spec: &EnvironmentSpec, source: &model::SourceName) -> Result<(), StepError> {
        let Some(commit) = spec.sources.get(source) else {
            return Ok(());
        };
        let key = runtime::SourceKey {
            project: spec.project.clone(),
            source: source.clone(),
            commit: commit.clone(),
        };
        let checkout = self
            .context
            .repositories
            .checkout(&spec.project, source, commit)
            .map_err(|error| StepError::new(chain(&error), true))?;
        Ok(self.context.runtime.source_put(&self.sake(), &key, &checkout).await?)
    }

    fn sake(&self) -> runtime::Sake {
        runtime::Sake {
            environment: self.environment.clone(),
            generation: self.generation,
        }
    }

    async fn power(&self, power: model::Power) -> Result<(), StepError> {
        Ok(self
            .context
            .runtime
            .power(&self.environment, self.generation, power)
            .await?)
    }

    async fn stop(&self, services: &[model::ServiceName]) -> Result<(), StepError> {
        Ok(self
            .context
            .runtime
            .services_stop(&self.environment, self.generation, services)
            .await?)
    }

    /// The ledger is written before the effect.
    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage) -> Result<(), StepError> {
        let resources = self.context.runtime.footprint(spec, stage);
        self.context.store.ledger_intend(&resources, self.context.now()).await?;
        let secrets = secret::values(&self.context, spec).await?;
        let makes_volumes = matches!(stage, Stage::Envelope | Stage::Whole);
        if makes_volumes {
            database::distrust(&self.context, spec).await?;
        }
        self.context.runtime.apply(spec, stage, &secrets).await?;
        if makes_volumes {
            self.cloned(spec).await?;
        }
        Ok(())
    }

    /// Tells the runtime what it will be asked for. Whatever comes of it, the steps themselves show what is wrong.
    pub(crate) async fn prepare(&self, services: &[model::ServiceName]) {
        let Some(spec) = &self.spec else { return };
        let stage = Stage::Services(services.iter().cloned().collect());
        let resources = self.context.runtime.footprint(spec, &stage);
        let Ok(secrets) = secret::values(&self.context, spec).await else {
            return;
        };
        let told = async {
            self.context.store.ledger_intend(&resources, self.context.now()).await?;
            Ok::<_, Trouble>(self.context.runtime.prepare(spec, services, &secrets).await?)
        };
        if let Err(trouble) = told.await {
            tracing::debug!(environment = %self.environment, why = chain(&trouble), "nothing was made ahead");
        }
    }

    /// Goldens are kept for some time after their last use.
    async fn cloned(&self, spec: &EnvironmentSpec) -> Result<(), StepError> {
        for volume in spec.services().into_iter().flat_map(|stack| stack.volumes.values()) {
            if let VolumeOrigin::Snapshot(id) = &volume.origin
                && id.is_golden()
            {
                match self.context.store.golden_used(id, self.context.now()).await {
                    Err(store::StoreError::NotFound { .. }) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    async fn job(&self, spec: &EnvironmentSpec, name: &model::JobName) -> Result<(), StepError> {
        let resources = self.context.runtime.job_footprint(spec, name);
        self.context.store.ledger_intend(&resources, self.context.now()).await?;
        let secrets = secret::values(&self.context, spec).await?;
        let outcome = self.context.runtime.job_run(spec, name, &secrets).await?;
        if outcome.exit == 0 {
            return Ok(());
        }
        let how = if outcome.timed_out {
            "took too long and was ended"
        } else {
            "failed"
        };
        let what = match spec.product(name) {
            Some(_) => format!("the build of {}", name.as_str().trim_start_matches("build-")),
            None => format!("the job {name}"),
        };
        let message = format!("{what} {how} (status {})", outcome.exit);
        Err(StepError::new(message, true).log(self.log_tail(name.as_str()).await))
    }

    pub(crate) async fn log_tail(&self, name: &str) -> Vec<String> {
        log_tail(&self.context, &self.environment, name).await
    }

    async fn remove(&self) -> Result<(), StepError> {
        Ok(self.context.runtime.remove(&self.environment, self.generation).await?)
    }
}

/// The last lines that a service or job printed; nothing if they can not be had.
pub(crate) async fn log_tail(context: &Context, environment: &EnvironmentId, name: &str) -> Vec<String> {
    let query = runtime::LogQuery {
        tail: Some(LOG_LINES),
        follow: false,
    };
    let Ok(mut lines) = context.runtime.logs(environment, name, query).await else {
        return Vec::new();
    };
    let mut tail = Vec::new();
    let collect = async {
        while let Some(line) = futures::StreamExt::next(&mut lines).await {
            tail.push(line.text);
        }
    };
    // What came in time is better than nothing.
    let _ = timeout(Duration::from_secs(2), collect).await;
    tail.split_off(tail.len().saturating_sub(LOG_LINES))
}
