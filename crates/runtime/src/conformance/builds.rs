//! Builds in a checkout: what they see, what is kept of them, and who shares it.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, ensure, name, ok},
    sources::{Files, key, nobody},
};
use crate::{JobOutcome, NoSecrets, RuntimeError};
use model::{
    EnvironmentSpec, Feature, Job, JobEvent, JobName, Mount, MountKind, Product, Service, SnapshotId, SourceName, Stage,
};
use std::{collections::BTreeMap, sync::atomic::AtomicUsize, time::Duration};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a build sees its inputs, and what it makes is mounted by every environment that wants the same",
        run: |bench| Box::pin(shared(bench)),
    },
    Case {
        name: "a build without inputs keeps the whole checkout",
        run: |bench| Box::pin(whole(bench)),
    },
    Case {
        name: "nothing is kept of a build that failed",
        run: |bench| Box::pin(failing(bench)),
    },
];

const LONG: Duration = Duration::from_secs(60);

/// What a case builds with.
struct Scene {
    source: SourceName,
    spec: EnvironmentSpec,
    job: JobName,
    product: SnapshotId,
}

fn mount(target: &str, kind: MountKind) -> Mount {
    Mount {
        target: target.to_owned(),
        kind,
        read_only: false,
    }
}

fn checkout(source: &SourceName) -> Mount {
    let kind = MountKind::Source {
        source: source.clone(),
        subpath: String::new(),
    };
    mount("/app", kind)
}

fn build(bench: &Bench<'_>, program: &Program, source: &SourceName, inputs: Option<&[&str]>) -> Outcome<Job> {
    let mut job = bench.job("build", program, LONG)?;
    job.on = JobEvent::Build;
    job.workload.mounts.push(checkout(source));
    let id = |path: &&str| ((*path).to_owned(), "1".to_owned());
    job.product = Some(Product {
        source: source.clone(),
        inputs: inputs.map(|paths| paths.iter().map(id).collect::<BTreeMap<_, _>>()),
        private_to: None,
    });
    Ok(job)
}

/// A service that mounts the checkout, and what the job has made in it.
fn user(bench: &Bench<'_>, source: &SourceName, subpath: &str) -> Outcome<Service> {
    let mut service = bench.server("web");
    let built = MountKind::Built {
        job: name("build")?,
        subpath: subpath.to_owned(),
    };
    if subpath.is_empty() {
        service.workload.mounts.push(mount("/app", built));
    } else {
        service.workload.mounts.push(checkout(source));
        service.workload.mounts.push(mount(&format!("/app/{subpath}"), built));
    }
    Ok(service)
}

/// An environment with its envelope and the source; `None` where the runtime does not build.
async fn scene(bench: &Bench<'_>, program: &Program, inputs: Option<&[&str]>, subpath: &str) -> Outcome<Option<Scene>> {
    let runtime = bench.runtime();
    if !runtime.capabilities().features.contains(&Feature::NativeBuilds) {
        return Ok(None);
    }
    let key = key(bench)?;
    let put = runtime
        .source_put(&nobody(bench), &key, &Files(AtomicUsize::new(0)))
        .await;
    ok("putting a source", put)?;
    let job = build(bench, program, &key.source, inputs)?;
    let mut spec = bench
        .spec()?
        .with_job(job)
        .with("web", user(bench, &key.source, subpath)?)?;
    spec.project = key.project.clone();
    spec.sources.insert(key.source.clone(), key.commit.clone());
    bench.apply(&spec, &Stage::Envelope).await?;
    let job: JobName = name("build")?;
    let product = spec.product(&job).ok_or("the job makes nothing")?;
    Ok(Some(Scene {
        source: key.source,
        spec,
        job,
        product,
    }))
}

async fn run(bench: &Bench<'_>, spec: &EnvironmentSpec, job: &JobName) -> Outcome<JobOutcome> {
    ok("building", bench.runtime().job_run(spec, job, &NoSecrets).await)
}

fn ended(outcome: &JobOutcome, code: i32) -> Outcome {
    ensure!(
        outcome.exit == code && !outcome.timed_out,
        "expected the build to end with {code}, got {outcome:?}"
    );
    Ok(())
}

async fn is_kept(bench: &Bench<'_>, product: &SnapshotId) -> Outcome<bool> {
    let snapshots = ok("listing snapshots", bench.runtime().snapshot_list().await)?;
    Ok(snapshots.contains(product))
}

fn list() -> Program {
    Program::List {
        directory: "/app".to_owned(),
        into: "/app/made/names".to_owned(),
    }
}

