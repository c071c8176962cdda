//! The moment at which a spare becomes an environment.

use super::runs;
use crate::context::Context;
use model::{EnvironmentId, Origin, Power};
use store::EnvironmentRow;

/// Lets a new environment adopt a spare that is ready, if there is one. Returns the id that the environment has then. Only the
/// row changes: the generation that is made next finds the engines as it wants them, or sees to it.
///
/// # Errors
/// Also when the environment exists already, as when it is made without a spare.
pub(crate) async fn adopt(
    context: &Context,
    environment: &EnvironmentRow,
) -> Result<Option<EnvironmentId>, store::StoreError> {
    let runs_at_once = environment.approved_commit.is_some() && environment.power == Power::Running;
    if !runs_at_once || environment.cluster.is_some() || !environment.origin.is_for_people() {
        return Ok(None);
    }
    let rows = context
        .store
        .environment_list(Some(&environment.project), false)
        .await?;
    let ready = |row: &&EnvironmentRow| row.origin == Origin::Spare && row.wanted && row.live.is_some();
    for row in rows.iter().filter(ready) {
        let Some(newest) = context.store.generation_newest(&row.id).await? else {
            continue;
        };
        // One of which the runtime says nothing good is left to the task.
        if !matches!(runs(context, row, &newest).await, Ok(true)) {
            continue;
        }
        if context.store.spare_adopt(&row.id, environment).await? {
            let waited = context.now().since(row.created).as_secs();
            let text = format!("adopted the spare {}, {waited} s old", row.id);
            context
                .store
                .event_add(Some(&row.id), &row.project, context.now(), "adopted", &text)
                .await?;
            return Ok(Some(row.id.clone()));
        }
    }
    Ok(None)
}
