//! The delivery by commits: files are written and pushed, Argo CD is told of the commit, and it is waited until it has brought it to the
//! cluster.

use super::{KubernetesRuntime, SEEN, remove::blocker};
use crate::{
    Kind,
    api::{MANAGER, attempt, failed, told_in_words},
    build::{
        Built, Object,
        labels::{self, DIGEST},
    },
    gitops::{
        Application, Edit, Engine, Order, Part,
        folder::{self, ENVELOPE, STACK},
    },
    names,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use model::{CommitId, EnvironmentId, EnvironmentSpec, Generation, Origin, ServiceName};
use runtime::Result;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long Argo CD may take to bring a commit to the cluster.
const ROLLED_OUT: Duration = Duration::from_secs(90);

/// How long it may fail to read the repository before that is told: an outage of a moment passes.
const UNREADABLE: Duration = Duration::from_secs(15);

/// How long nothing may change while it takes away what it has brought, and how long that may take in all.
const TAKEN_AWAY: Duration = Duration::from_secs(45);
const TAKEN_AWAY_AT_MOST: Duration = Duration::from_secs(300);

impl KubernetesRuntime {
    fn applications(&self, engine: &Engine) -> Api<Application> {
        Api::namespaced(self.client.clone(), &engine.argo.namespace)
    }

    /// Writes files of an environment, and returns the commit that has them.
    async fn commit(&self, engine: &Engine, spec: &EnvironmentSpec, what: String, edit: Edit) -> Result<CommitId> {
        let order = Order {
            environment: spec.environment.clone(),
            about: Some(format!("{} {}", spec.project, origin(&spec.origin))),
            generation: spec.generation,
            what: format!("{what} of generation {}", spec.generation),
            edit: Some(edit),
        };
        let written = engine.writer.write(order).await?;
        written.ok_or_else(|| failed("writing to the GitOps repository", "there is no commit"))
    }

    /// The envelope, and the volumes beside it.
    pub(super) async fn commit_envelope(
        &self,
        engine: &Engine,
        spec: &EnvironmentSpec,
        built: &Built,
        replaced: &[String],
    ) -> Result<CommitId> {
        let envelope = files(ENVELOPE, &built.envelope)?;
        let claims = built
            .stack
            .iter()
            .filter(|object| object.kind() == Kind::PersistentVolumeClaim);
        let claims = files(STACK, claims)?;
        let replaced: Vec<String> = replaced
            .iter()
            .map(|name| folder::path(STACK, Kind::PersistentVolumeClaim, name))
            .collect();
        let edit: Edit = Box::new(move |tree| {
            folder::keep_only(tree, ENVELOPE, &envelope);
            tree.retain(|path, _| !replaced.contains(path));
            tree.extend(envelope.clone().into_iter().chain(claims.clone()));
        });
        self.commit(engine, spec, "envelope".to_owned(), edit).await
    }

    /// Services, of which all that a commit can bring is brought.
    pub(super) async fn deliver_services(
        &self,
        engine: &Engine,
        spec: &EnvironmentSpec,
        all: &[(ServiceName, Vec<Object>)],
    ) -> Result<()> {
        let objects = || all.iter().flat_map(|(_, objects)| objects);
        let wanted = files(STACK, objects())?;
        let runners = all.iter().flat_map(|(name, _)| {
            let label = names::workload(name.as_str());
            [Kind::Deployment, Kind::StatefulSet].map(|kind| folder::path(STACK, kind, &label))
        });
        let others: Vec<String> = runners.filter(|path| !wanted.contains_key(path)).collect();
        let what: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let edit: Edit = Box::new(move |tree| {
            tree.retain(|path, _| !others.contains(path));
            tree.extend(wanted.clone());
        });
        let commit = self.commit(engine, spec, what.join(", "), edit).await?;
        self.roll_out(engine, &spec.environment, Part::Stack, &commit).await?;
        let namespace = self.namespace(&spec.environment);
        self.watches
            .until(SEEN, || objects().all(|object| self.is_seen(&namespace, object)))
            .await;
        Ok(())
    }

    /// Removes what no generation wants any more from the files, and so from the cluster.
    pub(super) async fn commit_prune(&self, engine: &Engine, spec: &EnvironmentSpec, built: &Built) -> Result<()> {
        let wanted = files(STACK, &built.stack)?;
        let edit: Edit = Box::new(move |tree| folder::keep_only(tree, STACK, &wanted));
        let commit = self
            .commit(engine, spec, "what is left over, pruned".to_owned(), edit)
            .await?;
        self.roll_out(engine, &spec.environment, Part::Stack, &commit).await
    }

    /// Whether our own watch has seen what runs a service as it should be.
    fn is_seen(&self, namespace: &str, object: &Object) -> bool {
        let wanted = labels::note(object.metadata(), DIGEST);
        let is = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            meta.namespace.as_deref() == Some(namespace)
                && meta.name.as_deref() == Some(object.name())
                && labels::note(meta, DIGEST) == wanted
        };
        match object.kind() {
            Kind::Deployment => self.watches.deployments.find(|found| is(&found.metadata)).is_some(),
            Kind::StatefulSet => self.watches.stateful_sets.find(|found| is(&found.metadata)).is_some(),
            _ => true,
        }
    }

    /// Tells Argo CD of a commit, and waits until it is in the cluster.
    pub(super) async fn roll_out(
        &self,
        engine: &Engine,
        id: &EnvironmentId,
        part: Part,
        commit: &CommitId,
    ) -> Result<()> {
        let namespace = self.namespace(id);
        let name = Engine::application(&namespace, part);
        let action = format!("rolling out commit {} by application {name} of Argo CD", short(commit));
        let api = self.applications(engine);
        let found = attempt(&action, || api.get_opt(&name)).await?;
        let before = found
            .as_ref()
            .and_then(|app| app.failure(commit.as_str()))
            .map(|failure| failure.started_at.clone());
        self.ours_or_none(&name, found.as_ref())?;
        let wanted = engine.wanted(&self.cluster.instance, id, &namespace, part, commit);
        let (how, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(wanted));
        attempt(&action, || api.patch(&name, &how, &patch)).await?;
        if before.is_some() {
            let patch = Patch::Merge(Engine::again(commit));
            let how = PatchParams::default();
            attempt(&action, || api.patch(&name, &how, &patch)).await?;
        }
        let current = || self.application(&name);
        let failure = |app: &Application| {
            let failure = app.failure(commit.as_str())?;
            (before.as_ref() != Some(&failure.started_at)).then(|| failure.words().join("; "))
        };
        let arrived = |app: &Application| {
            let healthy = part == Part::Stack || app.status.health.status == "Healthy";
            app.is_synced_to(commit.as_str()) && healthy
        };
        let decided = || current().is_some_and(|app| arrived(&app) || failure(&app).is_some());
        if !self.watches.until(UNREADABLE, decided).await {
            let unreadable = current().is_some_and(|app| {
                app.status.sync.revision != commit.as_str()
                    && app.status.conditions.iter().any(|c| c.kind == "ComparisonError")
            });
            if unreadable || !self.watches.until(ROLLED_OUT.saturating_sub(UNREADABLE), decided).await {
                return Err(failed(&action, awaited_in_vain(current().as_deref(), commit)));
            }
        }
        match current().as_deref().and_then(failure) {
            Some(words) => Err(told_in_words(&action, crate::api::shortened(&words))),
            None => Ok(()),
        }
    }

    fn application(&self, name: &str) -> Option<Arc<Application>> {
        self.watches
            .applications
            .find(|app| app.metadata.name.as_deref() == Some(name))
    }

    fn ours_or_none(&self, name: &str, found: Option<&Application>) -> Result<()> {
        let owner = found.map(|app| labels::label(&app.metadata, labels::INSTANCE));
        match owner {
            None => Ok(()),
            Some(owner) if owner == Some(self.cluster.instance.as_str()) => Ok(()),
            Some(_) => Err(failed(
                &format!("using the application {name}"),
                "somebody else has made an application of that name; it is left alone",
            )),
        }
    }

    /// Lets Argo CD take away what it has brought: services first, the namespace last, and then the files.
    pub(super) async fn take_away(&self, engine: &Engine, id: &EnvironmentId, generation: Generation) -> Result<()> {
        for part in Part::REMOVED {
            self.remove_application(engine, id, part).await?;
        }
        let order = Order {
            environment: id.clone(),
            about: None,
            generation,
            what: "removed".to_owned(),
            edit: None,
        };
        engine.writer.write(order).await.map(drop)
    }

    async fn remove_application(&self, engine: &Engine, id: &EnvironmentId, part: Part) -> Result<()> {
        let namespace = self.namespace(id);
        let name = Engine::application(&namespace, part);
        let action = format!("removing application {name} of Argo CD");
        let api = self.applications(engine);
        let found = attempt(&action, || api.get_opt(&name)).await?;
        self.ours_or_none(&name, found.as_ref())?;
        let Some(uid) = found.and_then(|app| app.uid()) else {
            return Ok(());
        };
        let how = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        attempt(&action, || async {
            match api.delete(&name, &how).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        })
        .await?;
        if self.is_taken_away(&name, &namespace).await {
            return Ok(());
        }
        let mut words = vec![format!(
            "Argo CD has not taken away what it brought, and nothing has changed for {TAKEN_AWAY:?}"
        )];
        words.extend(self.application(&name).and_then(|app| app.words()));
        let left = self.objects.get(Kind::Namespace, &namespace, &namespace).await?;
        words.extend(
            left.filter(|left| left.metadata.deletion_timestamp.is_some())
                .map(|left| blocker(&left)),
        );
        if words.len() == 1 {
            words.push("is its application controller running?".to_owned());
        }
        Err(failed(&action, words.join("; ")))
    }
}

