//! The configured repositories: their forges, their ids, their webhooks.

use crate::{
    app::WebhookSecrets,
    config::{ForgeConfig, GiteaConfig, JoinConfig, ProjectConfig, ServerConfig, SourceConfig},
};
use forge::{Forge, RepositoryId, RepositoryPath, Secret, WebhookId, gitea::Gitea, local::LocalForge};
use model::{Digest, ProjectName, SourceName};
use reconciler::{Base, Project, Source};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::{BindingRow, Store, StoreError};
use tokio::time::sleep;
use url::Url;

/// The largest file that holds a secret, in bytes.
const SECRET_MAX: u64 = 4096;
/// Between two tries to set up a webhook.
const WEBHOOK_PAUSE: Duration = Duration::from_secs(30);

/// A configured repository can not be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file with a secret can not be read, or is none.
    #[error("{} can not be read as a secret", path.display())]
    Secret {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The forge does not take what is configured, or does not answer.
    #[error("{project}/{name} can not be found on its forge")]
    Forge {
        /// The project.
        project: ProjectName,
        /// The source.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed.
    #[error("the store can not tell what {project}/{name} is")]
    Store {
        /// The project.
        project: ProjectName,
        /// The source.
        name: SourceName,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// What is to be seen to of a repository's webhook.
pub(crate) struct WantedWebhook {
    forge: Arc<dyn Forge>,
    repository: RepositoryId,
    project: ProjectName,
    source: SourceName,
    /// Where it delivers to; `None` if we set up none, so that one that we made before goes.
    url: Option<Url>,
    secret: Secret,
}

/// All that the configuration's projects lead to.
pub(crate) struct Sources {
    pub(crate) projects: Vec<Project>,
    pub(crate) secrets: WebhookSecrets,
    pub(crate) webhooks: Vec<WantedWebhook>,
}

pub(crate) async fn open(config: &ServerConfig, store: &Store) -> Result<Sources, SourceError> {
    let mut opened = Sources {
        projects: Vec::new(),
        secrets: WebhookSecrets::new(),
        webhooks: Vec::new(),
    };
    for project in &config.projects {
        let mut sources = Vec::new();
        for source in &project.sources {
            sources.push(one(store, project, source, &mut opened).await?);
        }
        // What carries the blueprint comes first everywhere else.
        if let Some(place) = project.blueprint_place().filter(|place| *place < sources.len()) {
            let first = sources.remove(place);
            sources.insert(0, first);
        }
        if let Some(base) = config.base_of(project) {
            let shared = config.is_shared(base);
            let (scheme, domain) = (base.scheme.as_str().to_owned(), base.domain.to_ascii_lowercase());
            let base = Base {
                scheme,
                domain,
                port: config.port_of(base),
                shared,
            };
            opened.projects.push(Project {
                name: project.name.clone(),
                base,
                sources,
                joins: project.join == JoinConfig::Branch,
                // It was looked at when the file was read.
                cluster: config.target_of(project).ok().flatten().cloned(),
            });
        }
    }
    Ok(opened)
}

async fn one(
    store: &Store,
    project: &ProjectConfig,
    source: &SourceConfig,
    opened: &mut Sources,
) -> Result<Source, SourceError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| SourceError::Forge {
        project: project.name.clone(),
        name: project.name.to_string(),
        source,
    };
    let name = project
        .source_name(source)
        .ok_or_else(|| failed("it has no name".into()))?;
    let (forge, repository): (Arc<dyn Forge>, RepositoryId) = match &source.forge {
        ForgeConfig::Local(local) => {
            let path: RepositoryPath = format!("local/{name}").parse().map_err(|e| failed(Box::new(e)))?;
            let forge = LocalForge::open(&local.path, &path, &source.base_branch)
                .await
                .map_err(|e| failed(Box::new(e)))?;
            let id = forge.repository_id().clone();
            (Arc::new(forge), id)
        }
        ForgeConfig::Gitea(gitea) => {
            let token = secret(&gitea.token_file)?;
            let forge =
                Gitea::new(&gitea.url, token, forge::gitea::Limits::default()).map_err(|e| failed(Box::new(e)))?;
            let forge: Arc<dyn Forge> = Arc::new(forge);
            let id = bind(store, &project.name, &name, gitea, &*forge).await?;
            let secret = secret(&gitea.webhook_secret_file)?;
            let place = format!("/webhooks/{}/{name}", project.name);
            let url = gitea.webhook_url.as_ref().map(|url| url.join(&place)).transpose();
            opened.webhooks.push(WantedWebhook {
                forge: Arc::clone(&forge),
                repository: id.clone(),
                project: project.name.clone(),
                source: name.clone(),
                url: url.map_err(|e| failed(Box::new(e)))?,
                secret: secret.clone(),
            });
            opened.secrets.insert((project.name.clone(), name.clone()), secret);
            (forge, id)
        }
    };
    let base_branch = source.base_branch.clone();
    let policy_branch = source.policy_branch.clone().unwrap_or_else(|| base_branch.clone());
    Ok(Source {
        name,
        forge,
        repository,
        base_branch,
        policy_branch,
    })
}

/// The forge's id of a repository. It is asked for once; from then on the name counts no more, because names change hands.
async fn bind(
    store: &Store,
    project: &ProjectName,
    name: &SourceName,
    gitea: &GiteaConfig,
    forge: &dyn Forge,
) -> Result<RepositoryId, SourceError> {
    let stored = |source| SourceError::Store {
        project: project.clone(),
        name: name.clone(),
        source,
    };
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| SourceError::Forge {
        project: project.clone(),
        name: name.to_string(),
        source,
    };
    let address = format!("{}#{}", gitea.url, gitea.repository);
    let known = store.binding_get(project, name).await.map_err(stored)?;
    if let Some(known) = known.filter(|known| known.address == address) {
        return RepositoryId::try_from(known.repository).map_err(|error| failed(Box::new(error)));
    }
    let path: RepositoryPath = gitea.repository.parse().map_err(|error| failed(Box::new(error)))?;
    let found = forge
        .repository_find(&path)
        .await
        .map_err(|error| failed(Box::new(error)))?;
    let row = BindingRow {
        project: project.clone(),
        source: name.clone(),
        address,
        repository: found.id.as_str().to_owned(),
        webhook: None,
        webhook_digest: None,
    };
    store.binding_put(&row).await.map_err(stored)?;
    Ok(found.id)
}

fn secret(path: &Path) -> Result<Secret, SourceError> {
    let failed = |source| SourceError::Secret {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > SECRET_MAX {
        return Err(failed(io::Error::other("the file is too large")));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(failed(io::Error::other("the file is empty")));
    }
    Ok(Secret::new(secret.to_owned()))
}

/// Sees to it that a repository has our webhook and none that we made for another address; tried until it succeeds. Without it,
/// the poll finds what it would have told.
pub(crate) async fn set_up_webhook(store: Store, wanted: WantedWebhook) {
    loop {
        match ensure_webhook(&store, &wanted).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(project = %wanted.project, source = %wanted.source, error = &*error, "no webhook could be set up");
            }
        }
        sleep(WEBHOOK_PAUSE).await;
    }
}

async fn ensure_webhook(store: &Store, wanted: &WantedWebhook) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(row) = store.binding_get(&wanted.project, &wanted.source).await? else {
        return Ok(());
    };
    let before = row.webhook.map(WebhookId);
    let digest = wanted
        .url
        .as_ref()
        .map(|url| Digest::of_parts([url.as_str().as_bytes(), wanted.secret.expose().as_bytes()]));
    let id = match &wanted.url {
        Some(url) => {
            // Only one with this address and this secret is kept.
            let known = before.filter(|_| row.webhook_digest == digest);
            let forge = &wanted.forge;
            Some(
                forge
                    .webhook_ensure(&wanted.repository, url, &wanted.secret, known)
                    .await?,
            )
        }
        None => None,
    };
    if let Some(old) = before.filter(|before| Some(*before) != id) {
        wanted.forge.webhook_remove(&wanted.repository, old).await?;
        tracing::info!(project = %wanted.project, source = %wanted.source, "the webhook that was set up before is removed");
    }
    if before != id || row.webhook_digest != digest {
        let row = BindingRow {
            webhook: id.map(|id| id.0),
            webhook_digest: digest,
            ..row
        };
        store.binding_put(&row).await?;
    }
    if id.is_some() {
        tracing::info!(project = %wanted.project, source = %wanted.source, "the webhook is set up");
    }
    Ok(())
}
