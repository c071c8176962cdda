//! Jobs that people run: which there are, and running one.

use crate::{
    access::Caller,
    app::App,
    intent,
    problem::{Answer, Problem},
    resolve, view,
};
use api::{JobList, JobRunView, ProblemCode};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use model::JobName;

pub(crate) async fn list(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<JobList>> {
    let row = resolve::environment(&app, &name).await?;
    let jobs = view::jobs(&app, &row).await?;
    Ok(Json(JobList { jobs }))
}

pub(crate) async fn run(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((name, job)): Path<(String, String)>,
) -> Answer<(StatusCode, Json<JobRunView>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::must_be_for_people(&row)?;
    let job = job_name(&job)?;
    let run = app.reconciler.run_job(&row.id, &job, &caller.subject()).await?;
    Ok((StatusCode::ACCEPTED, Json(view::job_run(run))))
}

pub(crate) async fn get(
    State(app): State<App>,
    Path((name, job, number)): Path<(String, String, u64)>,
) -> Answer<Json<JobRunView>> {
    let row = resolve::environment(&app, &name).await?;
    let job = job_name(&job)?;
    let runs = app.store.job_run_list(&row.id).await?;
    let found = runs.into_iter().find(|run| run.job == job && run.number == number);
    let none = || {
        Problem::new(
            ProblemCode::NotFound,
            format!("there is no run {number} of the job {job}"),
        )
    };
    Ok(Json(view::job_run(found.ok_or_else(none)?)))
}

fn job_name(text: &str) -> Answer<JobName> {
    text.parse()
        .map_err(|error: model::InvalidName| Problem::new(ProblemCode::Invalid, error.to_string()))
}