impl KubernetesRuntime {
    /// Waits until an application is gone, as long as something still changes. Whether it is.
    async fn is_taken_away(&self, name: &str, namespace: &str) -> bool {
        let until = Instant::now() + TAKEN_AWAY_AT_MOST;
        while Instant::now() < until {
            let before = self.left(name, namespace);
            let decided = || self.application(name).is_none() || self.left(name, namespace) != before;
            if !self.watches.until(TAKEN_AWAY, decided).await {
                return false;
            }
            if self.application(name).is_none() {
                return true;
            }
        }
        false
    }

    /// What changes while an environment goes: its application, its namespace, and its pods.
    fn left(&self, name: &str, namespace: &str) -> (Option<String>, Option<String>, usize) {
        let application = self.application(name).and_then(|app| app.resource_version());
        let is = |found: &Namespace| found.metadata.name.as_deref() == Some(namespace);
        let version = self
            .watches
            .namespaces
            .find(is)
            .and_then(|found| found.resource_version());
        let pods = self
            .watches
            .pods
            .state_filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        (application, version, pods.len())
    }
}

fn files<'a>(folder: &str, objects: impl IntoIterator<Item = &'a Object>) -> Result<forge::git::Files> {
    folder::files(folder, objects).map_err(|error| failed("writing the files of an environment", error.to_string()))
}

