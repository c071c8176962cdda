//! Jobs: containers that run to their end, once per digest.

use super::{Host, environment::Environment, launch::Cell, resolve};
use crate::{names::UnitName, protocol::SecretValues};
use model::{EnvironmentSpec, JobEvent, JobName, ServiceState};
use runtime::{JobOutcome, RuntimeError};
use std::sync::Arc;

impl Host {
    /// Runs a job to its end, or waits for the one that runs, or tells how it ended if it has succeeded.
    pub(crate) async fn job_run(
        self: &Arc<Self>,
        spec: &EnvironmentSpec,
        name: &JobName,
        secrets: &SecretValues,
    ) -> Result<JobOutcome, RuntimeError> {
        let stack = self.service_stack(spec)?;
        let job = stack.jobs.get(name).ok_or_else(|| RuntimeError::NotFound {
            what: format!("job {name} in the stack"),
        })?;
        let digest = spec.job_digest(name).ok_or_else(|| RuntimeError::NotFound {
            what: format!("job {name}"),
        })?;
        let environment = self.environment(&spec.environment)?;
        let unit = UnitName::job(name);
        let product = spec.product(name);
        if let Some(product) = product.clone()
            && self.block(move |host| host.is_built(&product)).await?
        {
            self.accept(&environment, spec.generation)?;
            return Ok(JobOutcome {
                exit: 0,
                timed_out: false,
            });
        }
        {
            let _shared = environment.gate.read().await;
            let _turn = environment.turn(&unit).await;
            self.accept(&environment, spec.generation)?;
            // What is wanted of a build is what it has made; without its checkout that is gone.
            let made = || product.is_none() || self.has_checkout(spec, name);
            // Whoever asks for a run by hand again wants to know how it ended.
            let of_use = |code: i32| job.on == JobEvent::Hand || (code == 0 && made());
            let keep = environment
                .unit(&unit)
                .is_some_and(|r| r.digest == digest && r.launched && ended(&r.state).is_none_or(of_use));
            if !keep {
                let resolved = resolve::job(spec, &unit, job, secrets)?;
                self.wake(&environment).await?;
                self.replace(&environment, unit.clone(), digest.clone(), resolved)
                    .await?;
            }
        }
        let over = |r: &super::record::Record| {
            r.units
                .get(&unit)
                .is_none_or(|u| u.digest != digest || ended(&u.state).is_some())
        };
        environment.until(over).await;
        if let Some(product) = product
            && environment.unit(&unit).is_some_and(|r| ended(&r.state) == Some(0))
        {
            self.keep_product(&environment, spec, name, product).await?;
        }
        self.finish_job(&environment, &unit).await;
        let record = environment.unit(&unit).filter(|r| r.digest == digest);
        let record = record.ok_or_else(|| RuntimeError::NotFound {
            what: format!("job {name}: it was replaced"),
        })?;
        let exit = ended(&record.state).ok_or_else(|| RuntimeError::NotFound {
            what: format!("the end of job {name}"),
        })?;
        Ok(JobOutcome {
            exit,
            timed_out: record.timed_out,
        })
    }

    /// What an ended job leaves: its record and its log. Layer, bundle and secret values go.
    async fn finish_job(self: &Arc<Self>, environment: &Arc<Environment>, unit: &UnitName) {
        let done = environment.inner().watchers.get(unit).map(|w| w.done.clone());
        if let Some(mut done) = done {
            let _ = done.wait_for(|done| *done).await;
        }
        let _shared = environment.gate.read().await;
        let _turn = environment.turn(unit).await;
        let still_ended = environment.unit(unit).is_some_and(|r| ended(&r.state).is_some());
        let Ok(cell) = self.cell(environment, unit) else { return };
        if still_ended {
            environment.inner().watchers.remove(unit);
            self.clear_quietly(cell).await;
        }
    }

    async fn clear_quietly(self: &Arc<Self>, cell: Cell) {
        if let Err(error) = self.block(move |host| host.clear_unit(&cell)).await {
            tracing::warn!(%error, "what an ended job left is removed with its environment");
        }
    }
}

pub(super) fn ended(state: &ServiceState) -> Option<i32> {
    if let ServiceState::Exited { code } = state {
        Some(*code)
    } else {
        None
    }
}
