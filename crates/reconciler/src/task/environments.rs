//! Sees to it that every environment that has not ended has exactly one worker.

use crate::{context::Context, environment};
use model::EnvironmentId;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    task::{Id, JoinSet},
    time::sleep,
};

/// How often the list is read although nobody was nudged.
const INTERVAL: Duration = Duration::from_secs(30);

pub(crate) async fn run(context: Arc<Context>) {
    let nudged = context.nudges.of_everything();
    let mut workers: JoinSet<()> = JoinSet::new();
    let mut looked_after: BTreeMap<EnvironmentId, Id> = BTreeMap::new();
    loop {
        match context.store.environment_list(None, false).await {
            Ok(rows) => {
                for row in rows.into_iter().filter(|row| row.ended.is_none()) {
                    looked_after
                        .entry(row.id.clone())
                        .or_insert_with(|| workers.spawn(environment::run(Arc::clone(&context), row.id)).id());
                }
            }
            Err(error) => tracing::warn!(why = crate::text::chain(&error), "could not list the environments"),
        }
        tokio::select! {
            () = nudged.notified() => {}
            Some(ended) = workers.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "a worker ended unexpectedly and is started again");
                        error.id()
                    }
                };
                looked_after.retain(|_, worker| *worker != id);
                // A worker that ends at once, again and again, must not use up the machine.
                sleep(Duration::from_millis(20)).await;
            }
            () = sleep(INTERVAL) => {}
        }
    }
}
