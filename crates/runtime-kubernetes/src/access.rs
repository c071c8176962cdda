//! How the API server of a cluster is reached.

use crate::api::unreachable;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use runtime::{Result, RuntimeError};
use std::{path::PathBuf, time::Duration};

/// How long connecting to the API server may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How the API server of a cluster is reached.
#[derive(Clone, Debug)]
pub enum Access {
    /// As a kubeconfig file says.
    Kubeconfig {
        /// Its path. Paths in it are relative to its directory.
        path: PathBuf,
        /// Which of its contexts; its current one unless given.
        context: Option<String>,
    },
    /// As a pod of the cluster itself, by the account that it has.
    InCluster,
}

/// A client for a cluster. Nothing is asked of the API server yet.
///
/// # Errors
/// [`RuntimeError::Invalid`] if a file can not be read or is of no use, or if this is no pod.
pub async fn client(access: &Access) -> Result<Client> {
    let wrong = |what: String, reason: String| RuntimeError::Invalid { what, reason };
    let config = match access {
        Access::Kubeconfig { path, context } => {
            let what = || format!("the kubeconfig {}", path.display());
            let found = Kubeconfig::read_from(path).map_err(|error| wrong(what(), crate::api::with_causes(&error)))?;
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            let config = Config::from_custom_kubeconfig(found, &options).await;
            config.map_err(|error| wrong(what(), crate::api::with_causes(&error)))?
        }
        Access::InCluster => Config::incluster().map_err(|error| {
            let what = "the account of this pod".to_owned();
            wrong(what, crate::api::with_causes(&error))
        })?,
    };
    from(config)
}

/// A client that waits as long as we do, and leaves trying again to us.
pub(crate) fn from(mut config: Config) -> Result<Client> {
    config.connect_timeout = Some(CONNECT);
    // `api::attempt` does that, and says what it does.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| unreachable(error.to_string()))
}
