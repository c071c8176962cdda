//! Containers that are made before they are wanted: created and linked, and not started. While an engine starts, there is time.
//!
//! Until its start such a container is, for whoever comes after a killed host, a first start that was cut: it is cleared away.

use super::{
    Host,
    environment::Environment,
    launch::Cell,
    now,
    record::Underway,
    resolve::{self, Resolved},
    supervise::Found,
};
use crate::{names::UnitName, protocol::SecretValues, sandbox::conmon::Running};
use model::{Digest, EnvironmentSpec, Mount, MountKind, Power, Root, ServiceName, Workload};
use runtime::RuntimeError;
use std::sync::Arc;

/// A container whose command does not run yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    digest: Digest,
    running: Running,
}

/// Whether it can be made at any time after the envelope. What is in a volume may come from others, or be replaced by them; and an
/// engine's first run fills its volume.
fn may_be_early(workload: &Workload) -> bool {
    let late = |mount: &Mount| matches!(mount.kind, MountKind::VolumePath { .. });
    !matches!(workload.root, Root::Engine(_)) && !workload.mounts.iter().any(late)
}

impl Host {
    /// Makes containers for services that will be wanted, one after the other. Those of which there is anything are left alone.
    pub(crate) async fn prepare_services(
        self: &Arc<Self>,
        spec: &EnvironmentSpec,
        names: &[ServiceName],
        secrets: &SecretValues,
    ) -> Result<(), RuntimeError> {
        let stack = self.service_stack(spec)?;
        let environment = self.environment(&spec.environment)?;
        for name in names {
            let missing = || RuntimeError::NotFound {
                what: format!("service {name} in the stack"),
            };
            let service = stack.services.get(name).ok_or_else(missing)?;
            let digest = spec.service_digest(name).ok_or_else(missing)?;
            let unit = UnitName::service(name);
            // For each anew: whoever wants something else of the environment does not wait for all of them.
            let _shared = environment.gate.read().await;
            let _turn = environment.turn(&unit).await;
            self.accept(&environment, spec.generation)?;
            let there = environment.unit(&unit).is_some();
            if there || environment.power() != Power::Running || !may_be_early(&service.workload) {
                continue;
            }
            let resolved = resolve::service(spec, &unit, service, secrets)?;
            if let Err(error) = self.make_ahead(&environment, unit, digest, resolved).await {
                // Whoever wants it will be told.
                tracing::debug!(environment = %spec.environment, %error, "a container is not made ahead");
            }
        }
        Ok(())
    }

    async fn make_ahead(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        unit: UnitName,
        digest: Digest,
        resolved: Resolved,
    ) -> Result<(), RuntimeError> {
        let cell = self.reserve(environment, &unit, digest.clone(), &resolved).await?;
        let made = self
            .block(move |host| {
                host.prepare(&cell, &resolved)?;
                host.create(&cell).inspect_err(|_| host.clear_what_failed(&cell))
            })
            .await;
        match made {
            Ok(running) => {
                environment.inner().ahead.insert(unit, Ahead { digest, running });
                Ok(())
            }
            Err(error) => {
                self.update(environment, |record| {
                    record.units.remove(&unit);
                })?;
                Err(error)
            }
        }
    }

    /// After a start that failed.
    pub(crate) fn clear_what_failed(&self, cell: &Cell) {
        if let Err(error) = self.clear_unit(cell) {
            tracing::warn!(unit = cell.unit.as_str(), %error, "a failed start left something behind");
        }
    }

    /// Starts the container that was made ahead, if it is the one that is wanted. Tells whether it did; what it did not start is
    /// cleared away by whoever makes it anew.
    pub(crate) async fn start_ahead(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        unit: &UnitName,
        digest: &Digest,
    ) -> Result<bool, RuntimeError> {
        let ahead = environment.inner().ahead.remove(unit);
        let Some(ahead) = ahead.filter(|ahead| ahead.digest == *digest) else {
            return Ok(false);
        };
        let cell = self.cell(environment, unit)?;
        let starting = cell.clone();
        if let Err(error) = self.block(move |host| host.start(&starting)).await {
            tracing::info!(environment = %environment.id, unit = unit.as_str(), %error, "a container is made anew");
            return Ok(false);
        }
        self.update_unit(environment, unit, |record| {
            record.completes(Underway::Start);
            record.launched = true;
            record.since = now();
            record.started = record.since;
        });
        self.watch_unit(environment, cell, Found::Running(ahead.running), None);
        Ok(true)
    }

    /// Clears away what was made ahead and is not started yet.
    pub(crate) async fn discard_ahead(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), RuntimeError> {
        loop {
            let next = environment.inner().ahead.keys().next().cloned();
            let Some(unit) = next else { return Ok(()) };
            let cell = self.cell(environment, &unit)?;
            self.block(move |host| host.clear_unit(&cell)).await?;
            self.update(environment, |record| {
                record.units.remove(&unit);
            })?;
            environment.inner().ahead.remove(&unit);
        }
    }
}
