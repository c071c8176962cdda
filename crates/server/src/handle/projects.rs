//! Projects.

use crate::{app::App, intent, problem::Answer};
use api::{ProjectList, ProjectView};
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

/// Whatever is no project's name is no project's.
pub(crate) async fn nudge(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    let name: Result<ProjectName, _> = name.parse();
    let project = match &name {
        Ok(name) => intent::project(&app, Some(name))?,
        Err(error) => {
            return Err(crate::problem::Problem::new(
                api::ProblemCode::NotFound,
                error.to_string(),
            ));
        }
    };
    app.reconciler.nudge_project(&project.name);
    Ok(StatusCode::ACCEPTED)
}
