//! The end: nothing is left, however often and of whatever it is asked for.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, ensure, mounting, name, ok},
};
use crate::NoSecrets;
use model::{EnvironmentId, Generation, Power, Stage, VolumeOrigin};
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "removal leaves nothing, and may be repeated",
        run: |bench| Box::pin(everything(bench)),
    },
    Case {
        name: "an environment that was only begun can be removed",
        run: |bench| Box::pin(begun(bench)),
    },
    Case {
        name: "removing what never existed is no error",
        run: |bench| Box::pin(never(bench)),
    },
    Case {
        name: "a frozen environment can be removed",
        run: |bench| Box::pin(frozen(bench)),
    },
];

async fn gone(bench: &Bench<'_>, environment: &EnvironmentId) -> Outcome {
    let seen = ok("observing", bench.runtime().observe(environment).await)?;
    ensure!(
        seen.is_none(),
        "expected nothing to be observed after removal, saw {seen:?}"
    );
    let left = ok("listing", bench.runtime().inventory(Some(environment)).await)?;
    ensure!(
        left.is_empty(),
        "expected an empty inventory after removal, saw {left:?}"
    );
    let all = ok("listing everything", bench.runtime().inventory(None).await)?;
    let left = all.iter().find(|resource| resource.environment == *environment);
    ensure!(
        left.is_none(),
        "expected nothing in the inventory of everything after removal, saw {left:?}"
    );
    Ok(())
}

async fn everything(bench: &Bench<'_>) -> Outcome {
    let job = bench.job(
        "job",
        &Program::Exit {
            text: "ran".to_owned(),
            code: 0,
        },
        Duration::from_secs(60),
    )?;
    let spec = bench
        .spec()?
        .with("web", mounting(bench.server("web"), "disk", "/data")?)?
        .with("idle", bench.service(&Program::Idle))?
        .with(
            "ended",
            bench.service(&Program::Exit {
                text: "ended".to_owned(),
                code: 1,
            }),
        )?
        .with_volume("disk", VolumeOrigin::Empty, Generation(1))?
        .with_job(job);
    bench.apply_all(&spec).await?;
    bench.ready(&spec.environment, "web").await?;
    ok(
        "running the job",
        bench.runtime().job_run(&spec, &name("job")?, &NoSecrets).await,
    )?;
    bench.write(&spec.environment, "web", "/data/note", "something").await?;
    for _ in 0..2 {
        ok(
            "removing",
            bench.runtime().remove(&spec.environment, spec.generation).await,
        )?;
        gone(bench, &spec.environment).await?;
    }
    Ok(())
}

async fn begun(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with_volume("disk", VolumeOrigin::Empty, Generation(1))?;
    bench.apply(&spec, &Stage::Envelope).await?;
    ok(
        "removing",
        bench.runtime().remove(&spec.environment, spec.generation.next()).await,
    )?;
    gone(bench, &spec.environment).await
}

async fn never(bench: &Bench<'_>) -> Outcome {
    let environment = bench.fixture.environment();
    ok("removing", bench.runtime().remove(&environment, Generation(1)).await)?;
    gone(bench, &environment).await
}

async fn frozen(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().freeze {
        return Ok(());
    }
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    bench.bring_up(&spec).await?;
    ok(
        "freezing",
        bench
            .runtime()
            .power(&spec.environment, spec.generation, Power::Frozen)
            .await,
    )?;
    ok(
        "removing",
        bench.runtime().remove(&spec.environment, spec.generation).await,
    )?;
    gone(bench, &spec.environment).await
}
