//! The ports that reach an environment: a connection to one of its services, and a wish to wake it.

use async_trait::async_trait;
use model::{EnvironmentId, ServiceName};
use tokio::net::TcpStream;

/// Where a request goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Target {
    /// The environment.
    pub environment: EnvironmentId,
    /// The service in it.
    pub service: ServiceName,
    /// The TCP port on which the service listens.
    pub port: u16,
}

/// No connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing accepts on the port now. It may soon: a service restarts.
    #[error("nothing accepts connections on port {port} of {service}")]
    Refused {
        /// The service.
        service: ServiceName,
        /// Its port.
        port: u16,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The environment is not (or no longer) there under this epoch.
    #[error("environment {environment} cannot be dialled under epoch {epoch}")]
    Stale {
        /// The environment.
        environment: EnvironmentId,
        /// The epoch under which the gateway dialled.
        epoch: u64,
    },
    /// Whoever hands out connections does not answer.
    #[error("no connection could be asked for")]
    Unavailable {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Hands out connections to services.
///
/// The answer is a kernel socket and no boxed stream: the gateway polls it without indirection, and a socket that came over
/// `SCM_RIGHTS` from another network namespace is as good as one of our own.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Connects. The gateway bounds the time and repeats refused attempts itself; an implementation tries once.
    ///
    /// # Errors
    /// [`DialError`].
    async fn dial(&self, target: &Target, epoch: u64) -> Result<TcpStream, DialError>;
}

/// Asks for an environment to be woken.
#[async_trait]
pub trait Wake: Send + Sync + 'static {
    /// Passes the wish on and returns; that the environment is awake shows in its route. While somebody waits, the gateway
    /// asks at most once a second per environment, so that a lost wish is no wait without end.
    async fn wake(&self, environment: &EnvironmentId, epoch: u64);
}

/// Wakes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWake;

#[async_trait]
impl Wake for NoWake {
    async fn wake(&self, environment: &EnvironmentId, epoch: u64) {
        tracing::debug!(%environment, epoch, "a visitor waits for a sleeping environment");
    }
}
