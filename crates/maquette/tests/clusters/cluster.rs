//! The cluster that `KUBECONFIG` names, a registry and a repository on this machine that it reaches, and an application in two versions.

use crate::rig::{PATIENCE, Rig};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::Kubeconfig,
    core::GroupVersionKind,
};
use serde_json::json;
use std::{
    env, fs,
    net::{IpAddr, UdpSocket},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use test_support::{
    gitea::Gitea,
    image::{Entry, Image, base, layer},
    registry::Registry,
};
use tokio::time::sleep;
use url::Url;

/// One at a time: what is on the cluster beside previews is part of a test.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An application whose images are in a registry from which the cluster fetches.
pub(crate) struct Application {
    registry: Registry,
    /// Where the node is told of the registry.
    told: PathBuf,
    client: Client,
    /// How the server under test reaches the cluster: with the account that ships, and no more rights than that.
    kubeconfig: String,
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.told);
    }
}

fn kubeconfig() -> PathBuf {
    let path = env::var("KUBECONFIG").unwrap_or_default();
    assert!(
        !path.is_empty(),
        "KUBECONFIG is not set, so there is no cluster to test on; `make test-cluster` starts one"
    );
    path.into()
}

/// The address of this machine on the way to the cluster.
fn near() -> IpAddr {
    let config = Kubeconfig::read_from(kubeconfig()).unwrap();
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

/// Applies a file of `deploy/kubernetes`, as `kubectl apply` does.
async fn apply(client: &Client, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy/kubernetes")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    for part in text.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(part).unwrap();
        let types = object.types.clone().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.clone().unwrap();
        let how = PatchParams::apply("test").force();
        api.patch(&name, &how, &Patch::Apply(object)).await.unwrap();
    }
}

/// A kubeconfig with a token of the account.
async fn of_account(client: &Client) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "maquette");
    let request = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 7200}}));
    let how = PostParams::default();
    let made = accounts.create_token_request("maquette", &how, &request.unwrap()).await;
    let token = made.unwrap().status.unwrap().token;
    let found = Kubeconfig::read_from(kubeconfig()).unwrap();
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "other",
        "contexts": [
            {"name": "other", "context": {"cluster": "nowhere", "user": "maquette"}},
            {"name": "previews", "context": {"cluster": "here", "user": "maquette"}},
        ],
        "clusters": [{"name": "here", "cluster": found.clusters[0].cluster}],
        "users": [{"name": "maquette", "user": {"token": token}}],
    })
    .to_string()
}

fn image(page: &str) -> Image {
    let entries = [
        Entry::file("www/index.html", format!("{page}\n")),
        Entry::program(
            "start",
            format!("#!/bin/sh\necho {page} begins\nexec httpd -f -p 8080 -h /www\n"),
        ),
    ];
    let config = json!({
        "User": "65534:65534",
        "Entrypoint": ["/start"],
        "Env": ["PATH=/bin"],
        "ExposedPorts": { "8080/tcp": {} },
    });
    Image::new(vec![base().unwrap(), layer(&entries).unwrap()], &config)
}

/// The stack, with a version of the image.
pub(crate) fn compose(application: &Application, version: u32) -> String {
    format!(
        "services:\n  web:\n    image: {}/team/web:{version}\n    ports: [\"8080:8080\"]\n",
        application.registry.name()
    )
}

pub(crate) fn settings() -> &'static str {
    "stack:\n  services:\n    web: { public: true }\npolicy: { baseline: none, egress: [example.com] }\n"
}

