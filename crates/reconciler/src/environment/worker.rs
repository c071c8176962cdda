//! The worker of one environment.
//!
//! It takes no input: a nudge, a change in the runtime, the end of a step and a timer all mean "look again". It may be ended
//! at any point; the next one starts from what is observed.

use super::{assemble, execute, observe, outcome, receipt, stops};
use crate::context::{Context, Trouble};
use execute::{Job, StepError};
use model::{EnvironmentId, Generation, Origin, Power, ServiceName, Stage, Timestamp};
use planner::{ATTEMPTS_MAX, Action, Desired, Observed, Plan, Step, StepState, backoff, plan};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use store::{EnvironmentRow, Failure, GenerationRow, Outcome};
use tokio::{
    sync::Notify,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep},
};

type Finished = (String, Generation, Result<(), StepError>);

struct Worker {
    context: Arc<Context>,
    id: EnvironmentId,
    nudged: Arc<Notify>,
    /// When it was looked last.
    looked: Instant,
    steps: JoinSet<Finished>,
    running: BTreeMap<Id, (String, Generation)>,
    /// Steps that succeeded: in which generation, how often, when last.
    succeeded: BTreeMap<String, (Generation, u32, Timestamp)>,
    /// How often something was left over after the removal.
    left_over: u32,
    /// The generation whose services the runtime was told of ahead, and the telling.
    told: Option<Generation>,
    telling: JoinSet<()>,
}

/// A container that starts is in the news several times within moments. What comes this soon after a look waits for the rest of it; the
/// end of a step does not wait.
const GATHER: Duration = Duration::from_millis(6);
/// The pause before a step that found no room looks for it again.
const ROOM_PAUSE: Duration = Duration::from_secs(3);

/// What a turn leads to.
enum Turn {
    /// It is gone, with its receipt.
    Ended,
    /// Something changed: look again at once.
    Again,
    /// Look again when something happens, or at this time.
    Wait(Option<Timestamp>),
}

/// Looks after an environment until it has ended.
pub(crate) async fn run(context: Arc<Context>, id: EnvironmentId) {
    let nudged = context.nudges.of_environment(&id);
    let mut worker = Worker {
        context,
        id,
        nudged,
        looked: Instant::now(),
        steps: JoinSet::new(),
        running: BTreeMap::new(),
        succeeded: BTreeMap::new(),
        left_over: 0,
        told: None,
        telling: JoinSet::new(),
    };
    let mut troubles = 0;
    loop {
        worker.looked = Instant::now();
        match worker.turn().await {
            Ok(Turn::Ended) => break,
            Ok(Turn::Again) => troubles = 0,
            Ok(Turn::Wait(until)) => {
                troubles = 0;
                worker.wait(until).await;
            }
            Err(trouble) => {
                troubles += 1;
                let why = crate::text::chain(&trouble);
                tracing::warn!(environment = %worker.id, why, "could not look after the environment");
                sleep(backoff(troubles)).await;
            }
        }
    }
    worker.context.nudges.forget(&worker.id);
}

/// The services that wait for others, in the order of the plan; none before all is there that each of them needs.
fn coming(plan: &Plan) -> Vec<ServiceName> {
    let is_there = |step: &Step| match step.action {
        Action::Data(_) | Action::Job(_) | Action::Verify | Action::Power(_) => true,
        Action::Apply(Stage::Services(_) | Stage::Prune) => true,
        _ => step.state == StepState::Done,
    };
    if !plan.steps.iter().all(is_there) {
        return Vec::new();
    }
    let blocked = |step: &&Step| matches!(step.state, StepState::Blocked { .. });
    let services = plan.steps.iter().filter(blocked).filter_map(|step| match &step.action {
        Action::Apply(Stage::Services(names)) => Some(names),
        _ => None,
    });
    services.flatten().cloned().collect()
}

/// Waits for a nudge. One that is taken and not looked into, because a step ended meanwhile, is looked into with the step.
async fn news(nudged: &Notify, looked: Instant) {
    nudged.notified().await;
    sleep(GATHER.saturating_sub(looked.elapsed())).await;
}

