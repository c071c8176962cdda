//! Mail that an environment has caught: the catcher is asked, and what it says is read as an environment's, not as ours.

use super::extract::Asked;
use crate::{
    app::App,
    intent,
    problem::{Answer, Problem},
    resolve,
};
use api::{MailList, MailMessageView, MailQuery, ProblemCode};
use axum::{
    Json,
    extract::{Path, State},
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use model::{MountKind, ServiceName};
use runtime::Target;
use serde::de::DeserializeOwned;
use std::time::Duration;
use store::EnvironmentRow;
use tokio::time::timeout;

/// How long a catcher may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const ANSWER_MAX: usize = 8 << 20;

pub(crate) async fn list(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(query): Asked<MailQuery>,
) -> Answer<Json<MailList>> {
    let row = resolve::environment(&app, &name).await?;
    let catcher = catcher(&app, &row, query).await?;
    let found = asked(&app, &row, &catcher, "/api/messages").await?;
    found.map(Json).ok_or_else(|| odd(&catcher.0))
}

pub(crate) async fn get(
    State(app): State<App>,
    Path((name, id)): Path<(String, u64)>,
    Asked(query): Asked<MailQuery>,
) -> Answer<Json<MailMessageView>> {
    let row = resolve::environment(&app, &name).await?;
    let catcher = catcher(&app, &row, query).await?;
    let found = asked(&app, &row, &catcher, &format!("/api/messages/{id}")).await?;
    let none = || Problem::new(ProblemCode::NotFound, format!("there is no message {id}"));
    found
        .map(Json)
        .ok_or_else(|| none().hint("the oldest go when there is no room; `maquette mail` lists what is kept"))
}

/// The service that catches mail, with the port of its page.
async fn catcher(app: &App, row: &EnvironmentRow, query: MailQuery) -> Answer<(ServiceName, u16)> {
    intent::must_be_for_people(row)?;
    let generations = app.store.generation_list(&row.id).await?;
    let live = row
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let stack = live.or(generations.last()).and_then(|row| row.spec.services());
    let catches = |service: &model::Service| {
        let mut mounts = service.workload.mounts.iter();
        mounts.any(|mount| mount.kind == MountKind::Program)
    };
    let all = stack.into_iter().flat_map(|stack| &stack.services);
    let mut all = all
        .filter(|(name, service)| catches(service) && query.service.as_ref().is_none_or(|wanted| wanted == *name))
        .filter_map(|(name, service)| Some((name.clone(), service.public_port?)));
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        (Some((one, _)), Some((other, _))) => {
            let problem = Problem::new(ProblemCode::Ambiguous, "several services catch mail");
            Err(problem.hint(format!("say which: {one}, {other}")))
        }
        (None, _) => Err(
            Problem::new(ProblemCode::NotFound, format!("{} catches no mail", row.label))
                .hint("docs/guide/mail.md says how to have it caught"),
        ),
    }
}

/// Asks a catcher; `None` if it has nothing there.
async fn asked<T: DeserializeOwned>(
    app: &App,
    row: &EnvironmentRow,
    (service, port): &(ServiceName, u16),
    path: &str,
) -> Answer<Option<T>> {
    let away = |why: String| Problem::new(ProblemCode::Unavailable, format!("{service} does not answer: {why}"));
    let talk = async {
        let connection = app.runtime.dial(&row.id, service, Target::Port(*port)).await?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|error| away(error.to_string()))?;
        let driver = tokio::spawn(driver);
        let request = Request::get(path)
            .header(header::HOST, "mail")
            .body(Empty::<Bytes>::new())
            .map_err(|error| away(error.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| away(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        driver.abort();
        let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
        Ok::<_, Problem>((status, body))
    };
    let (status, body) = timeout(PATIENCE, talk)
        .await
        .map_err(|_| away("it takes too long".to_owned()))??;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|_| odd(service)),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(odd(service)),
    }
}

fn odd(service: &ServiceName) -> Problem {
    Problem::new(
        ProblemCode::Unavailable,
        format!("{service} answers in another way than it should"),
    )
}
