//! Reads blueprints from commits: the stack from an environment's own commit, the policy from the policy branch.

use crate::{
    context::{Context, Trouble},
    heads::PolicyHead,
    image,
    project::{Project, Source},
    repository::{CommitTree, RepositoryError},
    scope::Scope,
    secret::{self, Versions},
    service_source,
    trust::{self, Trust},
};
use blueprint::{Address, Blueprint, Policy, Problem, Problems, Severity};
use model::{CommitId, Digest, Limits, Origin, ProjectName, ServiceStack, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use store::EnvironmentRow;

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
    /// What people should know of how it was put together.
    pub(crate) notes: Vec<String>,
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
        return Ok(Err("the environment has no commit of the project's first source"
            .to_owned()
            .into()));
    };
    let about = about_environment(context, environment, project, (source, commit), granted).await?;
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
    let mut reading = read(context, head, policy_tree, about.clone(), trust).await;
    troubles.iter().try_for_each(|trouble| trouble.end(&source.name))?;
    if let Ok(blueprint) = &mut reading {
        blueprint.notes.extend(notes);
        if !blueprint.left_out.is_empty() {
            blueprint
                .notes
                .push(format!("Left out: {}.", blueprint.left_out.join(", ")));
        }
    }
    if let Ok(blueprint) = &mut reading
        && let Err(problems) = take_services(context, environment, (project, source), policy, &about, blueprint).await?
    {
        return Ok(Err(problems));
    }
    Ok(reading)
}

/// A digest of all that a stack can see of what an environment is for: title, base branch, address and so on.
pub(crate) async fn visible(
    context: &Context,
    environment: &EnvironmentRow,
    granted: &Versions,
) -> Result<Digest, Trouble> {
    let project = context.project(&environment.project)?;
    let pinned = project
        .primary()
        .and_then(|source| Some((source, environment.head.get(&source.name)?)));
    let Some(pinned) = pinned else {
        return Ok(Digest::of(b""));
    };
    Ok(about_environment(context, environment, project, pinned, granted)
        .await?
        .fingerprint())
}

/// What the stack of an environment may know.
async fn about_environment(
    context: &Context,
    environment: &EnvironmentRow,
    project: &Project,
    (source, commit): (&Source, &CommitId),
    granted: &Versions,
) -> Result<blueprint::Context, Trouble> {
    let mut about = about(project, source, commit, &environment.label);
    let Scope { without, with } = Scope::of(environment);
    (about.without, about.with) = (without, with);
    about.secrets = granted.keys().map(|name| name.0.clone()).collect();
    match &environment.origin {
        Origin::PullRequest { number } => {
            let pull = context
                .store
                .pull_request_get(&project.name, &source.name, *number)
                .await?;
            about.branch = pull.as_ref().and_then(|pull| pull.branch.parse().ok());
            about.base = pull.as_ref().and_then(|pull| pull.base.parse().ok());
            let title = pull.map_or_else(String::new, |pull| pull.title);
            about.pull_request = Some(blueprint::PullRequest { number: *number, title });
        }
        Origin::Branch { branch } | Origin::Baseline { branch } => about.branch = Some(branch.clone()),
        Origin::Clone { .. } | Origin::Golden | Origin::Spare => {}
    }
    Ok(about)
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
        let reading = read(context, tree, policy, about, trust).await;
        troubles.iter().try_for_each(|trouble| trouble.end(&source.name))?;
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
    let (reading, ..) = read_once(context, head, policy, about, Trust::Full).await;
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
        with: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        images: None,
    }
}

/// Reads a tree; where its stack runs images a second time, with what they say.
async fn read(
    context: &Context,
    head: CommitTree,
    policy: CommitTree,
    about: blueprint::Context,
    trust: Trust,
) -> Reading {
    let (first, trees) = read_once(context, head, policy, about.clone(), trust).await;
    let first = first?;
    let wanted: BTreeMap<String, String> = image::names_of(&first.stack)
        .into_iter()
        .map(|(name, (_, who))| (name, who))
        .collect();
    let (false, Some((head, policy))) = (wanted.is_empty(), trees) else {
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
    let (second, _) = read_once(context, head, policy, about, trust).await;
    let mut second = second?;
    second.notes.extend(notes);
    Ok(second)
}

/// Reading a tree blocks, so it happens on a thread that may. Gives the trees back.
async fn read_once(
    context: &Context,
    head: CommitTree,
    policy: CommitTree,
    about: blueprint::Context,
    trust: Trust,
) -> (Reading, Option<(CommitTree, CommitTree)>) {
    let capabilities = context.runtime.capabilities().clone();
    let reading = tokio::task::spawn_blocking(move || {
        let read = Blueprint::read(&head, Some(&policy), &about, &capabilities);
        let told = secret::told(&lacking(&head, &policy, about, &capabilities), trust);
        (read, told, (head, policy))
    });
    let Ok((read, told, trees)) = reading.await else {
        let unusable: Unusable = "the blueprint could not be read to its end".to_owned().into();
        return (Err(unusable), None);
    };
    let reading = match read {
        Ok(blueprint) => Ok(ReadBlueprint {
            limits: blueprint.policy.limits,
            left_out: blueprint.left_out,
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
    (reading, Some(trees))
}

/// What of the stack would be given secrets that the policy grants, and is not given them.
fn lacking(
    head: &CommitTree,
    policy: &CommitTree,
    about: blueprint::Context,
    capabilities: &model::Capabilities,
) -> BTreeMap<String, Vec<String>> {
    let granted: BTreeSet<String> = Policy::read(policy)
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
    match Blueprint::read(head, Some(policy), &all, capabilities) {
        Ok(whole) => secret::lacking(&whole.stack, &missing),
        Err(_) => BTreeMap::new(),
    }
}
