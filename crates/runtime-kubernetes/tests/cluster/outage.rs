//! An API server that goes away in the middle of things, and comes back.

use crate::rig::{PORT, Rig, begin, ready, spec, with};
use kube::config::Kubeconfig;
use model::Stage;
use runtime::{NoSecrets, Runtime, RuntimeError, conformance::Fixture, conformance::Program};
use std::time::Duration;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Between a runtime and the API server: it can be cut.
struct Line {
    up: watch::Sender<bool>,
    kubeconfig: String,
}

impl Line {
    async fn new() -> Self {
        let mut kubeconfig = Kubeconfig::read().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = listener.local_addr().unwrap();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        let far = cluster.server.replace(format!("https://{near}")).unwrap();
        let far = far.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let host = far.rsplit_once(':').map_or(far.as_str(), |(host, _)| host);
        cluster.tls_server_name.get_or_insert(host.to_owned());
        let (up, seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                let (far, mut seen) = (far.clone(), seen.clone());
                tokio::spawn(async move {
                    if !*seen.borrow_and_update() {
                        return;
                    }
                    let mut other = TcpStream::connect(&far).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut one, &mut other) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self {
            up,
            kubeconfig: serde_json::to_string(&kubeconfig).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_went_away_is_waited_for() {
    let line = Line::new().await;
    let rig = Rig::through(&line.kubeconfig).await;
    let serve = |text: &str| rig.workload(&Program::Serve { text: text.to_owned() });
    let mut first = spec(&rig);
    with(&mut first, "web", serve("one"), &[PORT]);
    begin(&rig, &first).await;
    ready(&rig, &first).await;
    let id = &first.environment;

    line.up.send(false).unwrap();
    let mut answer = rig.runtime.observe(id).await;
    for _ in 0..100 {
        if answer.is_err() {
            break;
        }
        rig.pause().await;
        answer = rig.runtime.observe(id).await;
    }
    assert!(
        matches!(answer, Err(RuntimeError::Unreachable { .. })),
        "nothing may be concluded from what was known before: {answer:?}"
    );

    let mut second = first.clone();
    second.generation = first.generation.next();
    with(&mut second, "web", serve("two"), &[PORT]);
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        line.up.send(true).unwrap();
    };
    let (applied, ()) = futures::join!(rig.runtime.apply(&second, &Stage::Envelope, &NoSecrets), back);
    applied.expect("a request is made again for a while");
    for _ in 0..300 {
        if rig.runtime.observe(id).await.is_ok() {
            break;
        }
        rig.pause().await;
    }
    begin(&rig, &second).await;
    ready(&rig, &second).await;
    let seen = rig.runtime.observe(id).await.unwrap().unwrap();
    let web = "web".parse().unwrap();
    assert_eq!(Some(&seen.services[&web].digest), second.service_digest(&web).as_ref());
    rig.runtime.remove(id, second.generation).await.unwrap();
}
