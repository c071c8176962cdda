//! The page on which mail is read, and the same for programs.
//!
//! The page itself has no script. A message's HTML is an answer of its own in a frame without any rights: no script, no form,
//! nothing from elsewhere, and no origin that it shares with anything.

mod escape;
mod write;

use crate::{Keep, message};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How many connections are served at once.
pub(crate) const CONNECTIONS_MAX: usize = 64;
const HEADERS: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(300);

/// What the pages may do: be styled by what stands in them, show a message in a frame, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'self'";
/// What a message's HTML may do: look as it was meant, with pictures that are part of it. The sandbox has no exceptions.
const MESSAGE_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

type Answer = Response<Full<Bytes>>;

/// Takes connections until it is aborted.
pub(crate) async fn serve(socket: TcpListener, keep: Arc<Keep>, turns: Arc<Semaphore>) {
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = socket.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let keep = Arc::clone(&keep);
        tokio::spawn(async move {
            let _turn = turn;
            let service = service_fn(move |request| answer(Arc::clone(&keep), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let _ = timeout(CONNECTION, connection).await;
        });
    }
}

async fn answer(keep: Arc<Keep>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "mail is read here"));
    }
    let path = request.uri().path().to_owned();
    // Files are read, and strangers' bytes are parsed.
    let made = tokio::task::spawn_blocking(move || at(&keep, &path)).await;
    Ok(made.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "this message can not be shown")))
}

fn at(keep: &Keep, path: &str) -> Answer {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match parts.as_slice() {
        [""] => html(write::list(&keep.list(), keep.bounds()), PAGE_POLICY),
        ["api", "messages"] => json(&serde_json::json!({ "messages": keep.list() })),
        ["api", "messages", id] => with(keep, number(id), |kept, bytes| {
            json(&serde_json::json!({ "message": kept, "content": message::told(bytes) }))
        }),
        ["message", id] => with(keep, number(id), |kept, bytes| {
            html(write::message(kept, &message::told(bytes)), PAGE_POLICY)
        }),
        ["message", id, "html"] => with(keep, number(id), |_, bytes| match message::html(bytes) {
            Some(text) => html(text, MESSAGE_POLICY),
            None => nothing(),
        }),
        ["message", id, "raw"] => with(keep, number(id), |kept, bytes| {
            download(format!("message-{}.eml", kept.id), bytes.to_vec())
        }),
        ["message", id, "attachment", index] => with(keep, number(id), |kept, bytes| {
            let index = index.parse().ok();
            match index.and_then(|index| Some((index, message::attachment(bytes, index)?))) {
                Some((index, content)) => download(name_of(bytes, kept.id, index), content),
                None => nothing(),
            }
        }),
        _ => nothing(),
    }
}

fn with(keep: &Keep, id: Option<u64>, show: impl FnOnce(&crate::Kept, &[u8]) -> Answer) -> Answer {
    match id.map(|id| keep.get(id)) {
        Some(Ok(Some((kept, bytes)))) => show(&kept, &bytes),
        Some(Err(_)) => plain(StatusCode::INTERNAL_SERVER_ERROR, "this message can not be read"),
        _ => nothing(),
    }
}

/// What a download is called: what the message says, as far as that is a plain name.
fn name_of(bytes: &[u8], id: u64, index: usize) -> String {
    let told = message::told(bytes);
    let said = told
        .attachments
        .get(index)
        .map_or("", |attachment| attachment.name.as_str());
    let last = said.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = last.chars().map(|c| if plain(c) { c } else { '_' }).take(100).collect();
    match name.trim_start_matches('.') {
        "" => format!("message-{id}-{index}"),
        name => name.to_owned(),
    }
}

fn nothing() -> Answer {
    plain(
        StatusCode::NOT_FOUND,
        "there is nothing at this address; mail that is too old is forgotten",
    )
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    made(status, "text/plain; charset=utf-8", PAGE_POLICY, text)
}

fn html(text: String, policy: &'static str) -> Answer {
    made(StatusCode::OK, "text/html; charset=utf-8", policy, text)
}

fn json(value: &serde_json::Value) -> Answer {
    made(StatusCode::OK, "application/json", PAGE_POLICY, value.to_string())
}

fn download(name: String, content: Vec<u8>) -> Answer {
    let mut answer = made(StatusCode::OK, "application/octet-stream", MESSAGE_POLICY, content);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    answer
}

fn made(status: StatusCode, kind: &'static str, policy: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let fixed: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
