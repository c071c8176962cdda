//! How public services are asked before a generation counts as live: as a visitor would, through whatever stands in front.

use async_trait::async_trait;
use model::{EnvironmentId, HostLabel, ServiceName};
use std::{fmt, sync::Arc};

/// Where a visitor will find a public service, and what is expected to answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// The authority of its address: `pr-7.preview.example.com`, with the port unless it is the scheme's own.
    pub authority: String,
    /// The environment.
    pub environment: EnvironmentId,
    /// The service.
    pub service: ServiceName,
    /// The port on which it listens.
    pub port: u16,
}

/// The service did not answer, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// What stands in front is not there. Nothing follows from that for the service.
    #[error("{0}")]
    Away(String),
    /// What stands in front does not know the address at all: it was not told of it. Waiting does not help.
    #[error("{0}")]
    Misdirected(String),
    /// The address does not lead to the service.
    #[error("the address does not lead to it")]
    NoRoute,
    /// No answer came from the service.
    #[error("{0}")]
    Silent(String),
}

/// Whatever stands in front of all environments.
#[async_trait]
pub trait Front: Send + Sync {
    /// Asks for `/` once and returns the status of the service's own answer. Counts as no visit.
    ///
    /// # Errors
    /// [`FrontError`].
    async fn ask(&self, entrance: &Entrance) -> Result<u16, FrontError>;
}

/// What stands in front, if anything does: without it, public services are asked by the runtime's dial.
#[derive(Clone, Default)]
pub struct InFront(pub Option<Arc<dyn Front>>);

impl fmt::Debug for InFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "InFront(…)"
        } else {
            "InFront(none)"
        })
    }
}

/// The labels of the public services of an environment, with their ports. The service `web`, or else the first one, is found at the
/// environment's own label.
pub(crate) fn labels<'a>(
    environment: &HostLabel,
    stack: &'a model::ServiceStack,
) -> Vec<(&'a ServiceName, u16, HostLabel)> {
    let public: Vec<(&ServiceName, u16)> = stack
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service.public_port?)))
        .collect();
    let main = public
        .iter()
        .find(|(name, _)| name.as_str() == "web")
        .or(public.first());
    let main = main.map(|(name, _)| *name);
    let label = |name: &ServiceName| match main {
        Some(main) if main == name => environment.clone(),
        _ => model::service_label(name, environment),
    };
    public
        .into_iter()
        .map(|(name, port)| (name, port, label(name)))
        .collect()
}
