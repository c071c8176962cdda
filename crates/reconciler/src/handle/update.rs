//! Changes to what one environment runs: a service from another branch, services left out or taken in.

use super::{Handle, Intent};
use crate::{
    blueprints,
    context::Trouble,
    egress, pins,
    project::{Project, Source},
    scope::Scope,
    secret, service_source,
    trust::{self, Trust},
};
use forge::BranchFact;
use model::{BranchName, Endpoint, EnvironmentId, Generation, MountKind, Root, ServiceName};
use std::time::Duration;
use store::{EnvironmentPatch, GenerationRow};
use tokio::time::timeout;

/// How long whoever asks for a change waits at most for the generation that comes of it.
const MADE: Duration = Duration::from_secs(10);

/// The further source that a service of a generation is from.
fn further_source<'a>(project: &'a Project, row: &GenerationRow, service: &ServiceName) -> Option<&'a Source> {
    let workload = &row.spec.services()?.services.get(service)?.workload;
    let mounted = workload.mounts.iter().find_map(|mount| match &mount.kind {
        MountKind::Source { source, .. } => Some(source),
        _ => None,
    });
    let source = match &workload.root {
        Root::Build(build) => Some(&build.source),
        _ => mounted,
    };
    project.further().find(|further| Some(&further.name) == source)
}

impl Handle {
    /// Wants one service of an environment from another branch of its source, which it follows from then on. Of a further source,
    /// all services do.
    ///
    /// # Errors
    /// [`Intent`].
    pub async fn update_service(
        &self,
        id: &EnvironmentId,
        service: &ServiceName,
        branch: &BranchName,
    ) -> Result<(), Intent> {
        let row = self.environment(id).await?;
        let project = self.context.project(&row.project)?;
        let Some(source) = project.primary() else {
            return Err(Intent::NoProject(project.name.clone()));
        };
        let generations = self.context.store.generation_list(id).await?;
        let known = generations
            .iter()
            .filter_map(|row| row.spec.services())
            .any(|s| s.services.contains_key(service));
        let (true, Some(own)) = (known, service_source::name(service)) else {
            return Err(Intent::NoService(service.clone()));
        };
        let own_source = generations
            .iter()
            .rev()
            .find_map(|row| further_source(project, row, service));
        let source = own_source.unwrap_or(source);
        let fact = source
            .forge
            .branch(&source.repository, branch)
            .await
            .map_err(Trouble::from)?;
        let BranchFact::At(commit) = fact else {
            return Err(Intent::NoBranch(branch.clone()));
        };
        let via = format!("refs/heads/{branch}");
        let _using = self.context.repositories.in_use.read().await;
        self.context
            .repositories
            .ensure(&project.name, source, &commit, Some(&via))
            .await
            .map_err(Trouble::from)?;
        // Read anew: fetching takes time in which somebody may ask for something else.
        let row = self.environment(id).await?;
        let mut head = row.head.clone();
        let overrides = match own_source {
            // The description of such a service is not its repository's: all that comes from there follows the branch.
            Some(source) => {
                head.insert(source.name.clone(), commit);
                Some(pins::with_branch(&row, &source.name, branch))
            }
            None => {
                head.insert(own, commit);
                Some(service_source::with(&row, service, branch))
            }
        };
        let patch = EnvironmentPatch {
            head: Some(head),
            overrides,
            ..EnvironmentPatch::default()
        };
        self.context.store.environment_update(id, &patch).await?;
        self.nudge_environment(id);
        Ok(())
    }

    /// Wants an environment without some services of its stack, some of them found elsewhere, and with some that the stack leaves
    /// out. The newest wish about a service counts.
    ///
    /// # Errors
    /// [`Intent::NoService`] if the stack has no such service, [`Intent::NotAllowed`] if the policy does not let it reach an
    /// endpoint, [`Intent::Unusable`] if nothing can run so.
    pub async fn update_scope(&self, id: &EnvironmentId, wish: &Scope) -> Result<(), Intent> {
        let row = self.environment(id).await?;
        let policy = self.context.heads.get(&row.project);
        let Some(policy) = policy.filter(|policy| policy.readable) else {
            return Err(Intent::Failed(
                "the policy branch has not been read yet, or can not be used".to_owned(),
            ));
        };
        let mut wanted = row.clone();
        wanted.overrides = Scope::of(&row).changed(wish).write(&row);
        let using = self.context.repositories.in_use.read().await;
        let trust = trust::of(&self.context, &wanted).await?;
        let allowed = egress::granted(&self.context, trust, &policy);
        for (name, endpoint) in &wish.endpoints {
            if !endpoint.is_allowed(&allowed) {
                return Err(not_allowed(trust, name, endpoint));
            }
        }
        let granted = secret::granted(&self.context, &row.project, &policy, trust);
        let blueprint = match blueprints::of_environment(&self.context, &wanted, &policy, &granted).await? {
            Ok(blueprint) => blueprint,
            Err(problems) => return Err(Intent::Unusable(problems.message)),
        };
        let runs = |name: &ServiceName| blueprint.stack.services.contains_key(name);
        let (without, with) = (wish.without.iter().chain(wish.endpoints.keys()), &wish.with);
        let unknown = without
            .into_iter()
            .find(|name| !blueprint.left_out.iter().any(|out| out == name.as_str()))
            .or_else(|| with.iter().find(|name| !runs(name)));
        if let Some(name) = unknown {
            return Err(Intent::NoService(name.clone()));
        }
        if blueprint.stack.services.is_empty() {
            return Err(Intent::Unusable("no service would be left".to_owned()));
        }
        // Read anew: all this takes time in which somebody may ask for something else.
        let row = self.environment(id).await?;
        let overrides = Scope::of(&row).changed(wish).write(&row);
        if overrides == row.overrides {
            return Ok(());
        }
        let before = self.context.store.generation_newest(id).await?;
        let patch = EnvironmentPatch {
            overrides: Some(overrides),
            ..EnvironmentPatch::default()
        };
        self.context.store.environment_update(id, &patch).await?;
        drop(using);
        self.nudge_environment(id);
        // Of a commit that may not run nothing comes.
        let project = self.context.projects.get(&row.project);
        if project.is_some_and(|project| trust::is_approved(project, &row)) {
            self.made(id, before.map(|before| before.generation)).await?;
        }
        Ok(())
    }

    /// Waits until there is a newer generation: a change without a new commit shows in nothing else, and whoever looks at the
    /// environment before would take what was live for what was asked for.
    pub(super) async fn made(&self, id: &EnvironmentId, before: Option<Generation>) -> Result<(), Intent> {
        let store = &self.context.store;
        let mut changes = store.changes();
        let looking = async {
            loop {
                changes.mark_unchanged();
                let newest = store.generation_newest(id).await?;
                if newest.map(|newest| newest.generation) > before || changes.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        // The change is noted, whenever it comes true.
        timeout(MADE, looking).await.unwrap_or(Ok(()))
    }
}

/// Why an endpoint can not be had, and the line of policy that would allow it.
fn not_allowed(trust: Trust, service: &ServiceName, endpoint: &Endpoint) -> Intent {
    match trust {
        Trust::Full => Intent::NotAllowed {
            what: format!("the policy does not allow {endpoint}"),
            hint: format!("in the policy: {}", endpoint.line(service.as_str())),
        },
        Trust::Approved => Intent::NotAllowed {
            what: format!("nobody who may push has pushed its commit: it reaches nothing, and so not {endpoint}"),
            hint: "push the commit to a branch of the repository".to_owned(),
        },
    }
}
