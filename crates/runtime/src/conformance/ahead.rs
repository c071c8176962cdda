//! What is told to a runtime ahead. It may make something of it or nothing: nobody may notice but by the time that it takes.

use super::{
    Case,
    bench::{Bench, Draft, Outcome, all_services, ensure, mounting, name, ok},
};
use crate::{NoSecrets, RuntimeError};
use model::{EnvironmentId, EnvironmentSpec, Generation, Power, Resource, ServiceName, Stage, VolumeOrigin};
use std::collections::BTreeSet;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "what is told ahead does not run before it is applied",
        run: |bench| Box::pin(told(bench)),
    },
    Case {
        name: "what was told ahead for an older generation does not come back",
        run: |bench| Box::pin(older(bench)),
    },
    Case {
        name: "what was told ahead is gone while the environment sleeps",
        run: |bench| Box::pin(asleep(bench)),
    },
    Case {
        name: "what was told ahead and never applied goes with the environment",
        run: |bench| Box::pin(never(bench)),
    },
    Case {
        name: "what runs is left alone when it is told ahead",
        run: |bench| Box::pin(running(bench)),
    },
];

async fn tell(bench: &Bench<'_>, spec: &EnvironmentSpec) -> Outcome {
    let services = spec.services().into_iter().flat_map(|stack| stack.services.keys());
    let services: Vec<ServiceName> = services.cloned().collect();
    let told = bench.runtime().prepare(spec, &services, &NoSecrets).await;
    ok("telling what comes", told)
}

async fn nothing_runs(bench: &Bench<'_>, id: &EnvironmentId) -> Outcome {
    let seen = bench.observe(id).await?;
    ensure!(
        seen.services.is_empty(),
        "expected no service before it is applied, saw {:?}",
        seen.services
    );
    let target = crate::Target::Port(bench.fixture.port());
    let dialled = bench.runtime().dial(id, &name("web")?, target).await;
    ensure!(
        dialled.is_err(),
        "expected nobody to listen before the service is applied"
    );
    Ok(())
}

async fn told(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("web", bench.server("web"))?
        .with("api", bench.server("api"))?;
    let id = &spec.environment;
    bench.apply(&spec, &Stage::Envelope).await?;
    tell(bench, &spec).await?;
    tell(bench, &spec).await?;
    bench.fixture.pause().await;
    nothing_runs(bench, id).await?;
    bench.apply(&spec, &all_services(&spec)).await?;
    bench.ready(id, "api").await?;
    let first = bench.ready(id, "web").await?;
    bench.greets(id, "web", "web").await?;
    bench.greets(id, "api", "api").await?;
    bench.printed(id, "web", "web").await?;
    bench.apply_all(&spec).await?;
    let again = bench.ready(id, "web").await?;
    ensure!(
        first == again,
        "expected the service to be left alone: before {first:?}, after {again:?}"
    );
    Ok(())
}

async fn older(bench: &Bench<'_>) -> Outcome {
    let of = |spec: EnvironmentSpec, text: &str, incarnation| {
        let server = mounting(bench.server(text), "disk", "/disk")?;
        spec.with("web", server)?
            .with_volume("disk", VolumeOrigin::Empty, Generation(incarnation))
    };
    let first = of(bench.spec()?, "one", 1)?;
    let id = &first.environment;
    bench.apply(&first, &Stage::Envelope).await?;
    tell(bench, &first).await?;
    let second = of(first.clone().next(), "two", 2)?;
    bench.apply(&second, &Stage::Envelope).await?;
    match bench.runtime().prepare(&first, &[name("web")?], &NoSecrets).await {
        Ok(()) | Err(RuntimeError::Superseded { .. }) => {}
        Err(error) => return Err(format!("telling what an older generation wanted: {error}")),
    }
    nothing_runs(bench, id).await?;
    bench.bring_up(&second).await?;
    bench.greets(id, "web", "two").await?;
    bench.write(id, "web", "/disk/kept", "yes").await?;
    Ok(())
}

async fn asleep(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    let (id, generation) = (&spec.environment, spec.generation);
    bench.apply(&spec, &Stage::Envelope).await?;
    let before = listed(bench, id).await?;
    let ground = bench.runtime().footprint(&spec, &Stage::Envelope);
    tell(bench, &spec).await?;
    for power in [Power::Stopped, Power::Running] {
        ok("changing the power", bench.runtime().power(id, generation, power).await)?;
        nothing_runs(bench, id).await?;
    }
    let after = listed(bench, id).await?;
    let known = |resource: &&Resource| before.contains(resource) || ground.contains(resource);
    let left = after.iter().find(|resource| !known(resource));
    ensure!(left.is_none(), "expected nothing of what was told ahead, saw {left:?}");
    bench.bring_up(&spec).await?;
    bench.greets(id, "web", "web").await
}

async fn never(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    let id = &spec.environment;
    let stages = [Stage::Envelope, all_services(&spec)];
    let announced = stages.iter().flat_map(|stage| bench.runtime().footprint(&spec, stage));
    let announced: BTreeSet<Resource> = announced.collect();
    bench.apply(&spec, &Stage::Envelope).await?;
    tell(bench, &spec).await?;
    let there = listed(bench, id).await?;
    let surprise = there.iter().find(|resource| !announced.contains(resource));
    ensure!(
        surprise.is_none(),
        "expected only what a footprint announced, saw {surprise:?}"
    );
    ok("removing", bench.runtime().remove(id, spec.generation.next()).await)?;
    let left = listed(bench, id).await?;
    ensure!(left.is_empty(), "expected nothing after the removal, saw {left:?}");
    Ok(())
}

async fn running(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    let before = bench.ready(id, "web").await?;
    let pushed = spec.clone().next().with("web", bench.server("pushed"))?;
    bench.apply(&pushed, &Stage::Envelope).await?;
    tell(bench, &pushed).await?;
    let after = bench.ready(id, "web").await?;
    ensure!(
        before == after,
        "expected the service to be left alone: before {before:?}, after {after:?}"
    );
    bench.greets(id, "web", "web").await?;
    bench.bring_up(&pushed).await?;
    bench.greets(id, "web", "pushed").await
}

async fn listed(bench: &Bench<'_>, id: &EnvironmentId) -> Outcome<Vec<Resource>> {
    ok("listing", bench.runtime().inventory(Some(id)).await)
}