/// Why an environment exists, for the history of the repository.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::PullRequest { number } => format!("pull request {number}"),
        Origin::FurtherPullRequest { source, number } => format!("pull request {number} of {source}"),
        Origin::PullRequests { branch } => format!("pull requests from {branch}"),
        Origin::Branch { branch } => format!("branch {branch}"),
        Origin::Baseline { branch } => format!("baseline of {branch}"),
        Origin::Clone { of } => format!("clone of {of}"),
        Origin::Golden => "golden environment".to_owned(),
        Origin::Spare => "spare environment".to_owned(),
    }
}

fn short(commit: &CommitId) -> &str {
    &commit.as_str()[..8]
}

/// Why a commit is not in the cluster yet, as far as Argo CD says so.
fn awaited_in_vain(app: Option<&Application>, commit: &CommitId) -> String {
    let Some(app) = app else {
        return "the application is not there any more".to_owned();
    };
    let status = &app.status;
    if let Some(words) = app.words() {
        return words;
    }
    if status.sync.revision != commit.as_str() {
        let last = status.reconciled_at.as_deref().unwrap_or("never");
        return format!(
            "Argo CD has not looked at it yet (it last did: {last}); is its application controller running?"
        );
    }
    format!(
        "it is {} and {} after {ROLLED_OUT:?}",
        status.sync.status, status.health.status
    )
}
