//! Removal, and the list of everything that exists. Both go by what is found on the machine, not by what is remembered: they
//! also finish what a killed host has begun, and see what a lost record forgot.

use super::{
    Host,
    environment::Stop,
    failed,
    launch::{forget_administration, pool_error},
};
use crate::{
    names,
    sandbox::{
        conmon::{self, remove_directory},
        idmap, network,
    },
};
use model::{EnvironmentId, Generation, Resource};
use runtime::RuntimeError;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

impl Host {
    /// Removes everything of an environment and returns when it was seen to be gone.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        id: &EnvironmentId,
        generation: Generation,
    ) -> Result<(), RuntimeError> {
        if let Ok(environment) = self.environment(id) {
            let _turn = environment.gate.write().await;
            if environment.inner().removed {
                // Another request removed it while this one waited: what it asks for is so.
                return Ok(());
            }
            self.accept(&environment, generation)?;
            self.wake(&environment).await?;
            let units: Vec<_> = environment.inner().watchers.keys().cloned().collect();
            self.stop_units(&environment, &units, Stop::Now).await;
            {
                let mut inner = environment.inner();
                inner.nameserver.drain(..).for_each(|task| task.abort());
                inner.hub = None;
                inner.removing = true;
            }
            self.close_door(id).await;
            let gone = self.remove_found(id).await;
            {
                let mut inner = environment.inner();
                inner.removing = false;
                inner.removed = gone.is_ok();
            }
            gone?;
            self.bury(id, generation);
            environment.changed.send_modify(|n| *n = n.wrapping_add(1));
        } else {
            self.close_door(id).await;
            self.remove_found(id).await?;
            self.bury(id, generation);
        }
        self.changed(id);
        Ok(())
    }

    fn bury(&self, id: &EnvironmentId, generation: Generation) {
        let mut known = self.known();
        known.environments.remove(id);
        known.removed.retain(|(other, _)| other != id);
        known.removed.push_back((id.clone(), generation));
        if known.removed.len() > super::TOMBSTONES {
            known.removed.pop_front();
        }
    }

    async fn remove_found(self: &Arc<Self>, id: &EnvironmentId) -> Result<(), RuntimeError> {
        let id = id.clone();
        self.block(move |host| {
            host.remove_everything(&id)?;
            let left = host.inventory_of(&id)?;
            match left.first() {
                None => Ok(()),
                Some(first) => Err(RuntimeError::Failed {
                    action: format!("removing {id}"),
                    reason: format!(
                        "{} things are still there, among them the {} {}",
                        left.len(),
                        first.kind,
                        first.name
                    ),
                }),
            }
        })
        .await
    }

    fn remove_everything(&self, id: &EnvironmentId) -> Result<(), RuntimeError> {
        let environment = id.as_str();
        let io = |e: io::Error| failed(format!("removing {id}"), &e);
        self.groups.kill(environment, None).map_err(io)?;
        for (pid, _) in self.monitors(id).map_err(io)? {
            if let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) {
                // It records the end of its container and goes.
                conmon::wait_gone(&held, PATIENCE).map_err(io)?;
            }
        }
        self.groups.remove(environment, None).map_err(io)?;
        for mount in self.staged(id).map_err(io)? {
            idmap::clear(&self.mounts_dir().join(mount)).map_err(io)?;
        }
        self.remove_network(id).map_err(io)?;
        let cell = self.cell_dir(environment);
        for name in names_in(&cell).map_err(io)?.iter().filter(|name| name.starts_with('a')) {
            forget_administration(&cell.join(name)).map_err(io)?;
        }
        remove_directory(&cell).map_err(io)?;
        self.pool
            .environment_remove(environment)
            .map_err(|e| pool_error(format!("removing {id}"), e))?;
        self.forget_builds(id)?;
        // Last: as long as the record is there, the ids are not given to another.
        remove_directory(&self.state_dir(environment)).map_err(io)
    }

    /// Network namespaces go some time after their last process: wait until the containers' links are seen gone.
    fn remove_network(&self, id: &EnvironmentId) -> io::Result<()> {
        let pin = self.pin(id.as_str());
        let label = self.hub_label(id);
        if let Ok(hub) = network::Hub::open(&pin, &label) {
            let deadline = Instant::now() + PATIENCE;
            while hub.links()?.iter().any(|link| link.alias.as_deref() != Some(&label)) {
                if Instant::now() > deadline {
                    return Err(io::Error::other("links of containers stay"));
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        network::unpin(&pin)
    }

    /// The monitors of an environment's containers, with the ids of these.
    fn monitors(&self, id: &EnvironmentId) -> io::Result<Vec<(Pid, String)>> {
        let prefix = format!("{}-{id}-", self.config.instance);
        let mut found = Vec::new();
        for number in self.groups.host_processes()? {
            if let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw)
                && let Some(container) = conmon::monitored(pid)
                && container.starts_with(&prefix)
            {
                found.push((pid, container));
            }
        }
        Ok(found)
    }

    /// Directories with mounts for containers that are just being made.
    fn staged(&self, id: &EnvironmentId) -> io::Result<Vec<String>> {
        let prefix = format!("{id}.");
        Ok(names_in(&self.mounts_dir())?
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .collect())
    }

    /// Everything that exists of one environment, or of all.
    pub(crate) fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>, RuntimeError> {
        let all = match environment {
            Some(id) => BTreeSet::from([id.clone()]),
            None => self.found_environments()?,
        };
        let mut resources = Vec::new();
        for id in &all {
            resources.extend(self.inventory_of(id)?);
        }
        Ok(resources)
    }

    /// The environments of which there is anything, anywhere.
    fn found_environments(&self) -> Result<BTreeSet<EnvironmentId>, RuntimeError> {
        let io = |e: io::Error| failed("listing the environments", &e);
        let mut found: BTreeSet<String> = self.groups.environments().map_err(io)?;
        for directory in [
            self.config.run_dir.join("net"),
            self.config.run_dir.join("cells"),
            self.config.state_dir.join("environments"),
        ] {
            found.extend(names_in(&directory).map_err(io)?);
        }
        let staged = names_in(&self.mounts_dir()).map_err(io)?;
        found.extend(
            staged
                .iter()
                .filter_map(|name| name.split('.').next().map(str::to_owned)),
        );
        found.extend(
            self.pool
                .environment_list()
                .map_err(|e| pool_error("listing the environments".into(), e))?,
        );
        Ok(found.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn inventory_of(&self, id: &EnvironmentId) -> Result<Vec<Resource>, RuntimeError> {
        let environment = id.as_str();
        let io = |e: io::Error| failed(format!("listing {id}"), &e);
        let mut all = Vec::new();
        all.extend(
            self.monitors(id)
                .map_err(io)?
                .into_iter()
                .map(|(_, container)| names::container(id, container)),
        );
        all.extend(
            self.groups
                .groups(environment)
                .map_err(io)?
                .into_iter()
                .map(|path| names::cgroup(id, path)),
        );
        if self.pin(environment).exists() {
            all.push(names::network(id));
        }
        if self.desk.holds(id) {
            all.push(names::door(id));
        }
        all.extend(
            self.staged(id)
                .map_err(io)?
                .into_iter()
                .map(|name| names::mount(id, name)),
        );
        for (kind, path) in [
            ("run", self.cell_dir(environment)),
            ("state", self.state_dir(environment)),
        ] {
            if path.exists() {
                all.push(names::directory(id, format!("{kind}/{id}")));
            }
        }
        let caches = self.build_caches(id)?;
        all.extend(caches.into_iter().map(|name| names::build_layers(id, name)));
        let pool = |e| pool_error(format!("listing {id}"), e);
        if self
            .pool
            .environment_list()
            .map_err(pool)?
            .iter()
            .any(|name| name == environment)
        {
            all.push(names::directory(id, format!("pool/{id}")));
        }
        all.extend(
            self.pool
                .volume_list(environment)
                .map_err(pool)?
                .iter()
                .map(|name| names::subvolume(id, name)),
        );
        Ok(all)
    }
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
