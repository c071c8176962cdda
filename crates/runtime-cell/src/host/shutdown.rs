//! When the machine goes down in order, containers are ended as their services want to be ended.
//!
//! They outlive this process and belong to no unit, so systemd would only ask all their processes to end at its very last. Those that
//! are the first of their process namespace do not hear that, and the machine would wait a minute and a half for them.

use super::{Host, environment::Stop};
use crate::names::UnitName;
use futures::future::join_all;
use std::{fs, path::Path, process::Stdio, sync::Arc, time::Duration};
use tokio::{process::Command, time::timeout};

/// For all of them together; systemd kills a unit that takes longer than 90 seconds.
const BOUND: Duration = Duration::from_secs(60);
/// For the answer of a service manager that has much to do.
const ASK_BOUND: Duration = Duration::from_secs(10);
/// What systemd has become when it ends all that is left. The kernel cuts names off.
const LAST: &str = "systemd-shutdow";

impl Host {
    /// Ends all containers if the machine goes down. What is wanted stays as it is: after the next boot they are made again.
    pub(crate) async fn end_with_machine(self: &Arc<Self>) {
        if !machine_goes_down().await {
            return;
        }
        tracing::info!("the machine goes down: containers are ended");
        let environments: Vec<_> = self.known().environments.values().cloned().collect();
        let endings = environments.iter().map(|environment| async move {
            let _turn = environment.gate.write().await;
            if let Err(error) = self.wake(environment).await {
                tracing::warn!(environment = %environment.id, %error, "a frozen environment can not be ended gently");
                return;
            }
            let units: Vec<UnitName> = environment.inner().watchers.keys().cloned().collect();
            self.stop_units(environment, &units, Stop::Gently).await;
        });
        if timeout(BOUND, join_all(endings)).await.is_err() {
            tracing::warn!("some containers have not ended within {} s", BOUND.as_secs());
        }
    }
}

/// Whether this process is asked to end because all of the machine is. Without systemd nobody says so.
async fn machine_goes_down() -> bool {
    if fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == LAST) {
        return true;
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let mut ask = Command::new("systemctl");
    ask.arg("is-system-running")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match timeout(ASK_BOUND, ask.output()).await {
        Ok(Ok(output)) => output.stdout.trim_ascii() == b"stopping",
        _ => false,
    }
}
