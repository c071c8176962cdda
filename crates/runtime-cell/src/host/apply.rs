//! Carries out one stage of a generation.

use super::{
    Host,
    environment::{Environment, Stop},
    failed,
    launch::{Cell, pool_error},
    log_files, now,
    record::{Record, Underway, UnitRecord},
    resolve::{self, Resolved},
    supervise::Found,
};
use crate::{
    names::{self, UnitName},
    pool::{Origin, Owner},
    protocol::SecretValues,
    sandbox::{idmap::Range, network::MAX_CONTAINERS},
};
use futures::future::join_all;
use model::{
    Digest, EnvironmentId, EnvironmentSpec, Generation, MountKind, Power, Root, ServiceName, ServiceStack,
    ServiceState, Stack, Stage, VolumeOrigin,
};
use runtime::RuntimeError;
use std::{collections::BTreeSet, sync::Arc};

/// Said of what uses a volume that may be damaged. Nothing is made anew by itself: it may be whole, and is somebody's work.
const TORN: &str = "the machine went down without warning while its database ran: what was written last may be damaged or \
    missing; `maquette recreate` makes it anew";
const LOST: &str = "its data was not there any more when the machine came back: it was made anew";
const VOLUME_BYTES: u64 = 2 << 30;

impl Host {
    /// Applies a stage.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        spec: &EnvironmentSpec,
        stage: &Stage,
        secrets: &SecretValues,
    ) -> Result<(), RuntimeError> {
        let stack = self.service_stack(spec)?;
        let environment = match stage {
            Stage::Envelope => self.environment_or_new(spec)?,
            _ => self.environment(&spec.environment)?,
        };
        let (_shared, _alone) = match stage {
            Stage::Services(_) => (Some(environment.gate.read().await), None),
            _ => (None, Some(environment.gate.write().await)),
        };
        self.accept(&environment, spec.generation)?;
        match stage {
            Stage::Envelope => {
                self.note_spec(spec)?;
                self.apply_envelope(&environment, spec, stack).await
            }
            Stage::Services(names) => self.apply_services(&environment, spec, stack, names, secrets).await,
            Stage::Prune => self.prune(&environment, stack).await,
            Stage::Whole => Err(unsupported("a whole generation at once", "cut it into stages")),
        }
    }

    /// The services of a specification, refused by name where it has none.
    pub(crate) fn service_stack<'a>(&self, spec: &'a EnvironmentSpec) -> Result<&'a ServiceStack, RuntimeError> {
        match &spec.stack {
            Stack::Services(stack) => Ok(stack),
            Stack::Objects(objects) => Err(unsupported(
                &format!(
                    "the {:?} objects at `{}`",
                    objects.renderer,
                    objects.path.escape_debug()
                ),
                "use the kubernetes runtime",
            )),
        }
    }

    fn environment_or_new(&self, spec: &EnvironmentSpec) -> Result<Arc<Environment>, RuntimeError> {
        let mut known = self.known();
        if let Some(found) = known.environments.get(&spec.environment) {
            return Ok(Arc::clone(found));
        }
        let given = spec.generation;
        if let Some((_, newest)) = known
            .removed
            .iter()
            .find(|(id, newest)| *id == spec.environment && given < *newest)
        {
            return Err(RuntimeError::Superseded {
                environment: spec.environment.clone(),
                given,
                newest: *newest,
            });
        }
        let taken: BTreeSet<u32> = known.environments.values().map(|e| e.inner().record.number).collect();
        let number = (0..self.config.max_environments)
            .find(|n| !taken.contains(n))
            .ok_or_else(|| RuntimeError::Full {
                what: format!("environment {}", spec.environment),
                reason: format!("there are {} already", taken.len()),
            })?;
        let record = Record::new(spec.environment.clone(), self.boot.clone(), number, given);
        // Before anything is made: the ids must not be given away twice.
        record
            .save(&self.state_dir(spec.environment.as_str()))
            .map_err(|e| failed(format!("recording {}", spec.environment), &e))?;
        let environment = Environment::new(record);
        known
            .environments
            .insert(spec.environment.clone(), Arc::clone(&environment));
        Ok(environment)
    }

    async fn apply_envelope(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        spec: &EnvironmentSpec,
        stack: &ServiceStack,
    ) -> Result<(), RuntimeError> {
        let mut limits = spec.limits;
        let defaults = &self.config.default_limits;
        limits.memory_bytes = limits.memory_bytes.or(defaults.memory_bytes);
        limits.cpu_millis = limits.cpu_millis.or(defaults.cpu_millis);
        limits.pids = limits.pids.or(defaults.pids);
        limits.disk_bytes = limits.disk_bytes.or(defaults.disk_bytes);
        self.discard_ahead(environment).await?;
        self.stop_users_of_replaced_volumes(environment, stack).await;
        let id = environment.id.clone();
        let volumes: Vec<WantedVolume> = stack
            .volumes
            .iter()
            .map(|(name, v)| wanted_volume(stack, name, v))
            .collect();
        // What nobody waits for yet is not to slow down what somebody waits for.
        let waits = spec.origin == model::Origin::Spare;
        let disks = self.block(move |host| {
            host.groups
                .ensure(id.as_str(), &limits)
                .and_then(|()| host.groups.set_share(id.as_str(), waits))
                .map_err(|e| failed(format!("limiting {id}"), &e))?;
            host.pool.admit(0).map_err(|e| pool_error(format!("making {id}"), e))?;
            host.pool
                .environment_create(id.as_str(), limits.disk_bytes)
                .map_err(|e| pool_error(format!("making {id}"), e))?;
            volumes.iter().try_for_each(|v| host.make_volume(&id, v))
        });
        let (network, disks) = tokio::join!(self.connect_hub(environment), disks);
        network?;
        disks?;
        self.update(environment, |record| {
            record.limits = limits;
            record.allow(spec);
            for (name, volume) in &stack.volumes {
                let before = record.volumes.insert(name.to_string(), volume.incarnation);
                if before != Some(volume.incarnation) {
                    record.torn.remove(name.as_str());
                }
                if before.is_some_and(|before| before != volume.incarnation) {
                    record.lost.remove(name.as_str());
                }
            }
            record.envelope = record.envelope.max(Some(spec.generation));
        })?;
        self.open_door(environment).await;
        Ok(())
    }

    async fn stop_users_of_replaced_volumes(self: &Arc<Self>, environment: &Arc<Environment>, stack: &ServiceStack) {
        let replaced: Vec<String> = {
            let inner = environment.inner();
            let differs = |(name, v): &(&model::VolumeName, &model::Volume)| {
                inner
                    .record
                    .volumes
                    .get(name.as_str())
                    .is_some_and(|i| *i != v.incarnation)
            };
            stack
                .volumes
                .iter()
                .filter(differs)
                .map(|(name, _)| name.to_string())
                .collect()
        };
        let uses = |r: &UnitRecord| r.manner.volumes.iter().any(|v| replaced.contains(v));
        let users: Vec<UnitName> = environment
            .inner()
            .record
            .units
            .iter()
            .filter(|(_, r)| uses(r))
            .map(|(n, _)| n.clone())
            .collect();
        self.stop_units(environment, &users, Stop::Gently).await;
    }

    fn make_volume(&self, id: &EnvironmentId, wanted: &WantedVolume) -> Result<(), RuntimeError> {
        let action = || format!("making the volume {} of {id}", wanted.volume);
        let in_pool = names::volume(&wanted.volume, wanted.incarnation);
        for name in self
            .pool
            .volume_list(id.as_str())
            .map_err(|e| pool_error(action(), e))?
        {
            if name != in_pool && names::volume_incarnation(&name, &wanted.volume).is_some() {
                self.pool
                    .volume_remove(id.as_str(), &name)
                    .map_err(|e| pool_error(action(), e))?;
            }
        }
        // One that exists was made for this incarnation, so from this origin: only its limit may be new.
        self.pool
            .volume_create(id.as_str(), &in_pool, &wanted.origin, wanted.limit)
            .map(drop)
            .map_err(|e| pool_error(action(), e))
    }

    async fn apply_services(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        spec: &EnvironmentSpec,
        stack: &ServiceStack,
        names: &BTreeSet<ServiceName>,
        secrets: &SecretValues,
    ) -> Result<(), RuntimeError> {
        // Everything is refused before anything is made.
        let mut wanted = Vec::new();
        for name in names {
            let service = stack.services.get(name).ok_or_else(|| RuntimeError::NotFound {
                what: format!("service {name} in the stack"),
            })?;
            let unit = UnitName::service(name);
            let resolved = resolve::service(spec, &unit, service, secrets)?;
            let digest = spec.service_digest(name).ok_or_else(|| RuntimeError::NotFound {
                what: format!("service {name}"),
            })?;
            wanted.push((unit, digest, resolved));
        }
        self.wake(environment).await?;
        let starts = wanted.into_iter().map(|(unit, digest, resolved)| async move {
            let _turn = environment.turn(&unit).await;
            // Whoever had the turn before may have belonged to a newer generation.
            self.accept(environment, spec.generation)?;
            if already_runs(environment, &unit, &digest) {
                return Ok(());
            }
            if self.start_ahead(environment, &unit, &digest).await? {
                return Ok(());
            }
            self.replace(environment, unit, digest, resolved).await
        });
        join_all(starts).await.into_iter().collect()
    }

    /// A frozen environment can not be changed: the OCI runtime would wait for ever inside it.
    pub(crate) async fn wake(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), RuntimeError> {
        if environment.power() == Power::Running {
            return Ok(());
        }
        let _ice = environment.ice.write().await;
        let id = environment.id.clone();
        self.block(move |host| {
            host.groups
                .thaw(id.as_str())
                .map_err(|e| failed(format!("thawing {id}"), &e))
        })
        .await?;
        self.update(environment, |record| record.power = Power::Running)
    }

    /// Ends what runs under this name and starts anew.
    pub(crate) async fn replace(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        unit: UnitName,
        digest: Digest,
        resolved: Resolved,
    ) -> Result<(), RuntimeError> {
        self.stop_units(environment, std::slice::from_ref(&unit), Stop::Gently)
            .await;
        let cell = self.reserve(environment, &unit, digest, &resolved).await?;
        let making = cell.clone();
        let started = self
            .block(move |host| {
                host.prepare(&making, &resolved)?;
                host.launch(&making).inspect_err(|_| host.clear_what_failed(&making))
            })
            .await;
        match started {
            Ok(running) => {
                self.update_unit(environment, &unit, |record| {
                    record.completes(Underway::Start);
                    record.launched = true;
                });
                self.watch_unit(environment, cell, Found::Running(running), None);
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

    /// Gives a container its address and writes down that it is about to be made.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        unit: &UnitName,
        digest: Digest,
        resolved: &Resolved,
    ) -> Result<Cell, RuntimeError> {
        let mut number = None;
        self.update(environment, |record| {
            number = record
                .units
                .get(unit)
                .map(|old| old.number)
                .or_else(|| record.free_number(MAX_CONTAINERS));
            if let Some(number) = number {
                let time = now();
                let any = |of: &BTreeSet<String>| resolved.manner.volumes.iter().any(|name| of.contains(name));
                let damage = if any(&record.torn) {
                    Some(TORN)
                } else {
                    any(&record.lost).then_some(LOST)
                };
                let fresh = UnitRecord {
                    digest,
                    number,
                    state: ServiceState::Starting,
                    since: time,
                    started: time,
                    restarts: 0,
                    message: damage.map(str::to_owned),
                    launched: false,
                    timed_out: false,
                    underway: Underway::Start,
                    manner: resolved.manner.clone(),
                };
                record.units.insert(unit.clone(), fresh);
            }
        })?;
        if number.is_none() {
            return Err(RuntimeError::Full {
                what: unit.plain().to_owned(),
                reason: format!("an environment has {MAX_CONTAINERS} addresses"),
            });
        }
        if unit
            .as_service()
            .is_some_and(|name| environment.inner().record.exits.shut.contains(&name))
        {
            // The door has to know which address that is.
            self.open_door(environment).await;
        }
        self.cell(environment, unit)
    }

    /// What launching a recorded container takes.
    pub(crate) fn cell(&self, environment: &Environment, unit: &UnitName) -> Result<Cell, RuntimeError> {
        let hub = environment.hub()?;
        let mut inner = environment.inner();
        let record = inner.record.units.get(unit).ok_or_else(|| RuntimeError::NotFound {
            what: unit.plain().to_owned(),
        })?;
        let (number, manner) = (record.number, record.manner.clone());
        let range = Range::numbered(self.config.first_uid, inner.record.number);
        let range = range.ok_or_else(|| RuntimeError::Full {
            what: environment.id.to_string(),
            reason: "the user ids are used up".into(),
        })?;
        let namespace = match &inner.namespace {
            Some(namespace) => Arc::clone(namespace),
            None => {
                let made = range
                    .namespace()
                    .map_err(|e| failed(format!("mapping the ids of {}", environment.id), &e))?;
                Arc::clone(inner.namespace.insert(Arc::new(made)))
            }
        };
        Ok(Cell {
            environment: environment.id.clone(),
            unit: unit.clone(),
            number,
            range,
            hub,
            namespace,
            manner,
        })
    }

    async fn prune(self: &Arc<Self>, environment: &Arc<Environment>, stack: &ServiceStack) -> Result<(), RuntimeError> {
        let wanted = |unit: &UnitName| {
            unit.as_service().is_some_and(|s| stack.services.contains_key(&s))
                || unit.as_job().is_some_and(|j| stack.jobs.contains_key(&j))
                || unit.as_build().is_some_and(|s| stack.services.contains_key(&s))
        };
        let leftover: Vec<UnitName> = environment
            .inner()
            .record
            .units
            .keys()
            .filter(|u| !wanted(u))
            .cloned()
            .collect();
        if !leftover.is_empty() {
            self.wake(environment).await?;
        }
        join_all(leftover.iter().map(|unit| self.discard(environment, unit)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        let id = environment.id.clone();
        let keep: Vec<model::VolumeName> = stack.volumes.keys().cloned().collect();
        self.block(move |host| {
            let action = || format!("pruning the volumes of {id}");
            for name in host
                .pool
                .volume_list(id.as_str())
                .map_err(|e| pool_error(action(), e))?
            {
                let kept = keep
                    .iter()
                    .any(|volume| names::volume_incarnation(&name, volume).is_some());
                if name.starts_with('v') && !kept {
                    host.pool
                        .volume_remove(id.as_str(), &name)
                        .map_err(|e| pool_error(action(), e))?;
                }
            }
            Ok(())
        })
        .await?;
        self.update(environment, |record| {
            record
                .volumes
                .retain(|name, _| stack.volumes.keys().any(|v| v.as_str() == name));
            record.torn.retain(|name| record.volumes.contains_key(name));
            record.lost.retain(|name| record.volumes.contains_key(name));
        })
    }

    /// Ends a container and forgets it, its log included.
    async fn discard(self: &Arc<Self>, environment: &Arc<Environment>, unit: &UnitName) -> Result<(), RuntimeError> {
        self.stop_units(environment, std::slice::from_ref(unit), Stop::Gently)
            .await;
        environment.inner().ahead.remove(unit);
        let cell = self.cell(environment, unit)?;
        self.block(move |host| {
            host.clear_unit(&cell)?;
            log_files::remove(&host.container(&cell.environment, &cell.unit).log)
                .map_err(|e| failed("removing a log", &e))
        })
        .await?;
        self.update(environment, |record| {
            record.units.remove(unit);
        })
    }
}

struct WantedVolume {
    volume: model::VolumeName,
    incarnation: Generation,
    origin: Origin,
    limit: u64,
}

/// An empty volume belongs to the user of the service that mounts it.
fn wanted_volume(stack: &ServiceStack, name: &model::VolumeName, volume: &model::Volume) -> WantedVolume {
    let mounts = |workload: &model::Workload| {
        workload
            .mounts
            .iter()
            .any(|m| matches!(&m.kind, MountKind::Volume { volume } if volume == name))
    };
    let of_engine = stack
        .services
        .values()
        .any(|s| matches!(s.workload.root, Root::Engine(_)) && mounts(&s.workload));
    let owner = if of_engine {
        Owner {
            uid: 999,
            gid: 999,
            mode: 0o700,
        }
    } else {
        Owner {
            uid: 0,
            gid: 0,
            mode: 0o755,
        }
    };
    WantedVolume {
        volume: name.clone(),
        incarnation: volume.incarnation,
        origin: match &volume.origin {
            VolumeOrigin::Empty => Origin::Empty(owner),
            VolumeOrigin::Snapshot(id) => Origin::Snapshot(id.to_string()),
        },
        limit: volume.limit_bytes.unwrap_or(VOLUME_BYTES),
    }
}

fn already_runs(environment: &Environment, unit: &UnitName, digest: &Digest) -> bool {
    environment
        .unit(unit)
        .filter(|r| r.digest == *digest && r.launched)
        .is_some_and(|r| {
            let ended = matches!(r.state, ServiceState::Exited { code } if code != 0);
            !ended && r.state != ServiceState::Stopped && r.underway != Underway::Stop
        })
}

pub(crate) fn unsupported(what: &str, hint: &str) -> RuntimeError {
    RuntimeError::Unsupported {
        runtime: super::NAME.to_owned(),
        what: what.to_owned(),
        hint: hint.to_owned(),
    }
}
