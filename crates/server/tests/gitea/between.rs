//! Something between our server and Gitea that can answer in its place.

use crate::bench::http_client;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::JoinHandle;

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By Gitea.
    Honest,
    /// With this status, whatever is asked.
    Refuse(u16),
    /// By Gitea, but the list of pull requests is empty.
    EmptyList,
    /// The list is empty, and the next pull request that is read is closed; by Gitea from then on.
    ClosedOnce,
    /// By Gitea, but it has no record of what anybody did.
    NoRecord,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    /// The mode, and how many requests came since it was set.
    state: Mutex<(Mode, usize)>,
    /// How many times Gitea's list of pull requests has been handed on to its end.
    listed: AtomicUsize,
}

pub(crate) struct Between {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Between {
    pub(crate) async fn start(target: String) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target,
            http: http_client(),
            state: Mutex::new((Mode::Honest, 0)),
            listed: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.state.lock().unwrap() = (mode, 0);
    }

    /// How many requests have come in this mode.
    pub(crate) fn asked(&self) -> usize {
        self.shared.state.lock().unwrap().1
    }

    /// How many times Gitea's list of pull requests has been read to its end, which is an empty page.
    pub(crate) fn listed(&self) -> usize {
        self.shared.listed.load(Ordering::SeqCst)
    }

    /// Whether the mode that was set has come to its end.
    pub(crate) fn is_honest(&self) -> bool {
        self.shared.state.lock().unwrap().0 == Mode::Honest
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(status: u16, body: impl Into<Body>) -> Response {
    let answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    answer.body(body.into()).unwrap()
}

async fn pass(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mode = {
        let mut state = shared.state.lock().unwrap();
        state.1 += 1;
        state.0
    };
    let is_list = method == Method::GET && uri.path().ends_with("/pulls");
    let is_record = method == Method::GET && uri.path().ends_with("/activities/feeds");
    let is_pull = method == Method::GET && uri.path().contains("/pulls/");
    match mode {
        Mode::Refuse(status) => return answer(status, "{}"),
        Mode::EmptyList | Mode::ClosedOnce if is_list => return answer(200, "[]"),
        Mode::NoRecord if is_record => return answer(200, "[]"),
        _ => {}
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{}", shared.target.trim_end_matches('/'), path);
    let mut request = shared.http.request(method, url).body(body);
    for (name, value) in &headers {
        if ![
            header::HOST,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ]
        .contains(name)
        {
            request = request.header(name, value);
        }
    }
    let Ok(found) = request.send().await else {
        return answer(StatusCode::BAD_GATEWAY.as_u16(), "{}");
    };
    let (status, headers) = (found.status(), found.headers().clone());
    let bytes = found.bytes().await.unwrap_or_default();
    if mode == Mode::ClosedOnce && is_pull {
        *shared.state.lock().unwrap() = (Mode::Honest, 0);
        let mut document: Value = serde_json::from_slice(&bytes).unwrap();
        document["state"] = json!("closed");
        return answer(200, document.to_string());
    }
    if is_list && status.is_success() && bytes.trim_ascii() == b"[]" {
        shared.listed.fetch_add(1, Ordering::SeqCst);
    }
    let mut answer = answer(status.as_u16(), bytes);
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        answer.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    answer
}
