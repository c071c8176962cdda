//! Every path, with its layers: authorisation, limits, time.

use crate::{
    access,
    app::App,
    handle::{environments, exec, goldens, images, jobs, links, logs, mail, projects, secrets, spares, webhooks},
    problem::Problem,
};
use api::ProblemCode;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use std::time::Duration;

/// The largest body of the API, in bytes.
const BODY_MAX: usize = 64 * 1024;
/// How long the head of an answer may take. Streams may take longer; commits may have to be fetched first.
const ANSWER: Duration = Duration::from_secs(60);

/// The REST API and the place for webhooks.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/projects", get(projects::list))
        .route("/projects/{project}/nudge", post(projects::nudge))
        .route("/projects/{project}/events", get(projects::events))
        .route("/spares", get(spares::list))
        .route("/goldens", get(goldens::list))
        .route("/images", get(images::list))
        .route("/environments", get(environments::list).post(environments::create))
        .route(
            "/environments/{environment}",
            get(environments::get).delete(environments::delete),
        )
        .route("/environments/{environment}/why", get(environments::why))
        .route("/environments/{environment}/steps", get(environments::steps))
        .route("/environments/{environment}/events", get(environments::events))
        .route("/environments/{environment}/receipt", get(environments::receipt))
        .route("/environments/{environment}/update", post(environments::update))
        .route("/environments/{environment}/deploy", post(environments::deploy))
        .route("/environments/{environment}/approve", post(environments::approve))
        .route("/environments/{environment}/recreate", post(environments::recreate))
        .route("/environments/{environment}/links", post(links::create))
        .route("/environments/{environment}/logs", get(logs::read))
        .route("/environments/{environment}/mail", get(mail::list))
        .route("/environments/{environment}/mail/{id}", get(mail::get))
        .route("/environments/{environment}/jobs", get(jobs::list))
        .route("/environments/{environment}/jobs/{job}/runs", post(jobs::run))
        .route("/environments/{environment}/jobs/{job}/runs/{number}", get(jobs::get))
        .route("/environments/{environment}/exec", post(exec::upgrade))
        .layer(DefaultBodyLimit::max(BODY_MAX));
    let secrets = Router::new()
        .route("/projects/{project}/secrets", get(secrets::list))
        .route(
            "/projects/{project}/secrets/{name}",
            put(secrets::put).delete(secrets::delete),
        )
        .layer(DefaultBodyLimit::max(secrets::BODY_MAX));
    let webhooks = Router::new()
        .route("/webhooks/{project}/{source}", post(webhooks::receive))
        .layer(DefaultBodyLimit::max(webhooks::BODY_MAX));
    Router::new()
        .nest(api::BASE_PATH, api.merge(secrets))
        .merge(webhooks)
        .route("/health", get(health))
        .method_not_allowed_fallback(no_method)
        .route_layer(middleware::from_fn_with_state(app.clone(), access::layer))
        .fallback(nowhere)
        .layer(middleware::from_fn(in_time))
        .with_state(app)
}

async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") }))
}

async fn nowhere() -> Problem {
    Problem::new(ProblemCode::NotFound, "there is nothing at this address")
        .hint("docs/reference/openapi.json lists what there is")
}

async fn no_method() -> Problem {
    Problem::new(ProblemCode::NotFound, "this address does not take that method")
        .hint("docs/reference/openapi.json lists what there is")
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemCode::Timeout, "the answer took too long").into_response(),
    }
}
