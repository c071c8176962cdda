//! What will be made, and what there is, by names: for the ledger and the receipt.
//!
//! Everything of an environment is in its namespace. Secrets are announced and not listed, because who may list them may read them
//! all; a namespace that is gone has none.

use super::{
    KubernetesRuntime,
    mark::has_namespace,
    stages::{AnyValue, is_ground},
};
use crate::{
    Kind,
    api::attempt,
    build::{self, Object, labels},
    gitops::{Application, Engine, Part},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, api::ListParams};
use model::{EnvironmentId, EnvironmentSpec, JobName, Resource, Stage};
use runtime::Result;

impl KubernetesRuntime {
    /// The resources of a stage. Nothing for one that is refused, because nothing is made of it.
    pub(super) fn resources(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
        let objects: Vec<Object> = match stage {
            Stage::Envelope => {
                let built = build::environment(&self.cluster, spec, &AnyValue);
                built.map_or_else(
                    |_| Vec::new(),
                    |built| {
                        let ground = built
                            .stack
                            .into_iter()
                            .filter(|o| is_ground(o) || matches!(o, Object::Marker(_)));
                        built.envelope.into_iter().chain(ground).collect()
                    },
                )
            }
            Stage::Services(names) => {
                let each = names
                    .iter()
                    .map(|name| build::service(&self.cluster, spec, &AnyValue, name));
                each.filter_map(std::result::Result::ok).flatten().collect()
            }
            Stage::Prune | Stage::Whole => Vec::new(),
        };
        let objects = objects.iter().map(|object| self.resource(&spec.environment, object));
        let engine = self.gitops.as_ref().filter(|_| *stage == Stage::Envelope);
        let beside = engine.map(|engine| self.beside(engine, &spec.environment));
        objects.chain(beside.into_iter().flatten()).collect()
    }

    /// What a delivery by commits has outside of the namespace.
    fn beside(&self, engine: &Engine, id: &EnvironmentId) -> Vec<Resource> {
        let namespace = self.namespace(id);
        let application = |part| application(id, &engine.argo.namespace, &Engine::application(&namespace, part));
        let applications = Part::REMOVED.into_iter().map(application);
        applications.chain([git_folder(id, engine)]).collect()
    }

    async fn listed_beside(&self, engine: &Engine, only: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        let api: Api<Application> = Api::namespaced(self.client.clone(), &engine.argo.namespace);
        let how = ListParams::default().labels(&self.ours());
        let all = attempt("listing applications", || api.list_metadata(&how)).await?;
        let applications = all.items.iter().filter_map(|app| {
            let id = labels::label(&app.metadata, labels::ENVIRONMENT)?.parse().ok()?;
            Some(application(&id, &engine.argo.namespace, app.metadata.name.as_deref()?))
        });
        let folders = engine.writer.list().await?;
        let folders = folders
            .iter()
            .filter_map(|name| Some(git_folder(&name.parse().ok()?, engine)));
        let is_meant = |resource: &Resource| only.is_none_or(|only| resource.environment == *only);
        Ok(applications.chain(folders).filter(is_meant).collect())
    }

    /// The resources of a job.
    pub(super) fn job_resources(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource> {
        let objects = build::job(&self.cluster, spec, &AnyValue, job).unwrap_or_default();
        objects
            .iter()
            .map(|object| self.resource(&spec.environment, object))
            .collect()
    }

    fn resource(&self, environment: &EnvironmentId, object: &Object) -> Resource {
        resource(environment, object.kind(), &self.namespace(environment), object.name())
    }

    /// What exists of one environment, or of all of this installation. Asked of the API server itself, not of a watch.
    pub(super) async fn listed(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        let mut found = match &self.gitops {
            Some(engine) => self.listed_beside(engine, environment).await?,
            None => Vec::new(),
        };
        let namespace = environment.map(|id| self.namespace(id));
        if let (Some(id), Some(name)) = (environment, &namespace) {
            if has_namespace(&self.objects, name, self.cluster.instance.as_str())
                .await?
                .is_none()
            {
                return Ok(found);
            }
            found.push(resource(id, Kind::Namespace, name, name));
        }
        for &kind in Kind::ALL {
            if kind == Kind::Secret || (kind == Kind::Namespace && namespace.is_some()) {
                continue;
            }
            let listed = self.objects.list(kind, namespace.as_deref(), &self.ours()).await?;
            found.extend(listed.iter().filter_map(|meta| existing(kind, meta)));
        }
        Ok(found)
    }
}

fn application(environment: &EnvironmentId, namespace: &str, name: &str) -> Resource {
    Resource {
        environment: environment.clone(),
        kind: "application".to_owned(),
        name: format!("{namespace}/{name}"),
    }
}

fn git_folder(environment: &EnvironmentId, engine: &Engine) -> Resource {
    Resource {
        environment: environment.clone(),
        kind: "git-folder".to_owned(),
        name: engine.folder(environment.as_str()),
    }
}

fn existing(kind: Kind, meta: &ObjectMeta) -> Option<Resource> {
    let environment = labels::label(meta, labels::ENVIRONMENT)?.parse().ok()?;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(resource(&environment, kind, namespace, meta.name.as_deref()?))
}

fn resource(environment: &EnvironmentId, kind: Kind, namespace: &str, name: &str) -> Resource {
    Resource {
        environment: environment.clone(),
        kind: kind.word().to_owned(),
        name: match kind {
            Kind::Namespace => name.to_owned(),
            _ => format!("{namespace}/{name}"),
        },
    }
}