impl Worker {
    async fn turn(&mut self) -> Result<Turn, Trouble> {
        let Some(row) = self.context.store.environment_get(&self.id).await? else {
            return Ok(Turn::Ended);
        };
        if row.ended.is_some() {
            return Ok(Turn::Ended);
        }
        if !row.wanted {
            return self.turn_absent(&row).await;
        }
        let Some(generation) = assemble::newest(&self.context, &row).await? else {
            return Ok(Turn::Wait(None));
        };
        self.turn_present(&row, generation).await
    }

    async fn turn_present(&mut self, row: &EnvironmentRow, generation: GenerationRow) -> Result<Turn, Trouble> {
        self.drop_steps_of_others(generation.generation);
        outcome::agree(&self.context, row, &generation).await?;
        if row.suspension().is_some() && generation.outcome != Some(Outcome::Live) {
            return self.turn_stopped(row, generation).await;
        }
        if generation.outcome == Some(Outcome::Failed) {
            return Ok(if outcome::bring_back(&self.context, row, &generation).await? {
                Turn::Again
            } else {
                Turn::Wait(None)
            });
        }
        if row.origin == Origin::Golden && generation.outcome == Some(Outcome::Live) {
            // Whoever takes the golden out of it stops its engines, and nobody starts them again.
            return Ok(Turn::Wait(None));
        }
        let generation = stops::numbered(&self.context, generation).await?;
        let observed = observe::observe(&self.context, &self.id, Some(&generation), self.running_steps()).await?;
        let desired = Desired::Present {
            spec: &generation.spec,
            power: row.power_now(),
        };
        let plan = plan(
            &desired,
            &observed,
            self.context.capabilities(row.cluster.as_ref())?,
            self.context.now(),
        );
        if let (Some(step), None) = (plan.failed(), generation.outcome) {
            outcome::failed(&self.context, row, &generation, step).await?;
            return Ok(Turn::Again);
        }
        let held = self
            .start_ready(&plan, generation.generation, Some(&generation))
            .await?;
        if row.power_now() == Power::Running {
            self.tell_ahead(&plan, &generation);
        }
        Ok(Turn::Wait(held.into_iter().chain(plan.next_look()).min()))
    }

    /// Stops what there is of a generation that is not live.
    async fn turn_stopped(&mut self, row: &EnvironmentRow, newest: GenerationRow) -> Result<Turn, Trouble> {
        let number = newest.generation;
        let was_live = match row.live {
            Some(live) => self.context.store.generation_get(&self.id, live).await?,
            None => None,
        };
        let any = was_live.is_some();
        let mut stopped = GenerationRow {
            spec: was_live.map_or(newest.spec, |older| older.spec),
            ..newest
        };
        stopped.spec.generation = number;
        let stopped = stops::numbered(&self.context, stopped).await?;
        let observed = observe::observe(&self.context, &self.id, Some(&stopped), self.running_steps()).await?;
        let desired = Desired::Stopped {
            spec: any.then_some(&stopped.spec),
        };
        let capabilities = self.context.capabilities(row.cluster.as_ref())?;
        let plan = plan(&desired, &observed, capabilities, self.context.now());
        let held = self.start_ready(&plan, number, Some(&stopped)).await?;
        Ok(Turn::Wait(held.into_iter().chain(plan.next_look()).min()))
    }

    async fn turn_absent(&mut self, row: &EnvironmentRow) -> Result<Turn, Trouble> {
        let newest = self.context.store.generation_newest(&self.id).await?;
        let removal = newest.as_ref().map_or(Generation(1), |newest| newest.generation.next());
        self.drop_steps_of_others(removal);
        let mut last = match newest {
            Some(newest) => Some(stops::numbered(&self.context, newest).await?),
            None => None,
        };
        if let Some(last) = &mut last {
            // Its jobs run after the removal has begun.
            last.spec.generation = removal;
        }
        let last = last.as_ref();
        let mut observed = match last {
            Some(last) => observe::observe(&self.context, &self.id, Some(last), self.running_steps()).await?,
            None => Observed {
                runtime: self.context.runtime.observe(&self.id).await?,
                running: self.running_steps(),
                ..Observed::default()
            },
        };
        // Attempts at removing belong to the removal's own generation.
        observed.attempts = observe::attempts_of(&self.context, &self.id, removal).await?;
        let desired = Desired::Absent {
            // What is kept from running is not run in order to end it.
            last: last.map(|row| &row.spec).filter(|_| row.suspension().is_none()),
            generation: removal,
        };
        let plan = plan(
            &desired,
            &observed,
            self.context.capabilities(row.cluster.as_ref())?,
            self.context.now(),
        );
        if plan.ready().any(|step| step.action == Action::Receipt) {
            if receipt::complete(&self.context, row, removal, last, &observed).await? {
                return Ok(Turn::Again);
            }
            // What does not go is looked at less and less often; most goes at once.
            self.left_over += 1;
            let pause = backoff(self.left_over.saturating_sub(5));
            return Ok(match self.left_over {
                ..=5 => Turn::Again,
                _ => Turn::Wait(Some(self.context.now().plus(pause))),
            });
        }
        let held = self.start_ready(&plan, removal, last).await?;
        Ok(Turn::Wait(held.into_iter().chain(plan.next_look()).min()))
    }

