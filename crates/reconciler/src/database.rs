//! Brings one database to its desired content: role and database, migrations, seed. Also builds goldens with the same steps.

use crate::{context::Context, environment::execute::StepError, text::chain};
use data::DataError;
use model::{CommitId, DataFact, DataSet, EnvironmentSpec, Migration, ServiceName, SourceName};
use runtime::{Connection, Target};
use std::time::Duration;

/// The longest that all migrations, or all seed files, of one database may take.
const DATABASE_TIME_MAX: Duration = Duration::from_secs(600);

/// Where the bytes of migrations and seeds come from.
pub(crate) struct Files<'a> {
    pub(crate) source: &'a SourceName,
    pub(crate) commit: &'a CommitId,
}

/// The step of a generation: afterwards the store knows what is in the database, as read back from it.
pub(crate) async fn bring_to(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
) -> Result<(), StepError> {
    let Some((stack, set)) = spec
        .services()
        .and_then(|stack| Some((stack, stack.data.get(service)?)))
    else {
        return Ok(());
    };
    // Files belong to the first source; further sources bring their own services, not the database's history.
    let Some((source, commit)) = context.project(&spec.project).ok().and_then(|project| {
        let source = &project.primary()?.name;
        Some((source, spec.sources.get(source)?))
    }) else {
        return Err(StepError::new(
            "the environment has no source to read migrations from",
            false,
        ));
    };
    let volume = stack.volumes.get(&set.volume);
    let incarnation = volume.map_or(spec.generation, |volume| volume.incarnation);
    let golden = volume.and_then(|volume| match &volume.origin {
        model::VolumeOrigin::Snapshot(id) => Some(id.clone()),
        model::VolumeOrigin::Empty => None,
    });
    let filled = fill(context, spec, service, set, &Files { source, commit }, true).await;
    // Also after a failure: what was applied decides whether the next generation can keep it.
    let read = match admin(context, spec, service).await {
        Ok(connection) => data::contents(connection, set).await.map_err(data_error),
        Err(error) => Err(error),
    };
    let contents = match (read, filled.is_err()) {
        (Ok(contents), _) => contents,
        // What went wrong first says more.
        (Err(_), true) => return filled,
        (Err(error), false) => return Err(error),
    };
    let fact = DataFact {
        incarnation,
        golden,
        prepared: contents.prepared,
        applied: contents.applied,
        seeded: filled.is_ok() && (contents.seeded || set.seeds.is_empty()),
    };
    context.store.data_fact_put(&spec.environment, service, &fact).await?;
    filled
}

/// Notes what is about to be in the database. Should nobody live to read back what was migrated, a generation that does not
/// have these migrations must not take the database for one that it can go on with.
async fn intend(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    set: &DataSet,
) -> Result<(), StepError> {
    let volume = spec.services().and_then(|stack| stack.volumes.get(&set.volume));
    let fact = DataFact {
        incarnation: volume.map_or(spec.generation, |volume| volume.incarnation),
        golden: volume.and_then(|volume| match &volume.origin {
            model::VolumeOrigin::Snapshot(id) => Some(id.clone()),
            model::VolumeOrigin::Empty => None,
        }),
        prepared: true,
        applied: set.migrations.clone(),
        seeded: false,
    };
    Ok(context.store.data_fact_put(&spec.environment, service, &fact).await?)
}

/// Prepares, migrates and, if asked, seeds. Every part may have been done before.
pub(crate) async fn fill(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    set: &DataSet,
    files: &Files<'_>,
    seed: bool,
) -> Result<(), StepError> {
    let password = set.password.plain().unwrap_or_default();
    data::prepare(admin(context, spec, service).await?, set, password)
        .await
        .map_err(data_error)?;
    let applied = data::contents(admin(context, spec, service).await?, set)
        .await
        .map_err(data_error)?
        .applied;
    if !set.migrations.starts_with(&applied) {
        let message = format!("{service} holds migrations that this commit does not have");
        return Err(StepError::new(message, false));
    }
    let mut pending: Vec<(Migration, Vec<u8>)> = Vec::new();
    for migration in &set.migrations[applied.len()..] {
        let bytes = read(context, spec, files, &migration.path).await?;
        pending.push((migration.clone(), bytes));
    }
    if !pending.is_empty() {
        intend(context, spec, service, set).await?;
        data::migrate(admin(context, spec, service).await?, set, &pending, DATABASE_TIME_MAX)
            .await
            .map_err(data_error)?;
    }
    if seed && !set.seeds.is_empty() {
        let mut seeds = Vec::new();
        for file in &set.seeds {
            seeds.push((file.clone(), read(context, spec, files, &file.path).await?));
        }
        data::seed(admin(context, spec, service).await?, set, &seeds, DATABASE_TIME_MAX)
            .await
            .map_err(data_error)?;
    }
    Ok(())
}

async fn read(context: &Context, spec: &EnvironmentSpec, files: &Files<'_>, path: &str) -> Result<Vec<u8>, StepError> {
    context
        .repositories
        .file(&spec.project, files.source, files.commit, path)
        .await
        .map_err(|error| StepError::new(chain(&error), true))
}

async fn admin(context: &Context, spec: &EnvironmentSpec, service: &ServiceName) -> Result<Connection, StepError> {
    Ok(context
        .runtime
        .dial(&spec.environment, service, Target::Administration)
        .await?)
}

fn data_error(error: DataError) -> StepError {
    let transient = !error.is_users();
    StepError::new(chain(&error), transient)
}
