//! Reads blueprints from commits: the stack from an environment's own commit, the policy from the policy branch.

use crate::{
    context::{Context, Trouble},
    heads::PolicyHead,
    image, pins,
    project::{Project, Source},
    pulls,
    repository::{CommitTree, RepositoryError},
    scope::Scope,
    secret::{self, Versions},
    service_source,
    trust::{self, Trust},
};
use blueprint::{Address, Blueprint, Further, FurtherCommit, Policy, Problem, Problems, Severity, Tree};
use model::{
    ClusterName, CommitId, Digest, Endpoint, Limits, Origin, ProjectName, ServiceName, ServiceStack, SourceName,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use store::{EnvironmentRow, PullRequestRow};

/// What an environment is made from, or the problems that keep it from being made.
pub(crate) type Reading = Result<ReadBlueprint, Unusable>;

/// The problems of a blueprint that can not be used, as people read them.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// The first one, with its place, in one line; and how many more there are.
    pub(crate) message: String,
    /// All of them, with excerpts and hints, line by line.
    pub(crate) lines: Vec<String>,
    /// What could not be done, if it was not reading.
    pub(crate) step: Option<String>,
    /// What would help.
    pub(crate) hint: Option<String>,
}

/// What helps against problems of the files.
const CHECK: &str = "`maquette check` shows the same problems on your machine";

impl From<String> for Unusable {
    fn from(message: String) -> Self {
        Self {
            lines: vec![message.clone()],
            message,
            step: None,
            hint: Some(CHECK.to_owned()),
        }
    }
}

impl From<Problems> for Unusable {
    fn from(problems: Problems) -> Self {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let first = problems.0.iter().find(is_error).or(problems.0.first());
        let mut message = first.map_or_else(
            || "the blueprint can not be used".to_owned(),
            |first| {
                let bare = Problem {
                    excerpt: None,
                    hint: None,
                    ..first.clone()
                };
                bare.to_string()
            },
        );
        match problems.0.iter().filter(is_error).count() {
            0 | 1 => {}
            2 => message.push_str(" (and one more problem)"),
            count => message.push_str(&format!(" (and {} more problems)", count - 1)),
        }
        Self {
            message,
            lines: problems.to_string().lines().map(str::to_owned).collect(),
            step: None,
            hint: Some(CHECK.to_owned()),
        }
    }
}

/// A blueprint as the reconciler needs it.
pub(crate) struct ReadBlueprint {
    pub(crate) stack: ServiceStack,
    pub(crate) limits: Limits,
    /// Services that are left out on purpose.
    pub(crate) left_out: Vec<String>,
    /// Where some of them are found.
    pub(crate) endpoints: BTreeMap<ServiceName, Endpoint>,
    /// What people should know of how it was put together.
    pub(crate) notes: Vec<String>,
}

/// The trees of the sources beside the one that carries the blueprint, or why there is none.
type Trees = BTreeMap<SourceName, Result<(CommitId, Arc<CommitTree>), String>>;

