//! Nudges: "look again". They carry no content; what is true is read afterwards.

use model::{EnvironmentId, ProjectName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Wakes whoever looks after a thing. A nudge that comes while its receiver is busy is kept: one, however many came.
#[derive(Clone, Debug, Default)]
pub struct Nudges(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    environments: BTreeMap<EnvironmentId, Arc<Notify>>,
    projects: BTreeMap<ProjectName, Arc<Notify>>,
    everything: Arc<Notify>,
    announcements: Arc<Notify>,
    goldens: Arc<Notify>,
    runs: Arc<Notify>,
}

impl Nudges {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere can not leave the table half-changed: each change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about this environment may have changed.
    pub fn environment(&self, id: &EnvironmentId) {
        let table = self.table();
        // Without a worker nobody is to be woken: one that starts looks by itself. Ids of what has ended would pile up here.
        if let Some(notify) = table.environments.get(id) {
            notify.notify_one();
        }
        table.everything.notify_one();
    }

    /// Something on this project's forge may have changed.
    pub fn project(&self, name: &ProjectName) {
        self.of_project(name).notify_one();
    }

    /// What people see may have changed.
    pub fn announcements(&self) {
        self.table().announcements.notify_one();
    }

    /// A golden is wanted.
    pub fn goldens(&self) {
        self.table().goldens.notify_one();
    }

    /// Somebody wants a job to run.
    pub(crate) fn runs(&self) {
        self.table().runs.notify_one();
    }

    pub(crate) fn of_runs(&self) -> Arc<Notify> {
        Arc::clone(&self.table().runs)
    }

    pub(crate) fn of_environment(&self, id: &EnvironmentId) -> Arc<Notify> {
        Arc::clone(self.table().environments.entry(id.clone()).or_default())
    }

    pub(crate) fn of_project(&self, name: &ProjectName) -> Arc<Notify> {
        Arc::clone(self.table().projects.entry(name.clone()).or_default())
    }

    /// Notified when any environment is; for the task that starts workers.
    pub(crate) fn of_everything(&self) -> Arc<Notify> {
        Arc::clone(&self.table().everything)
    }

    pub(crate) fn of_announcements(&self) -> Arc<Notify> {
        Arc::clone(&self.table().announcements)
    }

    pub(crate) fn of_goldens(&self) -> Arc<Notify> {
        Arc::clone(&self.table().goldens)
    }

    pub(crate) fn every_environment(&self) {
        let all: Vec<Arc<Notify>> = self.table().environments.values().cloned().collect();
        for notify in all {
            notify.notify_one();
        }
    }

    pub(crate) fn forget(&self, id: &EnvironmentId) {
        self.table().environments.remove(id);
    }
}
