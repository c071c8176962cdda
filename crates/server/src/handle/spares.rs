//! Spares.

use crate::{app::App, problem::Answer};
use api::{ProjectSparesView, SpareList, SpareView};
use axum::{Json, extract::State};
use model::EnvironmentId;
use std::time::Duration;
use tokio::time::timeout;

/// How long the runtime is waited for. What it says is an addition; the rest is shown without it.
const ASK: Duration = Duration::from_secs(2);

pub(crate) async fn list(State(app): State<App>) -> Answer<Json<SpareList>> {
    let mut projects = Vec::new();
    for report in app.reconciler.spares().await? {
        let mut spares = Vec::new();
        for row in report.spares {
            spares.push(SpareView {
                memory_bytes: memory(&app, &row.id).await,
                ready: row.live.is_some(),
                id: row.id,
                label: row.label,
                created: row.created,
            });
        }
        projects.push(ProjectSparesView {
            project: report.project,
            wanted: report.wanted,
            spares,
            why_fewer: report.why_fewer,
        });
    }
    Ok(Json(SpareList { projects }))
}

async fn memory(app: &App, id: &EnvironmentId) -> Option<u64> {
    match timeout(ASK, app.runtime.memory(id)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            tracing::debug!(environment = %id, %error, "its memory could not be told");
            None
        }
        Err(_) => None,
    }
}
