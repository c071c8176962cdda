//! What callers want to be so. The reconciler notes it in the store and makes it true.

use crate::{
    access::Caller,
    app::{App, now},
    problem::{Answer, Problem},
};
use api::{ApproveRequest, CreateRequest, DeployRequest, ProblemCode, UpdateRequest};
use model::{Endpoint, ProjectName, ServiceName, SourceName};
use reconciler::{Intent, Project, Scope, Source};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{EnvironmentPatch, EnvironmentRow};

impl From<Intent> for Problem {
    fn from(intent: Intent) -> Self {
        let text = intent.to_string();
        match intent {
            Intent::NoProject(_) => Self::new(ProblemCode::NotFound, text),
            Intent::NoBranch(_) => Self::new(ProblemCode::NotFound, text).hint("push the branch first"),
            Intent::Moved { .. } => Self::new(ProblemCode::Conflict, text)
                .hint("there was another push; read that change before you approve its commit"),
            Intent::NoPullRequest(_) => Self::new(ProblemCode::Conflict, text).hint(
                "only heads of pull requests need an approval; `maquette why` says what an environment waits for",
            ),
            Intent::NoService(_) => {
                Self::new(ProblemCode::NotFound, text).hint("`maquette show` lists the services of the environment")
            }
            Intent::NoJob(_) => {
                Self::new(ProblemCode::NotFound, text).hint("`maquette jobs` lists those that there are")
            }
            Intent::NotNow(_) => Self::new(ProblemCode::Conflict, text).hint("`maquette why` says how it stands"),
            Intent::NotAllowed { hint, .. } => Self::new(ProblemCode::Conflict, text).hint(hint),
            Intent::Unusable(_) => {
                Self::new(ProblemCode::Conflict, text).hint("`maquette plan` shows on your machine what would run")
            }
            Intent::NoEnvironment(_) => {
                Self::new(ProblemCode::Conflict, text).hint("it has ended; `maquette list` shows those that there are")
            }
            Intent::Exists => Self::new(ProblemCode::Conflict, text).hint("`maquette list` shows it"),
            Intent::DiskFull => Self::disk_full(),
            Intent::Failed(_) => Self::new(ProblemCode::Unavailable, text),
        }
    }
}

