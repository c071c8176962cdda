//! What an operator says of clusters: how each is reached, how objects get there, and what namespaces of environments are like.

use crate::start::StartError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use forge::{Remote, RemoteKind, Secret};
use model::{BranchName, ClusterName, InstanceId};
use reconciler::Clusters;
use runtime::Runtime;
use runtime_kubernetes::{
    Access, ArgoCd, Cluster, Delivery, GitOps, KubernetesRuntime, PodSecurity, Repository, Sensitive,
    survey::{self, Neighbours},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// The longest file with credentials, in bytes.
const SECRET_MAX: u64 = 64 << 10;
/// The least time between two pushes to a repository.
const PUSHES: Duration = Duration::from_secs(1);

/// A Kubernetes cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The kubeconfig file that says how it is reached, readable for the user of `serve`. Without one, Maquette runs as a pod of the
    /// cluster and uses the account that it has there.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig. Its current one may be another tomorrow, so it has to be given.
    #[serde(default)]
    pub context: Option<String>,
    /// Whether the cluster's network enforces network policies. Environments are kept apart by nothing else, and no API tells, so the
    /// operator has to say it.
    #[serde(default)]
    pub network_policies: Option<NetworkPoliciesConfig>,
    /// How objects get there: `apply` by the API server, `gitops` by commits to a repository from which Argo CD brings them.
    #[serde(default)]
    pub delivery: DeliveryConfig,
    /// The repository and the Argo CD of `delivery: gitops`.
    #[serde(default)]
    pub gitops: Option<GitOpsConfig>,
    /// What the namespaces of environments enforce; `restricted` unless given.
    #[serde(default)]
    pub pod_security: PodSecurityConfig,
    /// The class of volumes; the cluster's default unless given.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// The class of volumes that several services mount. Without one such volumes are refused.
    #[serde(default)]
    pub shared_storage_class: Option<String>,
    /// The priority class of pods.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// A file with a Docker configuration in JSON, with which nodes fetch images.
    #[serde(default)]
    pub pull_secret_file: Option<PathBuf>,
    /// Namespaces whose workloads may be beside environments, such as those of an ingress.
    #[serde(default)]
    pub neighbours: BTreeSet<String>,
    /// What happens on a cluster that seems to carry production: new environments are refused, unless the operator insists.
    #[serde(default)]
    pub production: ProductionConfig,
}

/// How objects get to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryConfig {
    /// They are applied by the API server.
    #[default]
    Apply,
    /// They are committed to a repository, from which Argo CD brings them.
    GitOps,
}

/// What namespaces enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurityConfig {
    /// Nothing runs as root.
    #[default]
    Restricted,
    /// Root of a user namespace, for images that need it.
    Baseline,
}

/// What becomes of network policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkPoliciesConfig {
    /// The cluster's network plugin enforces them.
    Enforced,
}

/// What happens on a cluster that seems to carry production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductionConfig {
    /// New environments are refused there.
    #[default]
    Refuse,
    /// They are made nevertheless.
    Insist,
}

/// A repository for environments, and the Argo CD that brings its commits to the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitOpsConfig {
    /// The address of the repository, by HTTP, without user and password.
    pub url: Url,
    /// A file with `user:password` in its first line, for pushing.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// The branch that is written to; made if it is not there.
    #[serde(default = "default_branch")]
    pub branch: BranchName,
    /// The folder of all environments; nothing outside of it is touched. Below it each installation and each cluster has one of its own.
    #[serde(default = "default_folder")]
    pub folder: String,
    /// The name of the author of commits.
    #[serde(default = "default_author")]
    pub author: String,
    /// The author's address.
    #[serde(default = "default_email")]
    pub email: String,
    /// The address of the repository as Argo CD has it; `url` unless given.
    #[serde(default)]
    pub argocd_url: Option<String>,
    /// The namespace of Argo CD's applications.
    #[serde(default = "default_argocd")]
    pub argocd_namespace: String,
    /// How Argo CD calls the cluster.
    #[serde(default = "default_destination")]
    pub argocd_cluster: String,
    /// The project of applications with what surrounds services: namespaces, limits, quotas, network policies, service accounts.
    #[serde(default = "default_project")]
    pub argocd_envelope_project: String,
    /// The project of applications with services.
    #[serde(default = "default_project")]
    pub argocd_stack_project: String,
}

