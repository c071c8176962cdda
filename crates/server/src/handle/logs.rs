//! Lines of logs as a stream of JSON documents, one a line.

use super::extract::Asked;
use crate::{
    app::App,
    problem::{Answer, Problem},
    resolve,
};
use api::{LogLineView, LogQuery, LogStreamView, ProblemCode};
use axum::{
    body::Body,
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderValue, header};
use runtime::{LogLine, LogStream, RuntimeError};
use std::convert::Infallible;
use store::EnvironmentRow;
use tokio::sync::OwnedSemaphorePermit;

/// How many lines of several services are put in order of time before they are sent.
const SORTED_MAX: usize = 50_000;

pub(crate) async fn read(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(query): Asked<LogQuery>,
) -> Answer<Response> {
    let row = resolve::environment(&app, &name).await?;
    let place = if query.follow { Some(place(&app)?) } else { None };
    let named = query.name.is_some();
    let names = match query.name {
        Some(name) => vec![name],
        None => services(&app, &row).await?,
    };
    let asked = runtime::LogQuery {
        tail: query.tail,
        follow: query.follow,
    };
    let mut streams = Vec::new();
    for name in names {
        match app.runtime.logs(&row.id, &name, asked).await {
            Ok(lines) => streams.push(lines.map(move |line| shown(&name, line)).boxed()),
            // One of several that was not started yet has no log yet.
            Err(RuntimeError::NotFound { .. }) if !named => {}
            Err(error) => return Err(error.into()),
        }
    }
    let lines = if query.follow {
        stream::select_all(streams).boxed()
    } else {
        sorted(streams).await
    };
    Ok(answer(lines, place))
}

fn place(app: &App) -> Answer<OwnedSemaphorePermit> {
    app.followed.clone().try_acquire_owned().map_err(|_| {
        Problem::new(ProblemCode::Unavailable, "too many logs are followed at once").hint("end one of them")
    })
}

async fn services(app: &App, row: &EnvironmentRow) -> Answer<Vec<String>> {
    let generations = app.store.generation_list(&row.id).await?;
    let live = row
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let stack = live.or(generations.last()).and_then(|row| row.spec.services());
    Ok(stack.map_or_else(Vec::new, |stack| {
        stack.services.keys().map(ToString::to_string).collect()
    }))
}

fn shown(name: &str, line: LogLine) -> LogLineView {
    let stream = match line.stream {
        LogStream::Stdout => LogStreamView::Stdout,
        LogStream::Stderr => LogStreamView::Stderr,
    };
    LogLineView {
        at: line.at,
        name: name.to_owned(),
        stream,
        text: line.text,
    }
}

async fn sorted(streams: Vec<BoxStream<'static, LogLineView>>) -> BoxStream<'static, LogLineView> {
    if streams.len() < 2 {
        return stream::iter(streams).flatten().boxed();
    }
    let mut all = stream::select_all(streams).boxed();
    let mut lines: Vec<LogLineView> = all.by_ref().take(SORTED_MAX).collect().await;
    lines.sort_by_key(|line| line.at);
    stream::iter(lines).chain(all).boxed()
}

fn answer(lines: BoxStream<'static, LogLineView>, place: Option<OwnedSemaphorePermit>) -> Response {
    let pieces = lines.map(move |line| {
        let _held = &place;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Ok::<Bytes, Infallible>(text.into())
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