impl Application {
    pub(crate) async fn new() -> Self {
        let registry = Registry::start_on(near()).unwrap();
        for (version, page) in [("1", "one"), ("2", "two")] {
            image(page).push(&registry.name(), "team/web", version).await.unwrap();
        }
        let told = kubeconfig().parent().unwrap().join("registries").join(registry.name());
        fs::create_dir_all(&told).unwrap();
        let place = format!("http://{}", registry.name());
        let text = format!("server = \"{place}\"\n[host.\"{place}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        fs::write(told.join("hosts.toml"), text).unwrap();
        let client = Client::try_default().await.unwrap();
        for shipped in ["rights.yaml", "rights-gitops.yaml"] {
            apply(&client, shipped).await;
        }
        Self {
            registry,
            told,
            kubeconfig: of_account(&client).await,
            client,
        }
    }

    /// Writes a configuration whose one project is on the cluster. `more` is what else is said of that.
    pub(crate) fn configure(&self, rig: &Rig, more: &str) {
        let own = rig.root.join("kubeconfig");
        fs::write(&own, &self.kubeconfig).unwrap();
        private(&own, rig);
        let credentials = rig.root.join("credentials");
        if fs::copy(self.told.join("credentials"), &credentials).is_ok() {
            private(&credentials, rig);
        }
        let text = format!(
            "state_dir: {root}/state\nuser: nobody\nlisten: 127.0.0.1:{api}\ndoor: {{ user: bin }}\ngateway: {{ user: daemon, listen: \"127.0.0.1:{gateway}\" }}\n\
             cell: {{ run_dir: {run}, data_dir: {root}/cells, pool_gib: 1 }}\npoll_seconds: 1\n\
             images: {{ registries: {{ \"{registry}\": {{ private: true, insecure: true }} }} }}\n\
             clusters:\n  staging:\n    kubeconfig: {own}\n    context: previews\n    network_policies: enforced\n{more}\
             projects:\n  - name: shop\n    target: staging\n    sources:\n      - forge: {{ kind: local, path: {root}/forge }}\n",
            root = rig.root.display(),
            run = rig.run_dir.display(),
            api = rig.api,
            gateway = rig.gateway,
            registry = self.registry.name(),
            own = own.display(),
        );
        fs::write(
            rig.config(),
            text.replace("CREDENTIALS", &credentials.display().to_string()),
        )
        .unwrap();
    }

    /// A repository that Argo CD reads, and what is said of the cluster then.
    pub(crate) async fn gitops(&self) -> (Gitea, String) {
        let gitea = Gitea::start_on(near()).await.unwrap();
        let admin = gitea.admin().unwrap();
        let made = admin.make_repository("previews", false).await.unwrap();
        let url = format!("{}{}.git", gitea.url(), made.path);
        let file = self.told.join("credentials");
        fs::write(&file, format!("{}:{}\n", admin.user(), admin.token())).unwrap();
        let text = format!(
            "    delivery: gitops\n    gitops: {{ url: \"{url}\", credentials_file: CREDENTIALS, argocd_cluster: test }}\n"
        );
        (gitea, text)
    }

    /// The namespaces of an environment.
    pub(crate) async fn namespaces(&self, environment: &str) -> Vec<String> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let how = ListParams::default().labels(&format!("maquette/environment={environment}"));
        let found = api.list(&how).await.unwrap().items;
        found
            .into_iter()
            .filter_map(|namespace| namespace.metadata.name)
            .collect()
    }

    /// Something on the cluster that is of no preview.
    pub(crate) async fn production(&self) -> Production {
        let name = format!("shop-{}", std::process::id());
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let how = PostParams::default();
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces.create(&how, &namespace).await.unwrap();
        let deployment = json!({"metadata": {"name": "shop"}, "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": "cluster.invalid/busybox:1"}]},
            },
        }});
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &name);
        let deployment = serde_json::from_value(deployment).unwrap();
        deployments.create(&how, &deployment).await.unwrap();
        Production { name, namespaces }
    }
}

fn private(path: &Path, rig: &Rig) {
    let (uid, gid) = rig.user();
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What is on a cluster besides previews.
pub(crate) struct Production {
    pub(crate) name: String,
    namespaces: Api<Namespace>,
}

impl Production {
    pub(crate) async fn remove(self) {
        self.namespaces
            .delete(&self.name, &DeleteParams::default())
            .await
            .unwrap();
        // Whoever comes next finds it until it is gone.
        let since = Instant::now();
        while self.namespaces.get_opt(&self.name).await.unwrap().is_some() {
            assert!(since.elapsed() < PATIENCE, "{} stays", self.name);
            sleep(Duration::from_millis(200)).await;
        }
    }
}