    /// Once everything that can start has been started, the runtime is told, once in a generation, what it will be asked for next.
    fn tell_ahead(&mut self, plan: &Plan, generation: &GenerationRow) {
        let starts = self.running.values().any(|(step, _)| step.starts_with("service:"));
        if starts || generation.outcome.is_some() || self.told == Some(generation.generation) {
            return;
        }
        let services = coming(plan);
        if services.is_empty() {
            return;
        }
        self.told = Some(generation.generation);
        let job = Job {
            context: Arc::clone(&self.context),
            environment: self.id.clone(),
            generation: generation.generation,
            spec: Some(Arc::new(generation.spec.clone())),
        };
        self.telling = JoinSet::new();
        self.telling.spawn(async move { job.prepare(&services).await });
    }

    fn running_steps(&self) -> BTreeSet<String> {
        self.running.values().map(|(step, _)| step.clone()).collect()
    }

    /// Steps of a generation that is no longer wanted are let go of: the runtime refuses what still arrives of them.
    fn drop_steps_of_others(&mut self, current: Generation) {
        if self.running.values().any(|(_, generation)| *generation != current) {
            self.steps.abort_all();
            self.steps = JoinSet::new();
            self.running.clear();
            self.telling.abort_all();
        }
    }

    /// Starts what is ready; returns when to look again at a step that was held back.
    async fn start_ready(
        &mut self,
        plan: &Plan,
        generation: Generation,
        row: Option<&GenerationRow>,
    ) -> Result<Option<Timestamp>, Trouble> {
        let spec = row.map(|row| Arc::new(row.spec.clone()));
        let mut held = None;
        for step in plan.ready() {
            if let Some(until) = self.held_back(&step.id, generation) {
                held = held.into_iter().chain([until]).min();
                continue;
            }
            self.context
                .store
                .step_began(&self.id, generation, &step.id, self.context.now())
                .await?;
            let job = Job {
                context: Arc::clone(&self.context),
                environment: self.id.clone(),
                generation,
                spec: spec.clone(),
            };
            let (id, action) = (step.id.clone(), step.action.clone());
            let handle = self.steps.spawn(async move {
                let result = job.carry_out(&action).await;
                (id, generation, result)
            });
            self.running.insert(handle.id(), (step.id.clone(), generation));
        }
        Ok(held)
    }

    /// A step that succeeded and whose effect is not observed would be carried out again at once, and again: each such
    /// repetition waits longer.
    fn held_back(&self, step: &str, generation: Generation) -> Option<Timestamp> {
        let (of, count, last) = self.succeeded.get(step)?;
        let until = last.plus(backoff(*count));
        let now = self.context.now();
        // A success that is still to come was noted before the clock was set back.
        (*of == generation && *last <= now && until > now).then_some(until)
    }

    fn note_success(&mut self, step: &str, generation: Generation) {
        let now = self.context.now();
        let entry = self.succeeded.entry(step.to_owned()).or_insert((generation, 0, now));
        // After a quiet time the next repetition is an ordinary one.
        let fresh = entry.0 != generation || now.since(entry.2) > Duration::from_secs(120);
        *entry = (generation, if fresh { 1 } else { entry.1 + 1 }, now);
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let longest = self.context.settings.look_interval;
        let pause = until.map_or(longest, |until| {
            until
                .since(self.context.now())
                .max(Duration::from_millis(1))
                .min(longest)
        });
        let nudged = Arc::clone(&self.nudged);
        tokio::select! {
            () = news(&nudged, self.looked) => {}
            Some(finished) = self.steps.join_next_with_id() => self.finished(finished).await,
            () = sleep(pause) => {}
        }
        while let Some(finished) = self.steps.try_join_next_with_id() {
            self.finished(finished).await;
        }
    }

