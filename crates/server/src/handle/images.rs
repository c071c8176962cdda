//! Images.

use crate::{app::App, problem::Answer};
use api::{ImageList, ImageView};
use axum::{Json, extract::State};

pub(crate) async fn list(State(app): State<App>) -> Answer<Json<ImageList>> {
    let rows = app.store.image_list().await?;
    let view = |row: store::ImageRow| ImageView {
        keeper: reconciler::image_keeper(&row.digest),
        digest: row.digest,
        reference: row.reference,
        bytes: row.bytes,
        created: row.created,
        last_used: row.last_used,
    };
    Ok(Json(ImageList {
        images: rows.into_iter().map(view).collect(),
    }))
}
