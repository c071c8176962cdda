//! Registries that lie, stall, limit and lead elsewhere.

use super::image::{Parts, Store, client, parts};
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, Response, StatusCode},
    routing::get,
};
use futures::StreamExt as _;
use images::{BlobDigest, Client, Credentials, Error, Limits, Pace, Reference, Registries, Registry};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What the registry of a test does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Every request wants a token, which only the right credentials give.
    Token,
    /// The manifest of a tag is another than the header says.
    ManifestDigest,
    /// A manifest without an end.
    EndlessManifest,
    /// A blob that is longer than promised.
    LongBlob,
    /// The connection breaks after half of a blob, until the third request.
    Breaks,
    /// As `Breaks`, and ranges are not understood.
    BreaksWithoutRanges,
    Limits,
    /// Manifests are given, layers not now.
    LimitsLayers,
    Fails,
    /// A layer comes byte by byte, until the third request for it.
    Trickles,
    /// It never comes otherwise.
    TricklesOn,
    /// The blob is elsewhere: at an address of this machine's network.
    RedirectInside,
}

struct Server {
    parts: Parts,
    fault: Fault,
    name: Mutex<String>,
    requests: AtomicUsize,
    blob_requests: AtomicUsize,
    /// The `Authorization` headers that came, by path.
    seen: Mutex<Vec<(String, String)>>,
}

