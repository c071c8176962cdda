//! Passes on what the runtime says: something changed in an environment.

use crate::context::Context;
use std::{sync::Arc, time::Duration};
use tokio::{sync::broadcast::error::RecvError, time::sleep};

pub(crate) async fn run(context: Arc<Context>) {
    let mut changes = context.runtime.changes();
    loop {
        match changes.recv().await {
            Ok(environment) => context.nudges.environment(&environment),
            Err(RecvError::Lagged(_)) => context.nudges.every_environment(),
            Err(RecvError::Closed) => {
                sleep(Duration::from_secs(1)).await;
                changes = context.runtime.changes();
                context.nudges.every_environment();
            }
        }
    }
}