    async fn finished(&mut self, finished: Result<(Id, Finished), JoinError>) {
        match finished {
            Ok((id, (step, generation, result))) => {
                self.running.remove(&id);
                if result.is_ok() {
                    self.note_success(&step, generation);
                }
                if let Err(trouble) = self.record(&step, generation, result).await {
                    tracing::warn!(environment = %self.id, step, why = crate::text::chain(&trouble), "could not record a step");
                }
            }
            Err(error) => {
                self.running.remove(&error.id());
                if error.is_panic() {
                    tracing::error!(environment = %self.id, %error, "a step ended unexpectedly");
                }
            }
        }
    }

    /// A step that finds no room, no registry or no gateway costs nothing and is not what its author can mend: it is not given up, and says what
    /// it waits for.
    async fn wait_for_room(
        &self,
        step: &str,
        generation: Generation,
        failure: &Failure,
        known: bool,
    ) -> Result<(), Trouble> {
        let now = self.context.now();
        let store = &self.context.store;
        store
            .attempt_wait(&self.id, generation, step, failure, now, now.plus(ROOM_PAUSE))
            .await?;
        if known {
            return Ok(());
        }
        if let Some(row) = store.environment_get(&self.id).await? {
            let text = format!(
                "waits for {}: {}",
                planner::waits_for(step, &failure.message),
                failure.message
            );
            store
                .event_add(Some(&self.id), &row.project, now, "waits", &text)
                .await?;
        }
        self.context.nudges.goldens();
        self.context.nudges.announcements();
        Ok(())
    }

    /// A job on stop that failed is tried again before the next stop.
    async fn forget_stop(&self, generation: Generation) -> Result<(), Trouble> {
        let store = &self.context.store;
        let tried = store.attempt_list(&self.id, generation).await?;
        for step in tried.into_keys() {
            if !step.starts_with("job:") {
                continue;
            }
            let now = self.context.now();
            store
                .attempt_record(&self.id, generation, &step, Ok(()), now, None)
                .await?;
        }
        Ok(())
    }

    /// A job on stop that is given up keeps nothing running, and does not make its generation fail.
    async fn tell_of_stop(&self, step: &str, generation: Generation, failure: &Failure) -> Result<(), Trouble> {
        let store = &self.context.store;
        let of = store.generation_get(&self.id, generation).await?;
        let Some(of) = of.filter(|of| step.starts_with("job:") && of.outcome.is_some()) else {
            return Ok(());
        };
        let text = format!("{}; the services stop without it", failure.message);
        let now = self.context.now();
        store
            .event_add(Some(&self.id), &of.spec.project, now, "job", &text)
            .await?;
        Ok(())
    }

    async fn record(&self, step: &str, generation: Generation, result: Result<(), StepError>) -> Result<(), Trouble> {
        let now = self.context.now();
        self.context
            .store
            .step_ended(&self.id, generation, step, now, result.is_ok())
            .await?;
        match result {
            Ok(()) if step == "verify" => outcome::live(&self.context, &self.id, generation).await?,
            Ok(()) if step == "wake" => self.forget_stop(generation).await?,
            Ok(()) => {}
            Err(mut error) => {
                // Another one is named where what is wanted is looked after elsewhere.
                if error.failure.step.is_empty() {
                    error.failure.step = step.to_owned();
                }
                let rows = self.context.store.attempt_list(&self.id, generation).await?;
                if error.waits {
                    let known = rows.get(step).is_some_and(|attempt| attempt.waits);
                    return self.wait_for_room(step, generation, &error.failure, known).await;
                }
                let before = rows.get(step).filter(|attempt| !attempt.succeeded);
                let count = before.map_or(0, |attempt| attempt.count) + 1;
                // A removal is never given up.
                let next = (error.transient || step == "remove").then(|| now.plus(backoff(count)));
                tracing::info!(environment = %self.id, step, message = error.failure.message, "a step failed");
                self.context
                    .store
                    .attempt_record(&self.id, generation, step, Err(&error.failure), now, next)
                    .await?;
                if count >= ATTEMPTS_MAX || next.is_none() {
                    self.tell_of_stop(step, generation, &error.failure).await?;
                }
            }
        }
        self.context.nudges.announcements();
        Ok(())
    }
}
