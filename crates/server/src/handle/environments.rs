//! Environments: looking, and changing what there should be.

use super::extract::{Asked, JsonBody};
use crate::{
    access::Caller,
    app::{App, now},
    intent,
    problem::Answer,
    resolve, view,
};
use api::{
    ApproveRequest, CreateRequest, DeployRequest, EnvironmentList, EnvironmentView, EventList, LedgerView, StepsView,
    UpdateRequest, WhyView,
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use model::{EnvironmentId, ProjectName};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    project: Option<ProjectName>,
    #[serde(default)]
    ended: bool,
}

/// How many events are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    limit: Option<u32>,
}

impl EventQuery {
    /// How many are shown: 100 unless the caller says otherwise, and 500 at most.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).min(500)
    }
}

pub(crate) async fn list(State(app): State<App>, Asked(query): Asked<ListQuery>) -> Answer<Json<EnvironmentList>> {
    let environments = view::environment_list(&app, query.project.as_ref(), query.ended).await?;
    Ok(Json(EnvironmentList { environments }))
}

pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<EnvironmentView>> {
    let row = resolve::environment(&app, &name).await?;
    Ok(Json(view::environment(&app, &row).await?))
}

pub(crate) async fn why(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<WhyView>> {
    let row = resolve::environment(&app, &name).await?;
    Ok(Json(view::why(&app, &row, now()).await?))
}

pub(crate) async fn steps(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<StepsView>> {
    let row = resolve::environment(&app, &name).await?;
    Ok(Json(view::steps(&app, &row).await?))
}

pub(crate) async fn events(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(query): Asked<EventQuery>,
) -> Answer<Json<EventList>> {
    let row = resolve::environment(&app, &name).await?;
    Ok(Json(EventList {
        events: view::events(&app, &row, query.limit()).await?,
    }))
}

pub(crate) async fn receipt(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<LedgerView>> {
    let found = resolve::environment(&app, &name).await;
    // Receipts outlive what the store knows of environments; goldens have one of their own.
    if let (Err(_), Ok(id)) = (&found, name.parse::<EnvironmentId>()) {
        let ledger = view::ledger(&app, &id, None).await?;
        if !ledger.entries.is_empty() || ledger.reason.is_some() {
            return Ok(Json(ledger));
        }
    }
    let row = found?;
    Ok(Json(view::ledger(&app, &row.id, Some(&row.label)).await?))
}

pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<CreateRequest>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = intent::create(&app, &caller, request).await?;
    Ok((StatusCode::CREATED, Json(view::environment(&app, &row).await?)))
}

/// After a change: the environment as it is now.
async fn changed(app: &App, row: &store::EnvironmentRow) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let now = app.store.environment_get(&row.id).await?;
    let row = now.as_ref().unwrap_or(row);
    Ok((StatusCode::ACCEPTED, Json(view::environment(app, row).await?)))
}

pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::delete(&app, &caller, &row).await?;
    changed(&app, &row).await
}

pub(crate) async fn update(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<UpdateRequest>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::update(&app, &caller, &row, &request).await?;
    changed(&app, &row).await
}

pub(crate) async fn deploy(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<DeployRequest>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::deploy(&app, &caller, &row, &request).await?;
    changed(&app, &row).await
}

pub(crate) async fn approve(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<ApproveRequest>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::approve(&app, &caller, &row, &request).await?;
    changed(&app, &row).await
}

pub(crate) async fn recreate(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<(StatusCode, Json<EnvironmentView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::recreate(&app, &caller, &row).await?;
    changed(&app, &row).await
}
