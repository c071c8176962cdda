//! What this host has and lacks for cells: probes that leave nothing behind, each with the command that mends it.

mod kernel;
mod oci;
mod programs;
mod storage;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{host::OciKind, pool::PoolConfig};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Cells work, with less isolation, speed or room.
    Warn,
    /// Cells can't work.
    Fail,
}

/// The answer of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, in two or three words. Stable: programs may search for it.
    pub check: String,
    /// How bad it is.
    pub status: Status,
    /// What was found and what it means.
    pub meaning: String,
    /// The command that mends it, for people to run.
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &str, status: Status, meaning: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            status,
            meaning: meaning.into(),
            mend: None,
        }
    }

    fn ok(check: &str, meaning: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, meaning)
    }

    fn warn(check: &str, meaning: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, meaning)
    }

    fn fail(check: &str, meaning: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, meaning)
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// Looks at the host. Some probes need the rights of the cell host; without them they say so. `wanted` is the OCI runtime that
/// the operator has chosen, if any.
#[must_use]
pub fn examine(pool: &PoolConfig, wanted: Option<OciKind>) -> Vec<Finding> {
    let mut findings = vec![
        kernel::namespaces(),
        kernel::user_namespace(),
        kernel::control_groups(),
        kernel::resource_capability(),
        kernel::inotify(),
    ];
    findings.push(oci::runtime(wanted));
    findings.extend(programs::all());
    findings.extend(storage::all(pool));
    findings
}

/// The worst status of all.
#[must_use]
pub fn worst(findings: &[Finding]) -> Status {
    findings
        .iter()
        .map(|finding| finding.status)
        .max()
        .unwrap_or(Status::Ok)
}
