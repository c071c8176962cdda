//! One environment in the host's memory: its record, its hub, the tasks that watch its containers.

use super::{
    Host,
    ahead::Ahead,
    door, failed, nameserver, now,
    record::{Record, UnitRecord},
};
use crate::{
    names::UnitName,
    sandbox::{
        filter::{self, Reaches},
        network::Hub,
    },
};
use model::{EnvironmentId, Generation, JobFact, Observation, Power, ServiceFact, ServiceState, VolumeFact};
use runtime::{RuntimeError, Sake};
use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{OwnedMutexGuard, RwLock, watch},
    task::AbortHandle,
};

/// How a container is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// By its signal, then after its grace for good.
    Gently,
    /// At once.
    Now,
}

/// The task that watches a container.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// Tells it to end the container.
    pub(crate) stop: watch::Sender<Option<Stop>>,
    /// Becomes true when the container is gone and will not come back by itself.
    pub(crate) done: watch::Receiver<bool>,
}

/// One environment.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Which.
    pub(crate) id: EnvironmentId,
    /// Mutations of the whole happen one at a time. Starts of single containers share it, each in the turn of its unit.
    pub(crate) gate: RwLock<()>,
    /// Held by whoever freezes or thaws its processes; shared by those who end containers of what is not frozen. Ending one container
    /// of a frozen environment thaws all for a moment.
    pub(crate) ice: RwLock<()>,
    /// Whom each container heard when the rules of the network were put in place last.
    reaches: Mutex<Option<Reaches>>,
    /// Held by whoever puts something into new volumes.
    pub(crate) filling: Mutex<()>,
    turns: Mutex<HashMap<UnitName, Arc<tokio::sync::Mutex<()>>>>,
    /// Wakes who waits for a change of anything observed.
    pub(crate) changed: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

/// What changes about it.
#[derive(Debug)]
pub(crate) struct Inner {
    /// What is remembered on disk.
    pub(crate) record: Record,
    /// Its network, once the envelope is made.
    pub(crate) hub: Option<Arc<Hub>>,
    /// Its ids on disk.
    pub(crate) namespace: Option<Arc<OwnedFd>>,
    /// Its name server.
    pub(crate) nameserver: Vec<AbortHandle>,
    /// Containers that are made and wait for their start.
    pub(crate) ahead: HashMap<UnitName, Ahead>,
    /// Its containers' watchers.
    pub(crate) watchers: HashMap<UnitName, Watcher>,
    /// Whether it was removed while somebody still held on to it.
    pub(crate) removed: bool,
    /// Whether it is being removed: what is noted meanwhile must not bring its file back.
    pub(crate) removing: bool,
}

impl Environment {
    pub(crate) fn new(record: Record) -> Arc<Self> {
        let inner = Inner {
            record,
            hub: None,
            namespace: None,
            nameserver: Vec::new(),
            ahead: HashMap::new(),
            watchers: HashMap::new(),
            removed: false,
            removing: false,
        };
        Arc::new(Self {
            id: inner.record.environment.clone(),
            gate: RwLock::default(),
            ice: RwLock::default(),
            reaches: Mutex::default(),
            filling: Mutex::default(),
            turns: Mutex::default(),
            changed: watch::channel(0).0,
            inner: Mutex::new(inner),
        })
    }

