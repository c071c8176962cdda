//! A repository on a real Gitea that listens where the cluster reaches this machine.

use crate::rig::kubeconfig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use forge::{Remote, RemoteKind, Secret};
use kube::config::Kubeconfig;
use runtime_kubernetes::{ArgoCd, GitOps, Repository};
use std::{
    net::{IpAddr, UdpSocket},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use test_support::gitea::{Gitea, WorkTree};
use tokio::sync::Mutex;
use url::Url;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A team's repository, and where our copy of it is.
pub(crate) struct Team {
    /// Held so that it goes on, unless it is a test's own.
    _gitea: Option<Arc<Gitea>>,
    /// What tells it from others.
    pub(crate) number: u32,
    url: Url,
    credentials: String,
    copy: TempDir,
    /// The namespace of Argo CD, or one that nobody looks after.
    pub(crate) argo: String,
    /// Where Argo CD looks for the repository.
    pub(crate) seen_at: String,
}

/// The address of this machine on the way to the cluster.
fn near() -> IpAddr {
    let config = Kubeconfig::from_yaml(&kubeconfig()).unwrap();
    let cluster = config.clusters[0].cluster.as_ref().unwrap();
    let server: Url = cluster.server.as_deref().unwrap().parse().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let far = (
        server.host_str().unwrap().to_owned(),
        server.port_or_known_default().unwrap(),
    );
    socket.connect(far).unwrap();
    socket.local_addr().unwrap().ip()
}

/// One for all tests.
async fn shared() -> Arc<Gitea> {
    static SHARED: Mutex<Weak<Gitea>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(gitea) = shared.upgrade() {
        return gitea;
    }
    let gitea = Arc::new(start().await);
    *shared = Arc::downgrade(&gitea);
    gitea
}

/// One of a test's own.
pub(crate) async fn start() -> Gitea {
    Gitea::start_on(near()).await.unwrap()
}

impl Team {
    pub(crate) async fn new() -> Self {
        let gitea = shared().await;
        let mut team = Self::on(&gitea).await;
        team._gitea = Some(gitea);
        team
    }

    pub(crate) async fn on(gitea: &Gitea) -> Self {
        let admin = gitea.admin().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("previews-{number}");
        let made = admin.make_repository(&name, false).await.unwrap();
        let url: Url = format!("{}{}.git", gitea.url(), made.path).parse().unwrap();
        Self {
            seen_at: url.to_string(),
            url,
            credentials: format!("{}:{}", admin.user(), admin.token()),
            copy: tempfile::tempdir().unwrap(),
            argo: "argocd".to_owned(),
            _gitea: None,
            number,
        }
    }

    pub(crate) fn gitops(&self) -> GitOps {
        GitOps {
            repository: Repository {
                remote: Remote {
                    url: self.url.clone(),
                    kind: RemoteKind::Http,
                    authorization: Some(Secret::new(format!("Basic {}", STANDARD.encode(&self.credentials)))),
                },
                branch: "main".parse().unwrap(),
                folder: "previews".to_owned(),
                directory: self.copy.path().to_owned(),
                author: "Maquette".to_owned(),
                email: "maquette@example.com".to_owned(),
                interval: Duration::from_secs(1),
            },
            argo: ArgoCd {
                namespace: self.argo.clone(),
                cluster: "test".to_owned(),
                repository: self.seen_at.clone(),
                envelope_project: "default".to_owned(),
                stack_project: "default".to_owned(),
            },
        }
    }

    /// What somebody else has of it, who may push.
    pub(crate) fn checkout(&self) -> WorkTree {
        let mut url = self.url.clone();
        let (user, password) = self.credentials.split_once(':').unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        WorkTree::clone(url.as_str()).unwrap()
    }
}
