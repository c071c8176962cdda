//! What became of the connections of an environment, until it is reported.

use super::wire::Tally;
use model::HostName;
use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Names and ports that are told apart between two reports; the list of the policy and the bound of names leave fewer.
const KEYS_MAX: usize = 4096;

/// The counters of one environment.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    tallies: Mutex<BTreeMap<(HostName, u16), Tally>>,
}

impl Counts {
    fn tallies(&self) -> MutexGuard<'_, BTreeMap<(HostName, u16), Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something for a name and a port.
    pub(crate) fn add(&self, name: &HostName, port: u16, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.tallies();
        let key = (name.clone(), port);
        if tallies.len() < KEYS_MAX || tallies.contains_key(&key) {
            change(tallies.entry(key).or_default());
        }
    }

    /// Everything since it was taken last.
    pub(crate) fn take(&self) -> Vec<(HostName, u16, Tally)> {
        let taken = mem::take(&mut *self.tallies());
        taken
            .into_iter()
            .map(|((name, port), tally)| (name, port, tally))
            .collect()
    }

    /// Puts back what could not be reported.
    pub(crate) fn give_back(&self, tallies: Vec<(HostName, u16, Tally)>) {
        for (name, port, old) in tallies {
            self.add(&name, port, |tally| {
                tally.connections += old.connections;
                tally.failed += old.failed;
                tally.sent += old.sent;
                tally.received += old.received;
                tally.refused += old.refused;
                tally.failure = tally.failure.take().or(old.failure);
                tally.why = tally.why.take().or(old.why);
            });
        }
    }
}