    /// The changing part, for a short time.
    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else starts or replaces this container.
    pub(crate) async fn turn(&self, unit: &UnitName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(unit.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// The network.
    pub(crate) fn hub(&self) -> Result<Arc<Hub>, RuntimeError> {
        let hub = self.inner().hub.clone();
        hub.ok_or_else(|| RuntimeError::NotFound {
            what: format!("the network of {}", self.id),
        })
    }

    /// Whether it runs.
    pub(crate) fn power(&self) -> Power {
        self.inner().record.power
    }

    /// A container's record.
    pub(crate) fn unit(&self, name: &UnitName) -> Option<UnitRecord> {
        self.inner().record.units.get(name).cloned()
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&Record) -> bool) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if holds(&self.inner().record) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Host {
    /// An environment that is known.
    pub(crate) fn environment(&self, id: &EnvironmentId) -> Result<Arc<Environment>, RuntimeError> {
        let found = self.known().environments.get(id).cloned();
        found.ok_or_else(|| RuntimeError::NotFound {
            what: format!("environment {id}"),
        })
    }

    /// Changes an environment's record, writes it to disk and tells everybody.
    pub(crate) fn update(
        &self,
        environment: &Environment,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), RuntimeError> {
        let saved = {
            let mut inner = environment.inner();
            change(&mut inner.record);
            if inner.removed || inner.removing {
                return Ok(());
            }
            inner.record.save(&self.state_dir(environment.id.as_str()))
        };
        environment.changed.send_modify(|n| *n = n.wrapping_add(1));
        self.changed(&environment.id);
        saved.map_err(|e| failed(format!("saving the record of {}", environment.id), &e))
    }

    /// Changes the record of one container, if it is still there. Failures to save are logged: the next save repairs them.
    pub(crate) fn update_unit(&self, environment: &Environment, name: &UnitName, change: impl FnOnce(&mut UnitRecord)) {
        let result = self.update(environment, |record| {
            if let Some(unit) = record.units.get_mut(name) {
                change(unit);
            }
        });
        if let Err(error) = result {
            tracing::warn!(environment = %environment.id, %error, "a record was not saved");
        }
    }

    /// Sets the state of a container.
    pub(crate) fn set_state(
        &self,
        environment: &Environment,
        name: &UnitName,
        state: ServiceState,
        message: Option<String>,
    ) {
        self.update_unit(environment, name, |unit| {
            unit.state = state;
            unit.since = now();
            if message.is_some() {
                unit.message = message;
            }
        });
    }

    /// Accepts a generation, or refuses it as too old.
    pub(crate) fn accept(&self, environment: &Environment, given: Generation) -> Result<(), RuntimeError> {
        let (newest, removed) = {
            let inner = environment.inner();
            (inner.record.generation, inner.removed)
        };
        if removed {
            return Err(RuntimeError::NotFound {
                what: format!("environment {}", environment.id),
            });
        }
        if given < newest {
            return Err(RuntimeError::Superseded {
                environment: environment.id.clone(),
                given,
                newest,
            });
        }
        if given > newest {
            // Another may have accepted a newer one meanwhile.
            self.update(environment, |record| record.generation = record.generation.max(given))
        } else {
            Ok(())
        }
    }

    /// Refuses what is done for the sake of a generation that is too old. An environment that is not known refuses nothing,
    /// unless it was removed with a newer generation.
    pub(crate) fn for_sake_of(&self, sake: &Sake) -> Result<(), RuntimeError> {
        let (found, removed) = {
            let known = self.known();
            let removed = known.removed.iter().find(|(id, _)| *id == sake.environment);
            (
                known.environments.get(&sake.environment).cloned(),
                removed.map(|(_, newest)| *newest),
            )
        };
        match (found, removed) {
            (Some(environment), _) => self.accept(&environment, sake.generation),
            (None, Some(newest)) if sake.generation < newest => Err(RuntimeError::Superseded {
                environment: sake.environment.clone(),
                given: sake.generation,
                newest,
            }),
            _ => Ok(()),
        }
    }

    /// Makes or finds the network of an environment and serves its names.
    pub(crate) async fn connect_hub(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), RuntimeError> {
        if environment.inner().hub.is_some() {
            return Ok(());
        }
        let id = environment.id.clone();
        let (hub, sockets, refused) = self
            .block(move |host| {
                let action = format!("making the network of {id}");
                let hub = Hub::ensure(&host.pin(id.as_str()), &host.hub_label(&id)).map_err(|e| failed(&action, &e))?;
                let sockets = nameserver::bind(&hub).map_err(|e| failed(&action, &e))?;
                let refused = hub.watch_refused();
                Ok((hub, sockets, refused))
            })
            .await?;
        let mut tasks = nameserver::serve(sockets, environment, self)
            .map_err(|e| failed(format!("starting the name server of {}", environment.id), &e))?;
        // Without it they are refused all the same.
        match refused.and_then(|socket| door::watch(socket, environment, self)) {
            Ok(task) => tasks.push(task),
            Err(error) => tracing::warn!(environment = %environment.id, %error, "connections in vain are not told"),
        }
        let mut inner = environment.inner();
        inner.hub = Some(Arc::new(hub));
        inner.nameserver = tasks;
        Ok(())
    }

    /// Keeps the networks of an environment apart, if it has several. Blocking. Nobody else puts older rules in place meanwhile.
    pub(crate) fn keep_apart(&self, environment: &Environment, hub: &Hub) -> Result<(), RuntimeError> {
        let mut last = environment.reaches.lock().unwrap_or_else(PoisonError::into_inner);
        let (reaches, apart) = {
            let inner = environment.inner();
            (inner.record.reaches(), inner.record.apart)
        };
        let needed = filter::is_needed(&reaches);
        if (!needed && !apart) || last.as_ref() == Some(&reaches) {
            return Ok(());
        }
        if needed && !apart {
            self.update(environment, |record| record.apart = true)?;
        }
        hub.separate(&reaches)
            .map_err(|e| failed(format!("keeping the networks of {} apart", environment.id), &e))?;
        *last = Some(reaches);
        if needed {
            return Ok(());
        }
        self.update(environment, |record| record.apart = false)
    }

    /// What there is of an environment.
    pub(crate) fn observe(&self, id: &EnvironmentId) -> Option<Observation> {
        let environment = self.environment(id).ok()?;
        let inner = environment.inner();
        let record = &inner.record;
        let mut services = BTreeMap::new();
        let mut jobs = BTreeMap::new();
        for (name, unit) in record.units.iter().filter(|(_, unit)| unit.launched) {
            if let Some(service) = name.as_service() {
                let fact = ServiceFact {
                    digest: unit.digest.clone(),
                    state: unit.state.clone(),
                    since: unit.since,
                    restarts: unit.restarts,
                    message: unit.message.clone(),
                };
                services.insert(service, fact);
            } else if let Some(job) = name.as_job() {
                let exit = if let ServiceState::Exited { code } = unit.state {
                    Some(code)
                } else {
                    None
                };
                let ended = exit.map(|_| unit.since);
                jobs.insert(
                    job,
                    JobFact {
                        digest: unit.digest.clone(),
                        exit,
                        started: unit.started,
                        ended,
                    },
                );
            }
        }
        let volume = |(name, incarnation): (&String, &Generation)| {
            Some((
                name.parse().ok()?,
                VolumeFact {
                    incarnation: *incarnation,
                    torn: record.torn.contains(name),
                },
            ))
        };
        Some(Observation {
            environment: id.clone(),
            at: now(),
            generation: record.generation,
            envelope: record.envelope,
            power: record.power,
            services,
            jobs,
            volumes: record.volumes.iter().filter_map(volume).collect(),
            door: self.door_fact(record),
        })
    }
}