fn default_branch() -> BranchName {
    super::default_branch()
}

fn default_folder() -> String {
    "previews".to_owned()
}

fn default_author() -> String {
    "Maquette".to_owned()
}

fn default_email() -> String {
    "maquette@localhost".to_owned()
}

fn default_argocd() -> String {
    "argocd".to_owned()
}

fn default_destination() -> String {
    "in-cluster".to_owned()
}

fn default_project() -> String {
    "default".to_owned()
}

/// What there is to say of a cluster that answers.
#[derive(Clone, Debug)]
pub struct ClusterReport {
    /// Its version.
    pub version: String,
    /// What its account may not do of that which environments need.
    pub lacking: Vec<String>,
    /// What on it is of no environment; empty if nothing is.
    pub production: String,
    /// Whether the configuration insists on environments there.
    pub insists: bool,
    /// How an operator insists.
    pub insist: &'static str,
}

/// A cluster can not be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("clusters.{name}: {what}")]
pub struct ClusterError {
    /// Which.
    pub name: ClusterName,
    /// What is wrong, with the place.
    pub what: String,
    /// What would help.
    pub hint: &'static str,
}

impl ClusterConfig {
    /// What contradicts itself, and a hint.
    pub(super) fn check(&self) -> Result<(), (String, &'static str)> {
        let wrong = |what: &str, hint| Err((what.to_owned(), hint));
        match (self.delivery, &self.gitops) {
            (DeliveryConfig::GitOps, None) => {
                return wrong(
                    "`delivery: gitops` needs a repository",
                    "say under `gitops` of the cluster where it is: `gitops: {url: …, credentials_file: …}`",
                );
            }
            (DeliveryConfig::Apply, Some(_)) => {
                return wrong(
                    "`gitops` has no effect with `delivery: apply`",
                    "remove it, or write `delivery: gitops`",
                );
            }
            _ => {}
        }
        if self.context.is_some() && self.kubeconfig.is_none() {
            return wrong(
                "`context` has no effect without `kubeconfig`",
                "name the kubeconfig file",
            );
        }
        if self.kubeconfig.is_some() && self.context.is_none() {
            return wrong(
                "`context` is missing",
                "name one of the kubeconfig's contexts: its current one may be of another cluster tomorrow",
            );
        }
        if self.network_policies.is_none() {
            return wrong(
                "it is not said whether its network enforces network policies",
                "write `network_policies: enforced` if its plugin does, as Cilium and Calico do; on others environments would reach each other",
            );
        }
        let Some(gitops) = &self.gitops else { return Ok(()) };
        if !matches!(gitops.url.scheme(), "http" | "https") {
            return wrong(
                "`gitops.url` is no address of the web",
                "write it as https://git.example.org/team/previews.git",
            );
        }
        if !gitops.url.username().is_empty() || gitops.url.password().is_some() {
            return wrong(
                "`gitops.url` has a user or a password in it",
                "write `user:password` into a file and name that as `credentials_file`",
            );
        }
        if gitops.folder.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong(
                "`gitops.folder` is no folder of a repository",
                "write it as `previews` or `teams/shop`",
            );
        }
        Ok(())
    }

    /// How its API server is reached.
    #[must_use]
    pub fn access(&self) -> Access {
        self.kubeconfig
            .clone()
            .map_or(Access::InCluster, |path| Access::Kubeconfig {
                path,
                context: self.context.clone(),
            })
    }

    /// What may be beside environments: what is configured, and Argo CD.
    #[must_use]
    pub fn neighbours(&self) -> Neighbours {
        let argo = self.gitops.iter().map(|gitops| gitops.argocd_namespace.clone());
        Neighbours {
            allowed: self.neighbours.iter().cloned().chain(argo).collect(),
            insists: self.production == ProductionConfig::Insist,
        }
    }

    /// Asks the cluster what it is.
    ///
    /// # Errors
    /// In words, if it can not be asked.
    pub async fn examine(&self) -> Result<ClusterReport, String> {
        let words = |error: runtime::RuntimeError| error.to_string();
        let client = runtime_kubernetes::client(&self.access()).await.map_err(words)?;
        let version = survey::version(&client).await.map_err(words)?;
        let lacking = survey::lacking(&client).await.map_err(words)?;
        let production = survey::production(&client, &self.neighbours()).await.map_err(words)?;
        Ok(ClusterReport {
            version,
            lacking,
            production: survey::told_together(&production),
            insists: self.production == ProductionConfig::Insist,
            insist: survey::INSIST,
        })
    }

    /// Its runtime. Nothing is asked of the cluster yet, so that one that is away keeps nobody from starting.
    ///
    /// # Errors
    /// [`ClusterError`] if a file can not be read or is of no use.
    async fn open(
        &self,
        name: &ClusterName,
        instance: &InstanceId,
        copies: &Path,
    ) -> Result<KubernetesRuntime, ClusterError> {
        let wrong = |what: String, hint| ClusterError {
            name: name.clone(),
            what,
            hint,
        };
        let readable = "the user of `maquette serve` must be able to read it";
        let client = runtime_kubernetes::client(&self.access()).await;
        let client = client.map_err(|error| {
            let hint = match self.kubeconfig {
                Some(_) => "give a kubeconfig that the user of `maquette serve` can read, with that context",
                None => "name a `kubeconfig`: without one, Maquette has to run as a pod of the cluster",
            };
            wrong(error.to_string(), hint)
        })?;
        let secret = |key: &str, path: &Path| {
            read(path).map_err(|error| wrong(format!("{key}: {} can not be read: {error}", path.display()), readable))
        };
        let pull_secret = self
            .pull_secret_file
            .as_deref()
            .map(|path| secret("pull_secret_file", path));
        let cluster = Cluster {
            instance: instance.clone(),
            pod_security: match self.pod_security {
                PodSecurityConfig::Restricted => PodSecurity::Restricted,
                PodSecurityConfig::Baseline => PodSecurity::Baseline,
            },
            gateway_namespace: None,
            storage_class: self.storage_class.clone(),
            shared_storage_class: self.shared_storage_class.clone(),
            built_images: None,
            pull_secret: pull_secret.transpose()?.map(Sensitive::new),
            priority_class: self.priority_class.clone(),
        };
        let delivery = match &self.gitops {
            None => Delivery::Apply,
            Some(gitops) => {
                let credentials = gitops.credentials_file.as_deref();
                let credentials = credentials
                    .map(|path| secret("gitops.credentials_file", path))
                    .transpose()?;
                Delivery::GitOps(Box::new(gitops.delivery(
                    credentials.as_deref(),
                    format!("{}/{instance}/{name}", gitops.folder),
                    copies.join(name.as_str()),
                )))
            }
        };
        let opened = KubernetesRuntime::with_client(cluster, delivery, client).await;
        let opened = opened.map_err(|error| wrong(error.to_string(), "look at the state directory"))?;
        Ok(opened.with_neighbours(self.neighbours()))
    }
}