/// The further sources of an environment at the commits that are wanted now.
async fn further(
    context: &Context,
    project: &Project,
    environment: &EnvironmentRow,
) -> Result<(Trees, Vec<String>), Trouble> {
    let pins = pins::pins(environment);
    let (mut trees, mut notes) = (Trees::new(), Vec::new());
    for source in project.further() {
        let Some(commit) = environment.head.get(&source.name) else {
            let trouble = pins.get(&source.name).and_then(|pin| pin.trouble.clone());
            let why = trouble.unwrap_or_else(|| "has no commit here yet".to_owned());
            trees.insert(source.name.clone(), Err(why));
            continue;
        };
        context.repositories.ensure(&project.name, source, commit, None).await?;
        let (tree, found) = match files(context, &project.name, &source.name, commit).await {
            Ok(found) => found,
            Err(error) if error.is_users() => {
                let why = format!("can not be used at {}: {}", commit.short(), crate::text::chain(&error));
                trees.insert(source.name.clone(), Err(why));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        notes.extend(found.into_iter().map(|note| format!("{}: {note}", source.name)));
        trees.insert(source.name.clone(), Ok((commit.clone(), Arc::new(tree))));
    }
    Ok((trees, notes))
}

/// Whether git could read all that was read of further sources.
fn end_further(trees: &Trees) -> Result<(), RepositoryError> {
    let mut there = trees
        .iter()
        .filter_map(|(name, tree)| Some((name, tree.as_ref().ok()?)));
    there.try_for_each(|(name, (_, tree))| tree.trouble().end(name))
}

/// What a blueprint is read from.
struct Read {
    head: CommitTree,
    policy: CommitTree,
    /// `None` where nobody looks at further sources.
    further: Option<Trees>,
}

impl Read {
    fn further(&self) -> Further<'_> {
        let Some(trees) = &self.further else {
            return Further::unseen();
        };
        let mut further = Further::default();
        for (name, tree) in trees {
            let found = tree.as_ref().map(|(commit, tree)| FurtherCommit {
                commit: Some(commit),
                tree: tree.as_ref() as &dyn Tree,
            });
            further.sources.insert(name.clone(), found.map_err(Clone::clone));
        }
        further
    }
}

impl ReadBlueprint {
    /// `search (found at search.example.com:9200), index`.
    fn told_left_out(&self) -> String {
        let told = |name: &String| {
            let endpoint = self.endpoints.iter().find(|(service, _)| service.as_str() == name);
            match endpoint {
                Some((_, endpoint)) => format!("{name} (found at {endpoint})"),
                None => name.clone(),
            }
        };
        self.left_out.iter().map(told).collect::<Vec<_>>().join(", ")
    }
}

/// The blueprint of an environment at the commits that are wanted now.
pub(crate) async fn of_environment(
    context: &Context,
    environment: &EnvironmentRow,
    policy: &PolicyHead,
    granted: &Versions,
) -> Result<Reading, Trouble> {
    let project = context.project(&environment.project)?;
    let Some((source, commit)) = project
        .primary()
        .and_then(|s| Some((s, environment.head.get(&s.name)?)))
    else {
        let name = project
            .primary()
            .map_or_else(String::new, |source| source.name.to_string());
        let pins = pins::pins(environment);
        let pin = project
            .primary()
            .and_then(|source| pins.get(&source.name)?.trouble.clone());
        let why = pin.unwrap_or_else(|| "has no commit here yet".to_owned());
        return Ok(Err(Unusable {
            hint: None,
            ..format!("source {name}, which carries the blueprint, {why}").into()
        }));
    };
    let pulls = pulls::pull_requests(&context.store, project, environment).await?;
    let about = about_environment(environment, project, &pulls, (source, commit), granted);
    // Commits outlive the mirror's last fetch only while something holds them; fetching again costs nothing if they are here.
    context.repositories.ensure(&project.name, source, commit, None).await?;
    let via = format!("refs/heads/{}", source.policy_branch);
    context
        .repositories
        .ensure(&project.name, source, &policy.commit, Some(&via))
        .await?;
    let (head, notes) = match files(context, &project.name, &source.name, commit).await {
        Ok(found) => found,
        Err(error) if error.is_users() => return Ok(Err(crate::text::chain(&error).into())),
        Err(error) => return Err(error.into()),
    };
    let policy_tree = context
        .repositories
        .tree(&project.name, &source.name, &policy.commit)
        .await?;
    let trust = trust::of(context, environment).await?;
    let troubles = [head.trouble(), policy_tree.trouble()];
    let (trees, more) = further(context, project, environment).await?;
    let from = Read {
        head,
        policy: policy_tree,
        further: Some(trees.clone()),
    };
    let mut reading = read(context, environment.cluster.as_ref(), from, about.clone(), trust).await;
    troubles.iter().try_for_each(|trouble| trouble.end(&source.name))?;
    end_further(&trees)?;
    if let Ok(blueprint) = &mut reading {
        blueprint.notes.extend(notes);
        blueprint.notes.extend(more);
        if !blueprint.left_out.is_empty() {
            blueprint
                .notes
                .push(format!("Left out: {}.", blueprint.told_left_out()));
        }
    }
    if let Ok(blueprint) = &mut reading
        && let Err(problems) = take_services(
            context,
            environment,
            (project, source),
            policy,
            &about,
            &trees,
            blueprint,
        )
        .await?
    {
        return Ok(Err(problems));
    }
    Ok(reading)
}

/// A digest of all that a stack can see of what an environment is for: title, base branch, address and so on.
pub(crate) fn visible(
    context: &Context,
    environment: &EnvironmentRow,
    pulls: &[PullRequestRow],
    granted: &Versions,
) -> Result<Digest, Trouble> {
    let project = context.project(&environment.project)?;
    let pinned = project
        .primary()
        .and_then(|source| Some((source, environment.head.get(&source.name)?)));
    let Some(pinned) = pinned else {
        return Ok(Digest::of(b""));
    };
    Ok(about_environment(environment, project, pulls, pinned, granted).fingerprint())
}

/// What the stack of an environment may know.
fn about_environment(
    environment: &EnvironmentRow,
    project: &Project,
    pulls: &[PullRequestRow],
    (source, commit): (&Source, &CommitId),
    granted: &Versions,
) -> blueprint::Context {
    let mut about = about(project, source, commit, &environment.label);
    let Scope {
        without,
        with,
        endpoints,
    } = Scope::of(environment);
    (about.without, about.with, about.endpoints) = (without, with, endpoints);
    about.secrets = granted.keys().map(|name| name.0.clone()).collect();
    if let Some(pull) = pulls.first() {
        about.branch = pull.branch.parse().ok();
        about.base = pull.base.parse().ok();
        about.pull_request = Some(blueprint::PullRequest {
            number: pull.number,
            title: pull.title.clone(),
        });
    } else if let Some((_, number)) = project.pull_request_of(&environment.origin) {
        let title = String::new();
        about.pull_request = Some(blueprint::PullRequest { number, title });
    }
    if let Origin::Branch { branch } | Origin::Baseline { branch } | Origin::PullRequests { branch } =
        &environment.origin
    {
        about.branch = Some(branch.clone());
    }
    about
}

/// The files of a commit that can be checked out, and what people should know of them.
async fn files(
    context: &Context,
    project: &ProjectName,
    source: &SourceName,
    commit: &CommitId,
) -> Result<(CommitTree, Vec<String>), RepositoryError> {
    let tree = context.repositories.tree(project, source, commit).await?;
    let notes = tree.notes(source).await?;
    Ok((tree, notes))
}

/// Replaces the services that somebody wants from another branch: their description and their files are that branch's.
async fn take_services(
    context: &Context,
    environment: &EnvironmentRow,
    (project, source): (&Project, &Source),
    policy: &PolicyHead,
    about: &blueprint::Context,
    trees: &Trees,
    blueprint: &mut ReadBlueprint,
) -> Result<Result<(), Unusable>, Trouble> {
    for (service, branch) in service_source::wanted(environment) {
        let Some((own, commit)) =
            service_source::name(&service).and_then(|own| Some((own.clone(), environment.head.get(&own)?)))
        else {
            continue;
        };
        let via = format!("refs/heads/{branch}");
        context
            .repositories
            .ensure(&project.name, source, commit, Some(&via))
            .await?;
        let tree = context.repositories.tree(&project.name, &source.name, commit).await?;
        let policy = context
            .repositories
            .tree(&project.name, &source.name, &policy.commit)
            .await?;
        let about = blueprint::Context {
            commit: commit.clone(),
            ..about.clone()
        };
        let trust = trust::of(context, environment).await?;
        let troubles = [tree.trouble(), policy.trouble()];
        let from = Read {
            head: tree,
            policy,
            further: Some(trees.clone()),
        };
        let reading = read(context, environment.cluster.as_ref(), from, about, trust).await;
        troubles.iter().try_for_each(|trouble| trouble.end(&source.name))?;
        end_further(trees)?;
        let found = match reading {
            Ok(mut other) => other.stack.services.remove(&service),
            Err(problems) => return Ok(Err(problems)),
        };
        let Some(mut taken) = found else {
            return Ok(Err(format!("branch {branch} has no service {service}").into()));
        };
        service_source::remount(&mut taken, &source.name, &own);
        blueprint
            .notes
            .push(format!("{service} comes from branch {branch} ({}).", commit.short()));
        blueprint.stack.services.insert(service, taken);
    }
    Ok(Ok(()))
}

/// The blueprint of the policy branch's own commit: what goldens are made from.
pub(crate) async fn of_policy_branch(
    context: &Context,
    project: &ProjectName,
    commit: &CommitId,
) -> Result<Reading, Trouble> {
    let project = context.project(project)?;
    let Some(source) = project.primary() else {
        return Ok(Err("the project has no source".to_owned().into()));
    };
    let origin = Origin::Baseline {
        branch: source.policy_branch.clone(),
    };
    let mut about = about(project, source, commit, &project.label(&origin));
    about.branch = Some(source.policy_branch.clone());
    let head = context.repositories.tree(&project.name, &source.name, commit).await?;
    let policy = context.repositories.tree(&project.name, &source.name, commit).await?;
    about.secrets = secret::available(context, &project.name);
    let troubles = [head.trouble(), policy.trouble()];
    // Nothing runs from it but engines: what its images say is of no interest.
    let from = Read {
        head,
        policy,
        further: None,
    };
    let (reading, ..) = read_once(context, project.cluster.as_ref(), from, about, Trust::Full).await;
    troubles.iter().try_for_each(|trouble| trouble.end(&source.name))?;
    Ok(reading)
}

/// The policy at a commit, a digest that is the same for commits that say the same, and why it can not be used, if so. A policy that
/// can not be used is the strict default.
pub(crate) async fn policy(
    context: &Context,
    project: &ProjectName,
    commit: &CommitId,
) -> Result<(Policy, Digest, Option<String>), Trouble> {
    let unread = |why: &str| (Policy::default(), Digest::of(why.as_bytes()), Some(why.to_owned()));
    let Some(source) = context.project(project)?.primary() else {
        return Ok(unread("the project has no source"));
    };
    let tree = context.repositories.tree(project, &source.name, commit).await?;
    let trouble = tree.trouble();
    let read = tokio::task::spawn_blocking(move || match Policy::read(&tree) {
        Ok((policy, _)) => {
            let digest = Digest::of(generations_part(&policy).to_string().as_bytes());
            (policy, digest, None)
        }
        Err(problems) => {
            let digest = Digest::of(problems.to_string().as_bytes());
            (Policy::default(), digest, Some(Unusable::from(problems).message))
        }
    });
    let read = read.await;
    trouble.end(&source.name)?;
    Ok(read.unwrap_or_else(|_| unread("the policy could not be read to its end")))
}

/// What a policy says about generations. That which says who has an environment and for how long changes none.
fn generations_part(policy: &Policy) -> serde_json::Value {
    let mut said = serde_json::to_value(policy).unwrap_or_default();
    if let Some(fields) = said.as_object_mut() {
        fields.retain(|key, _| {
            !matches!(
                key.as_str(),
                "triggers" | "baseline" | "sleep_after_ms" | "expire_after_ms"
            )
        });
    }
    said
}

fn about(project: &Project, source: &Source, commit: &CommitId, label: &model::HostLabel) -> blueprint::Context {
    blueprint::Context {
        project: project.name.clone(),
        source: source.name.clone(),
        commit: commit.clone(),
        branch: None,
        base: None,
        pull_request: None,
        environment: label.clone(),
        address: Address {
            scheme: project.base.scheme.clone(),
            base: project.base.domain.clone(),
            port: project.base.port,
        },
        without: std::collections::BTreeSet::new(),
        endpoints: std::collections::BTreeMap::new(),
        with: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        images: None,
    }
}

/// Reads a tree; where its stack runs images a second time, with what they say.
async fn read(
    context: &Context,
    cluster: Option<&ClusterName>,
    from: Read,
    about: blueprint::Context,
    trust: Trust,
) -> Reading {
    let (first, from) = read_once(context, cluster, from, about.clone(), trust).await;
    let first = first?;
    let wanted: BTreeMap<String, String> = image::names_of(&first.stack)
        .into_iter()
        .map(|(name, (_, who))| (name, who))
        .collect();
    let (false, Some(from)) = (wanted.is_empty(), from) else {
        return Ok(first);
    };
    let known = image::all(context, wanted).await.map_err(|missing| Unusable {
        message: missing.message,
        lines: missing.lines,
        step: Some(missing.step),
        hint: missing.hint,
    })?;
    let notes: Vec<String> = known.values().filter_map(|known| known.note.clone()).collect();
    let images = known.into_iter().map(|(name, known)| (name, known.facts)).collect();
    let about = blueprint::Context {
        images: Some(images),
        ..about
    };
    let (second, _) = read_once(context, cluster, from, about, trust).await;
    let mut second = second?;
    second.notes.extend(notes);
    Ok(second)
}

/// Reading a tree blocks, so it happens on a thread that may. Gives the trees back.
async fn read_once(
    context: &Context,
    cluster: Option<&ClusterName>,
    from: Read,
    about: blueprint::Context,
    trust: Trust,
) -> (Reading, Option<Read>) {
    let capabilities = match context.capabilities(cluster) {
        Ok(capabilities) => capabilities.clone(),
        Err(trouble) => return (Err(trouble.to_string().into()), None),
    };
    let reading = tokio::task::spawn_blocking(move || {
        let further = from.further();
        let read = Blueprint::read_from(&from.head, Some(&from.policy), &further, &about, &capabilities);
        let told = secret::told(&lacking(&from, &further, about, &capabilities), trust);
        drop(further);
        (read, told, from)
    });
    let Ok((read, told, from)) = reading.await else {
        let unusable: Unusable = "the blueprint could not be read to its end".to_owned().into();
        return (Err(unusable), None);
    };
    let reading = match read {
        Ok(blueprint) => Ok(ReadBlueprint {
            limits: blueprint.policy.limits,
            left_out: blueprint.left_out,
            endpoints: blueprint.endpoints,
            // Warnings are what `maquette check` tells an author; a reviewer can do nothing about them.
            notes: told,
            stack: blueprint.stack,
        }),
        Err(problems) => {
            let mut problems = Unusable::from(problems);
            if !told.is_empty() {
                problems.hint = Some(told.join(" "));
            }
            Err(problems)
        }
    };
    (reading, Some(from))
}

/// What of the stack would be given secrets that the policy grants, and is not given them.
fn lacking(
    from: &Read,
    further: &Further<'_>,
    about: blueprint::Context,
    capabilities: &model::Capabilities,
) -> BTreeMap<String, Vec<String>> {
    let granted: BTreeSet<String> = Policy::read(&from.policy)
        .map(|(policy, _)| policy.secrets.into_iter().collect())
        .unwrap_or_default();
    let missing: BTreeSet<String> = granted.difference(&about.secrets).cloned().collect();
    if missing.is_empty() {
        return BTreeMap::new();
    }
    let all = blueprint::Context {
        secrets: granted,
        ..about
    };
    match Blueprint::read_from(&from.head, Some(&from.policy), further, &all, capabilities) {
        Ok(whole) => secret::lacking(&whole.stack, &missing),
        Err(_) => BTreeMap::new(),
    }
}
