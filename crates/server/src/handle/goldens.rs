//! Goldens.

use crate::{app::App, problem::Answer};
use api::{GoldenList, GoldenView};
use axum::{Json, extract::State};
use store::GoldenState;

pub(crate) async fn list(State(app): State<App>) -> Answer<Json<GoldenList>> {
    let rows = app.store.golden_list_all().await?;
    let view = |row: store::GoldenRow| GoldenView {
        keeper: reconciler::golden_keeper(&row.id),
        id: row.id,
        project: row.project,
        engine: row.engine,
        state: match row.state {
            GoldenState::Making => "making",
            GoldenState::Ready => "ready",
            GoldenState::Failed => "failed",
        }
        .to_owned(),
        failure: row.failure.map(|failure| failure.message),
        created: row.created,
        last_used: row.last_used,
    };
    Ok(Json(GoldenList {
        goldens: rows.into_iter().map(view).collect(),
    }))
}
