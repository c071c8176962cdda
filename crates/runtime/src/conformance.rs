//! What every runtime must keep, as cases that run against any of them. It depends on no test framework.
//!
//! A runtime's tests implement [`Fixture`] and call [`suite`], or run [`cases`] one by one. A case makes environments of its
//! own and removes them at its end, also when it failed. Where a runtime says in its `Capabilities` that it can not do
//! something, the cases about that pass without doing anything.

mod ahead;
mod bench;
mod builds;
mod door;
mod host;
mod jobs;
mod networks;
mod power;
mod removal;
mod secrets;
mod sources;
mod stages;
mod streams;
mod volumes;

use crate::Runtime;
use async_trait::async_trait;
use bench::Bench;
use futures::future::BoxFuture;
pub use host::{HOST_PORT, host_workload};
use model::{EnvironmentId, Service, Workload};
use std::{fmt, net::SocketAddr};

/// What a container of the suite does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Listens on the fixture's port; when it does, prints `text` and a newline. Answers every connection with `text` and a
    /// newline, then sends back what it receives. Ends on SIGTERM.
    Serve {
        /// The text.
        text: String,
    },
    /// Prints nothing, listens nowhere and runs until SIGTERM.
    Idle,
    /// Prints `text` and a newline and ends.
    Exit {
        /// The text.
        text: String,
        /// The exit status.
        code: i32,
    },
    /// Writes the sorted names of what is in `directory`, a line each, to the file `into`, whose directory it makes, and ends.
    List {
        /// The directory.
        directory: String,
        /// The file.
        into: String,
    },
    /// A command that does not exist.
    Missing,
}

/// What the suite needs of a runtime that is to be tested.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The runtime.
    fn runtime(&self) -> &dyn Runtime;

    /// An id that was never used before.
    fn environment(&self) -> EnvironmentId;

    /// A workload that does this, in a container that has `cat`, `tee`, `true`, `false`, `echo`,
    /// `printenv` and `stat`.
    fn workload(&self, program: &Program) -> Workload;

    /// The port on which [`Program::Serve`] listens.
    fn port(&self) -> u16;

    /// A data engine that the runtime offers and that answers on its administration target when it is ready. It may mount
    /// the volume `data`.
    fn engine(&self) -> Option<Service> {
        None
    }

    /// An endpoint outside of all environments at which each connection gets `outside` and a newline and is closed.
    fn outside(&self) -> Option<SocketAddr> {
        None
    }

    /// A command that connects from a container to that name and port, prints what it gets until the end, and fails if it can not.
    fn fetch(&self, name: &str, port: u16) -> Vec<String> {
        vec!["fetch".to_owned(), name.to_owned(), port.to_string()]
    }

    /// Lets a little time pass, on the order of 20 ms.
    async fn pause(&self);

    /// How many pauses something may take that must happen.
    fn patience(&self) -> u32 {
        1000
    }
}

/// One case: a name that says what must be so, and the test of it.
#[derive(Clone, Copy)]
pub struct Case {
    /// What must be so.
    pub name: &'static str,
    run: for<'a> fn(&'a Bench<'a>) -> BoxFuture<'a, Result<(), String>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A case that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the case.
    pub case: &'static str,
    /// What was expected and what was seen.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

impl Case {
    /// Runs the case and removes what it made.
    ///
    /// # Errors
    /// What was expected and what was seen.
    pub async fn run(&self, fixture: &dyn Fixture) -> Result<(), Failure> {
        let bench = Bench::new(fixture);
        let result = (self.run)(&bench).await;
        let cleaned = bench.clean().await;
        result.and(cleaned).map_err(|message| Failure {
            case: self.name,
            message,
        })
    }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        stages::CASES,
        ahead::CASES,
        jobs::CASES,
        builds::CASES,
        streams::CASES,
        networks::CASES,
        secrets::CASES,
        power::CASES,
        volumes::CASES,
        sources::CASES,
        door::CASES,
        removal::CASES,
    ]
    .concat()
}

/// Runs all cases, one after the other.
///
/// # Errors
/// Every case that did not pass.
pub async fn suite(fixture: &dyn Fixture) -> Result<(), Vec<Failure>> {
    let mut failures = Vec::new();
    for case in cases() {
        failures.extend(case.run(fixture).await.err());
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}
