//! Projects.

use super::{environments::EventQuery, extract::Asked};
use crate::{
    app::App,
    intent,
    problem::{Answer, Problem},
    view,
};
use api::{EventList, ProblemCode, ProjectList, ProjectView};
use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use model::ProjectName;

pub(crate) async fn list(State(app): State<App>) -> Json<ProjectList> {
    let view = |project: &reconciler::Project| ProjectView {
        name: project.name.clone(),
        base: project.base.domain.clone(),
        sources: project.sources.iter().map(|source| source.name.clone()).collect(),
    };
    Json(ProjectList {
        projects: app.reconciler.projects().map(view).collect(),
    })
}

pub(crate) async fn nudge(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    app.reconciler.nudge_project(named(&app, &name)?);
    Ok(StatusCode::ACCEPTED)
}

pub(crate) async fn events(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(query): Asked<EventQuery>,
) -> Answer<Json<EventList>> {
    let events = view::events_of_project(&app, named(&app, &name)?, query.limit()).await?;
    Ok(Json(EventList { events }))
}

/// Whatever is no project's name is no project's.
fn named<'a>(app: &'a App, name: &str) -> Answer<&'a ProjectName> {
    let name: Result<ProjectName, _> = name.parse();
    match &name {
        Ok(name) => Ok(&intent::project(app, Some(name))?.name),
        Err(error) => Err(Problem::new(ProblemCode::NotFound, error.to_string())),
    }
}
