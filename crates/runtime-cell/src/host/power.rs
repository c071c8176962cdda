//! Freezing, stopping, starting again; and finding everything again after a restart of the host process.

use super::{
    Host,
    environment::{Environment, Stop},
    failed,
    launch::Cell,
    now,
    record::{Record, Underway, UnitRecord},
    supervise::{self, Found},
};
use crate::{
    names::{self, UnitName},
    sandbox::{conmon::Running, process::Process},
};
use futures::future::join_all;
use model::{Condition, EnvironmentId, Generation, Power, ServiceName, ServiceState};
use runtime::RuntimeError;
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a service that is started again waits for what it depends on before it tries without.
const DEPENDENCY_PATIENCE: Duration = Duration::from_secs(60);

impl Host {
    /// Brings an environment to a power state.
    pub(crate) async fn power(
        self: &Arc<Self>,
        id: &EnvironmentId,
        generation: Generation,
        power: Power,
    ) -> Result<(), RuntimeError> {
        let environment = self.environment(id)?;
        let _turn = environment.gate.write().await;
        self.accept(&environment, generation)?;
        if power != Power::Running {
            // What sleeps is to cost nothing that nobody may ever want.
            self.discard_ahead(&environment).await?;
        }
        match power {
            Power::Frozen if environment.power() == Power::Stopped => Ok(()),
            Power::Frozen => self.freeze(&environment).await,
            Power::Stopped => {
                self.wake(&environment).await?;
                let units: Vec<UnitName> = environment.inner().watchers.keys().cloned().collect();
                self.stop_units(&environment, &units, Stop::Gently).await;
                self.update(&environment, |record| record.power = Power::Stopped)
            }
            Power::Running => {
                self.wake(&environment).await?;
                self.start_stopped(&environment).await
            }
        }
    }

    async fn freeze(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), RuntimeError> {
        // Said first: probes and restarts hold back before the group stops.
        self.update(environment, |record| record.power = Power::Frozen)?;
        let frozen = {
            let _ice = environment.ice.write().await;
            self.freeze_group(environment).await
        };
        if frozen.is_err() {
            self.wake(environment).await?;
        }
        frozen
    }

    async fn freeze_group(self: &Arc<Self>, environment: &Environment) -> Result<(), RuntimeError> {
        let id = environment.id.clone();
        self.block(move |host| {
            host.groups
                .freeze(id.as_str())
                .map_err(|e| failed(format!("freezing {id}"), &e))
        })
        .await
    }

    /// Ends a container. Nothing frozen can be ended, so that thaws all of a frozen environment: it is frozen again.
    pub(crate) async fn end_in(self: &Arc<Self>, environment: &Environment, cell: &Cell) -> Result<(), RuntimeError> {
        let ending = cell.clone();
        let end = move |host: &Host| host.end_unit(&ending);
        {
            let _ice = environment.ice.read().await;
            // Whoever freezes says so before it waits for the ice.
            if environment.power() != Power::Frozen {
                return self.block(end).await;
            }
        }
        let _ice = environment.ice.write().await;
        let ended = self.block(end).await;
        if environment.power() == Power::Frozen {
            self.freeze_group(environment).await?;
        }
        ended
    }

    async fn start_stopped(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), RuntimeError> {
        let stopped = |r: &UnitRecord| r.launched && r.state == ServiceState::Stopped;
        let units: Vec<UnitName> = environment
            .inner()
            .record
            .units
            .iter()
            .filter(|(_, r)| stopped(r))
            .map(|(n, _)| n.clone())
            .collect();
        join_all(units.iter().map(|unit| self.start_one(environment, unit)))
            .await
            .into_iter()
            .collect()
    }

    async fn start_one(self: &Arc<Self>, environment: &Arc<Environment>, unit: &UnitName) -> Result<(), RuntimeError> {
        let cell = self.cell(environment, unit)?;
        let waits: Vec<(UnitName, Condition)> = cell
            .manner
            .depends_on
            .iter()
            .map(|(name, condition)| (UnitName::service(name), *condition))
            .collect();
        let met = environment.until(|record| waits.iter().all(|(on, condition)| may_start(record, on, *condition)));
        let _ = timeout(DEPENDENCY_PATIENCE, met).await;
        if let Some(on) = self.incomplete(environment, &waits) {
            // It would run without what it needs. Whoever wants it to run asks again when that is there.
            let message = format!("it is not started before {} has completed", on.plain());
            self.update_unit(environment, unit, |record| record.message = Some(message));
            return Ok(());
        }
        // What else it waits for may be broken; the service then says so itself.
        self.update_unit(environment, unit, |record| record.begins(Underway::Start));
        let launching = cell.clone();
        let launched = self.block(move |host| host.launch(&launching)).await;
        self.update_unit(environment, unit, |record| {
            record.completes(Underway::Start);
            if launched.is_ok() {
                record.state = ServiceState::Starting;
                record.since = now();
                record.started = record.since;
            }
        });
        self.watch_unit(environment, cell, Found::Running(launched?), None);
        Ok(())
    }

