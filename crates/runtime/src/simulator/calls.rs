//! The list of calls, and the calls that are to fail.

use crate::{Result, RuntimeError};
use model::EnvironmentId;

/// The operations of the port that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the operation of the port that has its name")]
pub enum Operation {
    SourceExists,
    SourcePut,
    SourceList,
    SourceRemove,
    ImagePut,
    ImageList,
    ImageRemove,
    Apply,
    Observe,
    JobRun,
    BuildRun,
    Power,
    ServicesStop,
    SnapshotCreate,
    SnapshotList,
    SnapshotRemove,
    Room,
    RoomOf,
    Memory,
    Dial,
    Logs,
    Exec,
    Remove,
    Recall,
    Inventory,
}

impl Operation {
    /// Whether it changes anything.
    #[must_use]
    pub fn mutates(self) -> bool {
        match self {
            Self::SourceExists
            | Self::SourceList
            | Self::ImageList
            | Self::Observe
            | Self::SnapshotList
            | Self::Room
            | Self::RoomOf
            | Self::Memory
            | Self::Dial
            | Self::Logs
            | Self::Exec
            | Self::Recall
            | Self::Inventory => false,
            Self::SourcePut
            | Self::SourceRemove
            | Self::ImagePut
            | Self::ImageRemove
            | Self::Apply
            | Self::JobRun
            | Self::BuildRun
            | Self::Power
            | Self::ServicesStop
            | Self::SnapshotCreate
            | Self::SnapshotRemove
            | Self::Remove => true,
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which operation.
    pub operation: Operation,
    /// On which environment, where it is about one.
    pub environment: Option<EnvironmentId>,
    /// Its other arguments, for messages.
    pub detail: String,
}

enum When {
    Operation(Operation),
    /// The call of this number, counted from 1 over the simulator's life.
    Number(usize),
}

struct Fault {
    when: When,
    error: RuntimeError,
    after: bool,
}

/// All calls and the faults that are still to come.
#[derive(Default)]
pub(super) struct Faults {
    calls: Vec<Call>,
    faults: Vec<Fault>,
}

/// A call that may go on; its answer may still get lost.
#[must_use]
pub(super) struct Entered(Option<RuntimeError>);

impl Entered {
    /// The answer as the caller gets it.
    pub(super) fn leave<T>(self, result: Result<T>) -> Result<T> {
        match self.0 {
            Some(error) => result.and(Err(error)),
            None => result,
        }
    }
}

impl Faults {
    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub(super) fn on_operation(&mut self, operation: Operation, error: RuntimeError, after: bool) {
        self.faults.push(Fault {
            when: When::Operation(operation),
            error,
            after,
        });
    }

    pub(super) fn on_call(&mut self, n: usize, error: RuntimeError, after: bool) {
        self.faults.push(Fault {
            when: When::Number(self.calls.len() + n),
            error,
            after,
        });
    }

    /// Notes a call; an error if it is to fail before it does anything.
    pub(super) fn enter(
        &mut self,
        operation: Operation,
        environment: Option<&EnvironmentId>,
        detail: String,
    ) -> Result<Entered> {
        self.calls.push(Call {
            operation,
            environment: environment.cloned(),
            detail,
        });
        let number = self.calls.len();
        let matching = |fault: &Fault| match fault.when {
            When::Operation(of) => of == operation,
            When::Number(of) => of == number,
        };
        match self
            .faults
            .iter()
            .position(matching)
            .map(|index| self.faults.remove(index))
        {
            Some(Fault {
                error, after: false, ..
            }) => Err(error),
            Some(Fault { error, .. }) => Ok(Entered(Some(error))),
            None => Ok(Entered(None)),
        }
    }
}