impl GitOpsConfig {
    fn delivery(&self, credentials: Option<&str>, folder: String, directory: PathBuf) -> GitOps {
        let line = credentials.and_then(|text| text.lines().next()).map(str::trim);
        GitOps {
            repository: Repository {
                remote: Remote {
                    url: self.url.clone(),
                    kind: RemoteKind::Http,
                    authorization: line.map(|line| Secret::new(format!("Basic {}", STANDARD.encode(line)))),
                },
                branch: self.branch.clone(),
                folder,
                directory,
                author: self.author.clone(),
                email: self.email.clone(),
                interval: PUSHES,
            },
            argo: ArgoCd {
                namespace: self.argocd_namespace.clone(),
                cluster: self.argocd_cluster.clone(),
                repository: self.argocd_url.clone().unwrap_or_else(|| self.url.to_string()),
                envelope_project: self.argocd_envelope_project.clone(),
                stack_project: self.argocd_stack_project.clone(),
            },
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > SECRET_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let text = fs::read_to_string(path)?;
    if text.trim().is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(text)
}

/// The runtimes of all clusters. Copies of repositories are kept in `copies`.
///
/// # Errors
/// [`StartError::Cluster`].
pub(crate) async fn open(
    clusters: &BTreeMap<ClusterName, ClusterConfig>,
    instance: &InstanceId,
    copies: &Path,
) -> Result<Clusters, StartError> {
    let mut opened: BTreeMap<ClusterName, Arc<dyn Runtime>> = BTreeMap::new();
    for (name, config) in clusters {
        let runtime = config.open(name, instance, copies).await.map_err(StartError::Cluster)?;
        opened.insert(name.clone(), Arc::new(runtime));
    }
    Ok(Clusters(opened))
}