    /// What has not completed although this must come first.
    fn incomplete(&self, environment: &Environment, waits: &[(UnitName, Condition)]) -> Option<UnitName> {
        let inner = environment.inner();
        let is_open = |on: &UnitName| inner.record.units.get(on).is_some_and(|unit| !has_completed(unit));
        let mut open = waits
            .iter()
            .filter(|(on, condition)| *condition == Condition::Completed && is_open(on));
        open.next().map(|(on, _)| on.clone())
    }

    pub(crate) fn watch_unit(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        cell: Cell,
        found: Found,
        stop: Option<Stop>,
    ) {
        let unit = cell.unit.clone();
        let watcher = supervise::watch(self, environment, cell, found, stop);
        environment.inner().watchers.insert(unit, watcher);
    }

    /// Stops some services.
    pub(crate) async fn services_stop(
        self: &Arc<Self>,
        id: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<(), RuntimeError> {
        let environment = self.environment(id)?;
        let _turn = environment.gate.write().await;
        self.accept(&environment, generation)?;
        self.wake(&environment).await?;
        let units: Vec<UnitName> = services.iter().map(UnitName::service).collect();
        self.stop_units(&environment, &units, Stop::Gently).await;
        Ok(())
    }

    /// Finds the environments of earlier processes again.
    pub(crate) async fn adopt_all(self: &Arc<Self>) {
        let directory = self.config.state_dir.join("environments");
        let suspect = self.pool.volumes_suspect().unwrap_or_else(|error| {
            tracing::warn!(%error, "whether the machine went down in order is not known");
            true
        });
        let mut noted = true;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match Record::load(&entry.path()) {
                Ok(Some(mut record)) if entry.file_name().to_str() == Some(record.environment.as_str()) => {
                    if suspect && record.boot != self.boot {
                        record.tear();
                        noted &= self.note_torn(&record, &entry.path());
                    }
                    self.adopt(record).await
                }
                Ok(_) => {
                    tracing::warn!(path = %entry.path().display(), "an environment without a record can only be removed")
                }
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "a record can not be read"),
            }
        }
        if suspect
            && noted
            && let Err(error) = self.pool.suspect_clear()
        {
            tracing::warn!(%error, "the pool goes on saying that the machine went down without warning");
        }
    }

    /// Writes down which volumes are torn. What can not be written down is found out again by the next host.
    fn note_torn(&self, record: &Record, directory: &Path) -> bool {
        if record.torn.is_empty() {
            return true;
        }
        tracing::warn!(environment = %record.environment, volumes = ?record.torn, "the machine went down while databases ran");
        let saved = record.save(directory);
        if let Err(error) = &saved {
            tracing::warn!(environment = %record.environment, %error, "a record was not saved");
        }
        saved.is_ok()
    }

    async fn adopt(self: &Arc<Self>, mut record: Record) {
        let rebooted = record.boot != self.boot;
        if rebooted {
            // Processes, network and bundles went with the machine; disks and what jobs achieved are still there.
            record
                .units
                .retain(|name, unit| name.as_job().is_some() && matches!(unit.state, ServiceState::Exited { .. }));
            record.boot.clone_from(&self.boot);
            record.envelope = None;
            record.power = Power::Running;
            self.forget_lost_volumes(&mut record);
        }
        let units: Vec<UnitName> = record.units.keys().cloned().collect();
        let had_envelope = record.envelope.is_some();
        let environment = Environment::new(record);
        self.known()
            .environments
            .insert(environment.id.clone(), Arc::clone(&environment));
        if !had_envelope {
            return;
        }
        if let Err(error) = self.connect_hub(&environment).await {
            tracing::warn!(environment = %environment.id, %error, "an environment is found again without its network");
            for unit in &units {
                self.lose(&environment, unit, &not_found(&error));
            }
            return;
        }
        self.open_door(&environment).await;
        for unit in units {
            if let Err(error) = self.adopt_unit(&environment, &unit).await {
                tracing::warn!(environment = %environment.id, unit = unit.as_str(), %error, "a container can not be found again");
                self.lose(&environment, &unit, &not_found(&error));
            }
        }
    }

    /// The pool writes a new volume to disk within half a minute, and a power cut may come earlier. Whoever wants a volume that is
    /// not there has it made anew.
    fn forget_lost_volumes(&self, record: &mut Record) {
        let found = match self.pool.volume_list(record.environment.as_str()) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(environment = %record.environment, %error, "whether its volumes are there is not known");
                return;
            }
        };
        record.volumes.retain(|name, incarnation| {
            let Ok(volume) = name.parse() else { return true };
            let there = found.contains(&names::volume(&volume, *incarnation));
            if !there {
                tracing::warn!(environment = %record.environment, volume = name, "a volume is gone");
                record.lost.insert(name.clone());
            }
            there
        });
    }

    /// Nobody watches this container: it counts as ended, so that whoever wants it has it made anew.
    pub(crate) fn lose(&self, environment: &Environment, unit: &UnitName, message: &str) {
        self.update_unit(environment, unit, |record| {
            if matches!(record.state, ServiceState::Stopped | ServiceState::Exited { .. }) {
                return;
            }
            record.underway = Underway::Nothing;
            record.state = ServiceState::Exited {
                code: supervise::KILLED,
            };
            record.since = now();
            record.message = Some(message.to_owned());
        });
    }

    async fn adopt_unit(self: &Arc<Self>, environment: &Arc<Environment>, unit: &UnitName) -> Result<(), RuntimeError> {
        let Some(record) = environment.unit(unit) else {
            return Ok(());
        };
        let cell = self.cell(environment, unit)?;
        let ended = matches!(record.state, ServiceState::Stopped | ServiceState::Exited { .. });
        if !record.launched || record.underway == Underway::Start {
            return self.adopt_cut_start(environment, cell, &record).await;
        }
        if ended {
            return Ok(());
        }
        let found = self.find_again(environment, &cell).await?;
        // Whether it was told to end before the host was killed is not known: it is told now.
        let stop = (record.underway == Underway::Stop).then_some(Stop::Gently);
        self.watch_unit(environment, cell, found, stop);
        Ok(())
    }

    /// What there is of a container that was started.
    pub(crate) async fn find_again(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        cell: &Cell,
    ) -> Result<Found, RuntimeError> {
        let container = self.container(&environment.id, &cell.unit);
        let io = |e: std::io::Error| failed(format!("finding {} again", cell.unit.plain()), &e);
        self.logs.keep(&container.log);
        let monitor = container.monitor().map_err(io)?;
        let pid = container.pid().map_err(io)?;
        match monitor.zip(pid) {
            Some((monitor, pid)) => Ok(Found::Running(Running {
                pid,
                process: Process::of(pid, cell.range).map_err(io)?,
                monitor,
            })),
            None => {
                let status = container.exit_status();
                self.end_in(environment, cell).await?;
                Ok(Found::Ended(status))
            }
        }
    }

    /// A start that was cut: what there is of it may be a container whose command does not run and never will.
    async fn adopt_cut_start(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        cell: Cell,
        record: &UnitRecord,
    ) -> Result<(), RuntimeError> {
        let ending = cell.clone();
        let first = !record.launched;
        self.block(move |host| {
            host.end_makers(&ending)?;
            if first { host.clear_unit(&ending) } else { Ok(()) }
        })
        .await?;
        if !first {
            self.end_in(environment, &cell).await?;
        }
        if first {
            // Whoever wanted it asks again.
            return self.update(environment, |record| {
                record.units.remove(&cell.unit);
            });
        }
        self.update_unit(environment, &cell.unit, |record| record.completes(Underway::Start));
        // What was stopped still is, and whoever wanted it to run asks again; the rest is the host's own to start again.
        if record.state != ServiceState::Stopped {
            self.watch_unit(environment, cell, Found::ToStart, None);
        }
        Ok(())
    }
}

fn not_found(error: &RuntimeError) -> String {
    format!("it was not found again after a restart of the cell host: {error}")
}

/// Whether a service need not wait longer for another one. What is to complete first is not waited for here: that may take an hour.
fn may_start(record: &Record, on: &UnitName, condition: Condition) -> bool {
    let Some(unit) = record.units.get(on) else { return true };
    match condition {
        Condition::Started => unit.state != ServiceState::Stopped,
        Condition::Healthy => unit.state == ServiceState::Ready || has_completed(unit),
        Condition::Completed => true,
    }
}

fn has_completed(unit: &UnitRecord) -> bool {
    unit.state == ServiceState::Exited { code: 0 }
}