/// The project that was named, or the only one.
pub(crate) fn project<'a>(app: &'a App, name: Option<&ProjectName>) -> Answer<&'a Project> {
    let known = || {
        app.reconciler
            .projects()
            .map(|project| project.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(name) = name {
        let none = || Problem::new(ProblemCode::NotFound, format!("there is no project {name}"));
        return app
            .project(name)
            .ok_or_else(|| none().hint(format!("there are: {}", known())));
    }
    let mut projects = app.reconciler.projects();
    match (projects.next(), projects.next()) {
        (Some(only), None) => Ok(only),
        _ => {
            let problem = Problem::new(ProblemCode::Invalid, "there is not exactly one project");
            Err(problem.hint(format!("say which: {}", known())))
        }
    }
}

/// An environment of a branch, or a copy of an environment.
pub(crate) async fn create(app: &App, caller: &Caller, request: CreateRequest) -> Answer<EnvironmentRow> {
    let reason = format!("asked for by {}", caller.subject());
    match (&request.branch, &request.clone_of) {
        (Some(branch), None) => {
            let project = project(app, request.project.as_ref())?;
            Ok(app.reconciler.create_branch(&project.name, branch, &reason).await?)
        }
        (None, Some(of)) => {
            let of = crate::resolve::environment(app, of).await?;
            must_be_for_people(&of)?;
            Ok(app.reconciler.create_clone(&of.id, &reason).await?)
        }
        _ => Err(Problem::new(
            ProblemCode::Invalid,
            "exactly one of `branch` and `clone_of` is needed",
        )),
    }
}

/// The end of an environment. One of a pull request stays away until the next push.
pub(crate) async fn delete(app: &App, caller: &Caller, row: &EnvironmentRow) -> Answer<()> {
    if row.ended.is_some() {
        return Ok(());
    }
    let reason = format!("deleted by {}", caller.subject());
    app.reconciler.delete(&row.id, &reason, false).await?;
    note(app, row, "deleted", &reason).await
}

/// A commit of one source, until its branch moves on.
pub(crate) async fn deploy(app: &App, caller: &Caller, row: &EnvironmentRow, request: &DeployRequest) -> Answer<()> {
    must_be_wanted(row)?;
    let project = project(app, Some(&row.project))?;
    let source = match &request.source {
        None => leading(project, row)?,
        Some(name) => source(project, name)?,
    };
    app.reconciler
        .deploy_of(&row.id, Some(&source.name), &request.commit)
        .await?;
    let text = format!(
        "{} asked for commit {} of {}",
        caller.subject(),
        request.commit.short(),
        source.name
    );
    note(app, row, "deploy", &text).await
}

/// The newest commit of a pull request may run.
pub(crate) async fn approve(app: &App, caller: &Caller, row: &EnvironmentRow, request: &ApproveRequest) -> Answer<()> {
    must_be_wanted(row)?;
    let who = caller.subject();
    Ok(app.reconciler.approve(&row.id, &request.commit, &who).await?)
}

/// One service from another branch, which it follows from then on; services left out and taken in.
pub(crate) async fn update(app: &App, caller: &Caller, row: &EnvironmentRow, request: &UpdateRequest) -> Answer<()> {
    must_be_wanted(row)?;
    let UpdateRequest {
        service,
        branch,
        without,
        with,
        endpoints,
    } = request;
    let wish = Scope {
        without: without.clone(),
        with: with.clone(),
        endpoints: read_endpoints(endpoints)?,
    };
    let scoped = wish != Scope::default();
    let taken = match (service, branch) {
        (Some(service), Some(branch)) => Some((service, branch)),
        (None, None) if !scoped => {
            let problem = Problem::new(ProblemCode::Invalid, "nothing is asked for");
            return Err(problem.hint("give `service` and `branch`, `without`, `endpoints` or `with`"));
        }
        (None, None) => None,
        _ => return Err(Problem::new(ProblemCode::Invalid, "`service` and `branch` go together")),
    };
    if let Some(both) = with
        .iter()
        .find(|name| without.contains(name) || endpoints.contains_key(name))
    {
        let text = format!("{both} can not be both left out and taken in");
        return Err(Problem::new(ProblemCode::Invalid, text));
    }
    let mut asked = Vec::new();
    if scoped {
        app.reconciler.update_scope(&row.id, &wish).await?;
        let alone = without.iter().filter(|name| !endpoints.contains_key(name));
        asked.extend(alone.map(|name| format!("no {name}")));
        asked.extend(
            wish.endpoints
                .iter()
                .map(|(name, endpoint)| format!("{name} at {endpoint}")),
        );
        asked.extend(with.iter().map(ToString::to_string));
    }
    if let Some((service, branch)) = taken {
        app.reconciler.update_service(&row.id, service, branch).await?;
        asked.push(format!("{service} from branch {branch}"));
    }
    let text = format!("{} asked for {}", caller.subject(), asked.join(", "));
    note(app, row, "update", &text).await
}

fn read_endpoints(given: &BTreeMap<ServiceName, String>) -> Answer<BTreeMap<ServiceName, Endpoint>> {
    let read = |(name, text): (&ServiceName, &String)| match text.parse() {
        Ok(endpoint) => Ok((name.clone(), endpoint)),
        Err(error) => {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            let problem = Problem::new(
                ProblemCode::Invalid,
                format!("the endpoint `{shown}` of {name}: {error}"),
            );
            Err(problem.hint("such as `search.example.com:9200`"))
        }
    };
    given.iter().map(read).collect()
}

/// Everything anew. A pull request gets a new environment when the old one has its receipt; any other is made anew in place:
/// what is known about its data is forgotten, so that it is cloned again.
pub(crate) async fn recreate(app: &App, caller: &Caller, row: &EnvironmentRow) -> Answer<()> {
    must_be_wanted(row)?;
    let text = format!("{} asked for everything anew", caller.subject());
    if row.origin.is_of_pull_requests() {
        app.reconciler.delete(&row.id, &text, true).await?;
        look_again_when_ended(app, row);
    } else {
        let mut overrides = row.overrides.as_object().cloned().unwrap_or_default();
        let count = overrides.get("recreated").and_then(Value::as_u64).unwrap_or(0);
        overrides.insert("recreated".to_owned(), json!(count + 1));
        for service in app.store.data_fact_list(&row.id).await?.keys() {
            app.store.data_fact_remove(&row.id, service).await?;
        }
        let patch = EnvironmentPatch {
            overrides: Some(Value::Object(overrides)),
            ..EnvironmentPatch::default()
        };
        app.store.environment_update(&row.id, &patch).await?;
        app.reconciler.nudge_environment(&row.id);
    }
    note(app, row, "recreate", &text).await
}

/// The forge is read anyway from time to time; this only makes it sooner.
fn look_again_when_ended(app: &App, row: &EnvironmentRow) {
    let (app, id, project) = (app.clone(), row.id.clone(), row.project.clone());
    let mut changes = app.store.subject_changes();
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            match app.store.environment_get(&id).await {
                Ok(Some(row)) if row.ended.is_none() => {}
                _ => break,
            }
        }
        app.reconciler.nudge_project(&project);
    });
}

fn leading<'a>(project: &'a Project, row: &EnvironmentRow) -> Answer<&'a Source> {
    let none = || {
        Problem::new(
            ProblemCode::Conflict,
            format!("project {} has no source for it", project.name),
        )
    };
    project.leading(&row.origin).ok_or_else(none)
}

fn source<'a>(project: &'a Project, name: &SourceName) -> Answer<&'a Source> {
    let none = || {
        Problem::new(
            ProblemCode::NotFound,
            format!("project {} has no source {name}", project.name),
        )
    };
    project.source(name).ok_or_else(none)
}

/// Nobody has anything to change about what is Maquette's own, but its end, or to visit there.
pub(crate) fn must_be_for_people(row: &EnvironmentRow) -> Answer<()> {
    if row.origin.is_for_people() {
        return Ok(());
    }
    let text = format!("{} is no environment for people: {}", row.label, row.reason);
    Err(Problem::new(ProblemCode::Conflict, text).hint("`maquette delete` removes it"))
}

fn must_be_wanted(row: &EnvironmentRow) -> Answer<()> {
    must_be_for_people(row)?;
    if row.wanted {
        return Ok(());
    }
    let what = if row.ended.is_some() {
        "has ended"
    } else {
        "is being removed"
    };
    Err(Problem::new(ProblemCode::Conflict, format!("{} {what}", row.label)))
}

async fn note(app: &App, row: &EnvironmentRow, kind: &str, text: &str) -> Answer<()> {
    tracing::info!(environment = %row.id, label = %row.label, "{text}");
    Ok(app
        .store
        .event_add(Some(&row.id), &row.project, now(), kind, text)
        .await?)
}