/// Whoever mounts what was never built is told so. What was begun of it is removed with the environment.
async fn not_there(bench: &Bench<'_>, scene: &Scene) -> Outcome {
    let stage = Stage::Services([name("web")?].into());
    match bench.runtime().apply(&scene.spec, &stage, &NoSecrets).await {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => Err(format!(
            "expected a service not to start without what it mounts, got {other:?}"
        )),
    }
}

async fn shared(bench: &Bench<'_>) -> Outcome {
    let Some(first) = scene(bench, &list(), Some(&["top"]), "made").await? else {
        return Ok(());
    };
    not_there(bench, &first).await?;
    ended(&run(bench, &first.spec, &first.job).await?, 0)?;
    ensure!(
        is_kept(bench, &first.product).await?,
        "expected {} to be kept",
        first.product
    );
    bench.apply_all(&first.spec).await?;
    bench.ready(&first.spec.environment, "web").await?;
    let id = &first.spec.environment;
    let names = bench.read(id, "web", "/app/made/names").await?;
    ensure!(
        names.as_deref() == Some("top\n"),
        "expected the build to see its input alone, it saw {names:?}"
    );
    let rest = bench.read(id, "web", "/app/folder/note").await?;
    ensure!(
        rest.as_deref() == Some("from the commit"),
        "expected the rest of the checkout beside it, found {rest:?}"
    );
    bench.write(id, "web", "/app/made/own", "mine").await?;

    // Another commit with the same inputs, in another environment.
    let mut second = bench
        .spec()?
        .with_job(build(bench, &list(), &first.source, Some(&["top"]))?)
        .with("web", user(bench, &first.source, "made")?)?;
    second.project = first.spec.project.clone();
    let other = key(bench)?;
    let put = bench
        .runtime()
        .source_put(&nobody(bench), &other, &Files(AtomicUsize::new(0)))
        .await;
    ok("putting a source", put)?;
    second.sources.insert(other.source.clone(), other.commit.clone());
    ensure!(
        second.product(&first.job).as_ref() == Some(&first.product),
        "expected the same inputs to make the same"
    );
    bench.apply(&second, &Stage::Envelope).await?;
    ended(&run(bench, &second, &first.job).await?, 0)?;
    let ran = bench.observe(&second.environment).await?.jobs.contains_key(&first.job);
    ensure!(!ran, "expected what is there not to be built again");
    bench.apply_all(&second).await?;
    bench.ready(&second.environment, "web").await?;
    let names = bench.read(&second.environment, "web", "/app/made/names").await?;
    ensure!(
        names.as_deref() == Some("top\n"),
        "expected what the first one has made, found {names:?}"
    );
    let own = bench.read(&second.environment, "web", "/app/made/own").await?;
    ensure!(own.is_none(), "expected what the first one has written to stay its own");
    forget(bench, &first).await
}

async fn whole(bench: &Bench<'_>) -> Outcome {
    let Some(scene) = scene(bench, &list(), None, "").await? else {
        return Ok(());
    };
    ended(&run(bench, &scene.spec, &scene.job).await?, 0)?;
    bench.apply_all(&scene.spec).await?;
    bench.ready(&scene.spec.environment, "web").await?;
    let id = &scene.spec.environment;
    let names = bench.read(id, "web", "/app/made/names").await?;
    ensure!(
        names.as_deref() == Some("folder\ntop\n"),
        "expected the build to see the whole checkout, it saw {names:?}"
    );
    let rest = bench.read(id, "web", "/app/folder/note").await?;
    ensure!(
        rest.as_deref() == Some("from the commit"),
        "expected the checkout to be kept with it, found {rest:?}"
    );
    forget(bench, &scene).await
}

async fn failing(bench: &Bench<'_>) -> Outcome {
    let fails = Program::Exit {
        text: "no such package".to_owned(),
        code: 3,
    };
    let Some(scene) = scene(bench, &fails, Some(&["top"]), "made").await? else {
        return Ok(());
    };
    for _ in 0..2 {
        ended(&run(bench, &scene.spec, &scene.job).await?, 3)?;
        ensure!(
            !is_kept(bench, &scene.product).await?,
            "expected nothing to be kept of a build that failed"
        );
    }
    bench
        .printed(&scene.spec.environment, "build", "no such package")
        .await?;
    Ok(())
}

async fn forget(bench: &Bench<'_>, scene: &Scene) -> Outcome {
    let removed = bench.runtime().snapshot_remove(None, &scene.product).await;
    ok("removing what was built", removed)
}
