//! Secrets of a project. Values come in and never go out.

use super::extract::{Asked, body_problem};
use crate::{
    access::Caller,
    app::{App, now},
    intent,
    problem::{Answer, Problem},
};
use api::{ProblemCode, SecretList, SecretQuery, SecretUserView, SecretView};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
};
use model::ProjectName;
use secrets::{Entry, Error, SecretName, SecretValue, suspicion};
use std::sync::Arc;

/// The largest body: one byte more than a value may have, so that the value's own bound is what is told.
pub(crate) const BODY_MAX: usize = SecretValue::MAX + 1;

pub(crate) async fn list(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<SecretList>> {
    let project = project_of(&app, &project)?;
    let mut secrets = Vec::new();
    for entry in app.reconciler.vault().list(&project) {
        secrets.push(view(&app, &project, entry).await?);
    }
    Ok(Json(SecretList { secrets }))
}

pub(crate) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((project, name)): Path<(String, String)>,
    Asked(query): Asked<SecretQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<SecretView>> {
    let project = project_of(&app, &project)?;
    let name = name_of(&name)?;
    let value = value_of(body)?;
    let vault = Arc::clone(app.reconciler.vault());
    let before = vault.entry(&project, &name);
    if query.existing && before.is_none() {
        return Err(unknown(&project, &name));
    }
    let suspicion = suspicion(name.as_str(), &value).map(|suspicion| suspicion.reason);
    if let Some(reason) = suspicion.as_ref().filter(|_| !query.insist) {
        return Err(Problem::new(
            ProblemCode::Conflict,
            format!("{name} looks like a secret of production or staging: {reason}"),
        )
        .hint("give previews an account of their own; if it is one, say --insist (`insist=true`), which is kept and shown"));
    }
    let set = {
        let (project, name) = (project.clone(), name.clone());
        tokio::task::spawn_blocking(move || vault.set(&project, &name, &value, now(), suspicion))
    };
    let entry = set
        .await
        .map_err(|error| Problem::internal("a secret could not be set", &error))??;
    let verb = if before.is_some() { "gave a new value to" } else { "set" };
    let despite = entry
        .despite
        .as_ref()
        .map_or_else(String::new, |reason| format!(", although {reason}"));
    note(
        &app,
        &project,
        &format!("{} {verb} the secret {name}{despite}", caller.subject()),
    )
    .await?;
    Ok(Json(view(&app, &project, entry).await?))
}

pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((project, name)): Path<(String, String)>,
) -> Answer<Json<SecretView>> {
    let project = project_of(&app, &project)?;
    let name = name_of(&name)?;
    let vault = Arc::clone(app.reconciler.vault());
    let entry = vault.entry(&project, &name).ok_or_else(|| unknown(&project, &name))?;
    // Who is given it is known for a moment only.
    let view = view(&app, &project, entry).await?;
    let remove = {
        let (project, name) = (project.clone(), name.clone());
        tokio::task::spawn_blocking(move || vault.remove(&project, &name))
    };
    remove
        .await
        .map_err(|error| Problem::internal("a secret could not be removed", &error))??;
    note(
        &app,
        &project,
        &format!("{} removed the secret {name}", caller.subject()),
    )
    .await?;
    Ok(Json(view))
}

/// Writes down who did it, and has everything looked at that may be given it.
async fn note(app: &App, project: &ProjectName, text: &str) -> Answer<()> {
    tracing::info!(%project, "{text}");
    let noted = app.store.event_add(None, project, now(), "secret", text).await;
    app.reconciler.secrets_changed(project).await?;
    Ok(noted?)
}

async fn view(app: &App, project: &ProjectName, entry: Entry) -> Answer<SecretView> {
    let users = app.reconciler.secret_users(project, &entry.name).await?;
    let user = |user: reconciler::SecretUser| SecretUserView {
        environment: user.environment,
        label: user.label,
        services: user.services,
    };
    Ok(SecretView {
        granted: app.reconciler.secret_granted(project, &entry.name),
        used_by: users.into_iter().map(user).collect(),
        name: entry.name.to_string(),
        version: entry.version.as_str().to_owned(),
        set: entry.set,
        despite: entry.despite,
    })
}

fn project_of(app: &App, name: &str) -> Answer<ProjectName> {
    let name: ProjectName = name
        .parse()
        .map_err(|error: model::InvalidName| Problem::new(ProblemCode::NotFound, error.to_string()))?;
    Ok(intent::project(app, Some(&name))?.name.clone())
}

fn name_of(name: &str) -> Answer<SecretName> {
    name.parse()
        .map_err(|error: model::InvalidName| Problem::new(ProblemCode::Invalid, error.to_string()))
}

fn value_of(body: Result<Bytes, BytesRejection>) -> Answer<SecretValue> {
    let too_large = |text: String| {
        Problem::new(ProblemCode::TooLarge, text)
            .hint("what is larger is data: put it where the application reads data")
    };
    let bytes = body.map_err(|error| match body_problem(&error) {
        problem if problem.0.code == ProblemCode::TooLarge => too_large(format!(
            "a secret holds at most {} bytes, and this one has more",
            SecretValue::MAX
        )),
        problem => problem,
    })?;
    if bytes.is_empty() {
        return Err(
            Problem::new(ProblemCode::Invalid, "the value is empty").hint("the body of the request is the value")
        );
    }
    SecretValue::new(bytes.into()).map_err(|error| too_large(error.to_string()))
}

fn unknown(project: &ProjectName, name: &SecretName) -> Problem {
    Problem::new(ProblemCode::NotFound, format!("{project} has no secret {name}"))
        .hint("`maquette secret list` shows those that there are")
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let full = |error: &Error| match error {
            Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        };
        match &error {
            Error::TooMany { .. } => Self::new(ProblemCode::Conflict, error.to_string()),
            Error::Unknown { .. } => Self::new(ProblemCode::NotFound, error.to_string()),
            error if full(error) => Self::disk_full(),
            _ => Self::internal("the secrets can not be read or written", &error),
        }
    }
}