async fn start(fault: Fault) -> (String, Arc<Server>) {
    let server = Arc::new(Server {
        parts: parts(&[("f", &[3; 400_000])]),
        fault,
        name: Mutex::default(),
        requests: AtomicUsize::new(0),
        blob_requests: AtomicUsize::new(0),
        seen: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = listener.local_addr().unwrap().to_string();
    server.name.lock().unwrap().clone_from(&name);
    let router = Router::new()
        .route("/token", get(token))
        .route("/v2/acme/web/manifests/{name}", get(manifest))
        .route("/v2/acme/web/blobs/{name}", get(blob))
        .with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (name, server)
}

type Asked = Response<Body>;

fn answer(status: u16, body: impl Into<Body>) -> Asked {
    Response::builder().status(status).body(body.into()).unwrap()
}

async fn token(
    State(server): State<Arc<Server>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Asked {
    server.note("/token", &headers);
    assert_eq!(query["scope"], "repository:acme/web:pull");
    let right = headers
        .get("authorization")
        .is_some_and(|value| value == "Basic bWU6c2VjcmV0");
    if right {
        answer(200, r#"{"token":"good","expires_in":300}"#)
    } else {
        answer(401, "")
    }
}

impl Server {
    fn note(&self, path: &str, headers: &HeaderMap) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let value = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        self.seen
            .lock()
            .unwrap()
            .push((path.to_owned(), value.unwrap_or_default()));
    }

    /// What is wrong before anything is looked at.
    fn early(&self, headers: &HeaderMap) -> Option<Asked> {
        let with_token = headers.get("authorization").is_some_and(|value| value == "Bearer good");
        match self.fault {
            Fault::Token if !with_token => {
                let realm = format!(
                    "Bearer realm=\"http://{}/token\",service=\"test\"",
                    self.name.lock().unwrap()
                );
                Some(
                    Response::builder()
                        .status(401)
                        .header("www-authenticate", realm)
                        .body(Body::empty())
                        .unwrap(),
                )
            }
            Fault::Limits => Some(limited()),
            Fault::Fails => Some(answer(503, "")),
            _ => None,
        }
    }
}

fn limited() -> Asked {
    Response::builder()
        .status(429)
        .header("retry-after", "17")
        .body(Body::empty())
        .unwrap()
}

async fn manifest(State(server): State<Arc<Server>>, Path(name): Path<String>, headers: HeaderMap) -> Asked {
    server.note(&format!("/manifests/{name}"), &headers);
    if let Some(early) = server.early(&headers) {
        return early;
    }
    let digest = BlobDigest::of(&server.parts.manifest);
    match server.fault {
        Fault::ManifestDigest => Response::builder()
            .header("docker-content-digest", BlobDigest::of(b"another").to_string())
            .body(server.parts.manifest.clone().into())
            .unwrap(),
        Fault::EndlessManifest => {
            let chunk = vec![b' '; 64 * 1024];
            let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            answer(200, Body::from_stream(endless))
        }
        _ if name == "1" || name == digest.to_string() => answer(200, server.parts.manifest.clone()),
        _ => answer(404, ""),
    }
}

async fn blob(State(server): State<Arc<Server>>, Path(name): Path<String>, headers: HeaderMap) -> Asked {
    server.note("/blobs", &headers);
    if let Some(early) = server.early(&headers) {
        return early;
    }
    let all = server.parts.layers.iter().chain([&server.parts.config]);
    let Some(bytes) = all.into_iter().find(|bytes| BlobDigest::of(bytes).to_string() == name) else {
        return answer(404, "");
    };
    if bytes.len() < 10_000 {
        return answer(200, bytes.clone());
    }
    let from = headers
        .get("range")
        .and_then(|range| {
            range
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        })
        .unwrap_or(0);
    let request = server.blob_requests.fetch_add(1, Ordering::SeqCst);
    match server.fault {
        Fault::LimitsLayers => limited(),
        Fault::Trickles | Fault::TricklesOn if request < 2 || server.fault == Fault::TricklesOn => {
            let rest = bytes[from..].to_vec();
            let slowly = futures::stream::iter(rest).then(|byte| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, std::io::Error>(vec![byte])
            });
            answer(if from > 0 { 206 } else { 200 }, Body::from_stream(slowly))
        }
        Fault::Trickles => answer(206, bytes[from..].to_vec()),
        Fault::LongBlob => answer(200, [bytes.clone(), vec![0; 10]].concat()),
        Fault::Breaks | Fault::BreaksWithoutRanges if request < 2 => {
            let from = if server.fault == Fault::Breaks { from } else { 0 };
            let half = bytes[from..from + 150_000].to_vec();
            let cut = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
            answer(if from > 0 { 206 } else { 200 }, Body::from_stream(cut))
        }
        Fault::Breaks => answer(206, bytes[from..].to_vec()),
        Fault::RedirectInside => Response::builder()
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header("location", "http://127.0.0.2:1/latest/meta-data")
            .body(Body::empty())
            .unwrap(),
        _ => answer(200, bytes.clone()),
    }
}

async fn pull(fault: Fault) -> (images::Result<images::Image>, Arc<Server>, Store) {
    let (name, server) = start(fault).await;
    let store = Store::new();
    let result = store.pull(&client(&[&name]), &format!("{name}/acme/web:1")).await;
    (result, server, store)
}

#[tokio::test]
async fn what_is_larger_than_promised_is_cut_off() {
    let (result, _, store) = pull(Fault::EndlessManifest).await;
    assert!(result.unwrap_err().to_string().starts_with("the manifest of "));
    assert_eq!(store.drafts(), 0);
    let (result, _, store) = pull(Fault::LongBlob).await;
    assert!(matches!(result.unwrap_err(), Error::TooLarge { what: "a blob", .. }));
    assert_eq!(store.drafts(), 0);
}

#[tokio::test]
async fn a_manifest_that_is_not_what_the_registry_says_is_refused() {
    let (result, ..) = pull(Fault::ManifestDigest).await;
    assert!(matches!(result.unwrap_err(), Error::Mismatch { .. }));
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    for fault in [Fault::Breaks, Fault::BreaksWithoutRanges] {
        let (result, server, store) = pull(fault).await;
        let image = result.unwrap();
        assert!(store.blobs.path(&image.layers[0].digest).is_some(), "{fault:?}");
        assert_eq!(server.blob_requests.load(Ordering::SeqCst), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_registry_that_limits_is_not_asked_again_at_once() {
    let (result, server, _) = pull(Fault::Limits).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::RateLimited { retry_after: Some(after), .. } if *after == Duration::from_secs(17)),
        "{error:?}"
    );
    assert!(error.is_transient());
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    let (result, ..) = pull(Fault::Fails).await;
    assert!(
        result
            .unwrap_err()
            .to_string()
            .ends_with("it answers 503 Service Unavailable")
    );
}

#[tokio::test]
async fn a_registry_that_limits_in_the_middle_says_for_how_long_and_is_left_alone() {
    let (result, server, store) = pull(Fault::LimitsLayers).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::RateLimited { retry_after: Some(after), .. } if *after == Duration::from_secs(17)),
        "{error:?}"
    );
    assert!(error.is_transient() && error.is_of_registry());
    assert_eq!(server.blob_requests.load(Ordering::SeqCst), 1);
    assert_eq!(store.drafts(), 0);
}

/// What such a registry has to send.
fn lively() -> Limits {
    Limits {
        pace: Pace {
            bytes: 10_000,
            within: Duration::from_millis(300),
        },
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_registry_that_sends_a_byte_now_and_then_is_asked_anew_and_what_came_is_kept() {
    let (name, server) = start(Fault::Trickles).await;
    let store = Store::new();
    let pulled = store
        .pull_within(&client(&[&name]), &format!("{name}/acme/web:1"), &lively())
        .await;
    let image = pulled.unwrap();
    assert!(store.blobs.path(&image.layers[0].digest).is_some());
    assert_eq!(server.blob_requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_registry_that_only_ever_trickles_is_given_up_and_that_is_told() {
    let (name, server) = start(Fault::TricklesOn).await;
    let store = Store::new();
    let since = std::time::Instant::now();
    let pulled = store
        .pull_within(&client(&[&name]), &format!("{name}/acme/web:1"), &lively())
        .await;
    let error = pulled.unwrap_err();
    assert!(matches!(&error, Error::Slow { least: 10_000, .. }), "{error:?}");
    assert!(error.is_transient() && error.is_of_registry());
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{name} sends too slowly: ")) && text.ends_with("where 10000 are the least"),
        "{text}"
    );
    assert_eq!(server.blob_requests.load(Ordering::SeqCst), 4);
    assert_eq!(store.drafts(), 0);
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
}

#[tokio::test]
async fn nothing_leads_into_the_network_of_this_machine() {
    let (result, ..) = pull(Fault::RedirectInside).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, Error::NotPublic { host } if host == "127.0.0.2"),
        "{error:?}"
    );

    let (name, server) = start(Fault::None).await;
    let store = Store::new();
    let port = name.rsplit_once(':').unwrap().1;
    let strict = Client::new(Registries::default()).unwrap();
    for host in [
        name.clone(),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("0x7f.1:{port}"),
    ] {
        let error = store.pull(&strict, &format!("{host}/acme/web:1")).await.unwrap_err();
        assert!(matches!(error, Error::NotPublic { .. }), "{host}: {error:?}");
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn credentials_go_to_the_token_server_and_the_token_to_the_registry() {
    let (name, server) = start(Fault::Token).await;
    let store = Store::new();
    let with = |password: &str| {
        let registry = Registry {
            credentials: Some(Credentials::new("me".to_owned(), password.to_owned())),
            plain_http: true,
            private: true,
            ..Registry::default()
        };
        Client::new(Registries(BTreeMap::from([(name.clone(), registry)]))).unwrap()
    };
    let reference = format!("{name}/acme/web:1");
    let refused = store.pull(&client(&[&name]), &reference).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("it wants credentials, or there is no such image"),
        "{refused}"
    );
    let refused = store.pull(&with("wrong"), &reference).await.unwrap_err();
    assert!(
        refused.to_string().contains("the credentials do not suffice"),
        "{refused}"
    );
    assert!(!format!("{refused:?}").contains("wrong"));
    server.seen.lock().unwrap().clear();
    store.pull(&with("secret"), &reference).await.unwrap();
    let seen = server.seen.lock().unwrap();
    let tokens = seen.iter().filter(|(path, _)| path == "/token").count();
    assert_eq!(tokens, 1, "one token serves the whole pull: {seen:?}");
    assert!(
        seen.iter()
            .all(|(path, value)| path == "/token" || !value.starts_with("Basic"))
    );
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_need_not_have_everything() {
    let (origin, origin_server) = start(Fault::None).await;
    let (mirror, mirror_server) = start(Fault::None).await;
    let (broken, _) = start(Fault::Fails).await;
    let plain = Registry {
        plain_http: true,
        private: true,
        ..Registry::default()
    };
    let with = |mirrors: &[&String]| {
        let registry = Registry {
            mirrors: mirrors.iter().map(|name| (*name).clone()).collect(),
            ..plain.clone()
        };
        let named = [
            (origin.clone(), registry),
            (mirror.clone(), plain.clone()),
            (broken.clone(), plain.clone()),
        ];
        Client::new(Registries(BTreeMap::from(named))).unwrap()
    };
    let reference = format!("{origin}/acme/web:1");
    Store::new().pull(&with(&[&mirror]), &reference).await.unwrap();
    assert_eq!(origin_server.requests.load(Ordering::SeqCst), 0);
    assert!(mirror_server.requests.load(Ordering::SeqCst) > 0);
    Store::new().pull(&with(&[&broken]), &reference).await.unwrap();
    assert!(origin_server.requests.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn two_pulls_at_once_fetch_a_layer_once() {
    let (name, server) = start(Fault::None).await;
    let store = Store::new();
    let client = client(&[&name]);
    let reference = format!("{name}/acme/web:1");
    let (one, two) = tokio::join!(store.pull(&client, &reference), store.pull(&client, &reference));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(server.blob_requests.load(Ordering::SeqCst), 1);
    assert!(client.current(&reference.parse::<Reference>().unwrap()).await.is_ok());
}
