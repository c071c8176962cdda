//! Brings one database to its desired content: role and database, migrations, seed. Goldens are filled by the same step.

use crate::{context::Context, environment::execute::StepError, secret, text::chain};
use data::{Contents, DataError, Database};
use model::{CommitId, DataFact, DataSet, EnvironmentSpec, Migration, ServiceName, SourceName};
use runtime::{Connection, Target};
use std::time::Duration;

/// The longest that all migrations, or all seed files, of one database may take.
const DATABASE_TIME_MAX: Duration = Duration::from_secs(600);

/// The port of PostgreSQL in an environment.
const POSTGRES: u16 = 5432;

/// Where the bytes of migrations and seeds come from.
struct Files<'a> {
    source: &'a SourceName,
    commit: &'a CommitId,
}

/// What a database should be, and the password of its role.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    set: &'a DataSet,
    password: &'a str,
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
    let files = Files { source, commit };
    let secrets = secret::values(context, spec).await?;
    let password = runtime::reveal::variable("POSTGRES_PASSWORD", &set.password, &secrets);
    let password = password.map_err(|reason| StepError::new(format!("{service}: {reason}"), false))?;
    let set = Wanted {
        set,
        password: &password,
    };
    let filled = fill(context, spec, service, set, &files).await;
    // Also after a failure: what was applied decides whether the next generation can keep it.
    let (contents, outcome) = match filled {
        Ok(contents) => (contents, Ok(())),
        Err(error) => match look(context, spec, service, set).await {
            Ok(contents) => (contents, Err(error)),
            // What went wrong first says more.
            Err(_) => return Err(error),
        },
    };
    let fact = DataFact {
        incarnation,
        golden,
        prepared: contents.prepared,
        applied: contents.applied,
        password: outcome.is_ok().then(|| spec.password_digest(set.set)),
        seeded: outcome.is_ok() && (contents.seeded || set.set.seeds.is_empty()),
    };
    context.store.data_fact_put(&spec.environment, service, &fact).await?;
    outcome
}

/// Before volumes are made: what is known of a database goes with its volume. An envelope that is gone is a sign that the machine was
/// restarted: what was written last may be gone from the volume, too, and is looked for in the database once it runs.
pub(crate) async fn distrust(context: &Context, spec: &EnvironmentSpec) -> Result<(), StepError> {
    let Some(stack) = spec.services() else { return Ok(()) };
    let facts = context.store.data_fact_list(&spec.environment).await?;
    if facts.is_empty() {
        return Ok(());
    }
    let observed = context.runtime.observe(&spec.environment).await?;
    let (volumes, restarted) = match &observed {
        Some(observed) => (observed.volumes.clone(), observed.envelope.is_none()),
        None => (std::collections::BTreeMap::default(), true),
    };
    for (service, set) in &stack.data {
        let Some(fact) = facts.get(service) else { continue };
        let found = volumes.get(&set.volume).map(|volume| volume.incarnation);
        if found != Some(fact.incarnation) {
            context.store.data_fact_remove(&spec.environment, service).await?;
        } else if restarted && fact.password.is_some() {
            let fact = DataFact {
                password: None,
                ..fact.clone()
            };
            context.store.data_fact_put(&spec.environment, service, &fact).await?;
        }
    }
    Ok(())
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
        password: None,
        applied: set.migrations.clone(),
        seeded: false,
    };
    Ok(context.store.data_fact_put(&spec.environment, service, &fact).await?)
}

/// Prepares, migrates and seeds, and reads back what is there. Every part may have been done before: in a clone of a golden that
/// has all of it this is one connection over which a password is set.
async fn fill(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    wanted: Wanted<'_>,
    files: &Files<'_>,
) -> Result<Contents, StepError> {
    let set = wanted.set;
    let database = open(context, spec, service, wanted).await?;
    database.prepare(DATABASE_TIME_MAX).await.map_err(data_error)?;
    let before = database.contents().await.map_err(data_error)?;
    if !set.migrations.starts_with(&before.applied) {
        let message = format!("{service} holds migrations that this commit does not have");
        return Err(StepError::new(message, false));
    }
    let mut pending: Vec<(Migration, Vec<u8>)> = Vec::new();
    for migration in &set.migrations[before.applied.len()..] {
        let bytes = read(context, spec, files, &migration.path).await?;
        pending.push((migration.clone(), bytes));
    }
    if !pending.is_empty() {
        intend(context, spec, service, set).await?;
        let stream = application(context, spec, service).await?;
        database
            .migrate(stream, &pending, DATABASE_TIME_MAX)
            .await
            .map_err(data_error)?;
    }
    let seeds = !set.seeds.is_empty() && !before.seeded;
    if seeds {
        let mut files_read = Vec::new();
        for file in &set.seeds {
            files_read.push((file.clone(), read(context, spec, files, &file.path).await?));
        }
        let stream = application(context, spec, service).await?;
        database
            .seed(stream, &files_read, DATABASE_TIME_MAX)
            .await
            .map_err(data_error)?;
    }
    if pending.is_empty() && !seeds {
        return Ok(before);
    }
    database.contents().await.map_err(data_error)
}

/// The database of the data set, made if it is not there.
async fn open<'a>(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    Wanted { set, password }: Wanted<'a>,
) -> Result<Database<'a>, StepError> {
    let found = Database::open(administrator(context, spec, service).await?, set, password).await;
    if let Some(database) = found.map_err(data_error)? {
        return Ok(database);
    }
    Database::create(administrator(context, spec, service).await?, set, password)
        .await
        .map_err(data_error)?;
    let made = Database::open(administrator(context, spec, service).await?, set, password).await;
    made.map_err(data_error)?
        .ok_or_else(|| StepError::new(format!("the database of {service} is gone again"), true))
}

/// What is in the database, without changing anything.
async fn look(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    Wanted { set, password }: Wanted<'_>,
) -> Result<Contents, StepError> {
    let found = Database::open(administrator(context, spec, service).await?, set, password).await;
    match found.map_err(data_error)? {
        Some(database) => database.contents().await.map_err(data_error),
        None => Ok(Contents::default()),
    }
}

async fn read(context: &Context, spec: &EnvironmentSpec, files: &Files<'_>, path: &str) -> Result<Vec<u8>, StepError> {
    context
        .repositories
        .file(&spec.project, files.source, files.commit, path)
        .await
        .map_err(|error| StepError::new(chain(&error), true))
}

async fn administrator(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
) -> Result<Connection, StepError> {
    let target = Target::Administration;
    Ok(context.runtime.dial(&spec.environment, service, target).await?)
}

/// The way that the application itself takes: files run with its rights and no others.
async fn application(
    context: &Context,
    spec: &EnvironmentSpec,
    service: &ServiceName,
) -> Result<Connection, StepError> {
    let target = Target::Port(POSTGRES);
    Ok(context.runtime.dial(&spec.environment, service, target).await?)
}

fn data_error(error: DataError) -> StepError {
    let transient = !error.is_users();
    StepError::new(chain(&error), transient)
}
