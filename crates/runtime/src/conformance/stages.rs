//! Stages, generations and what they leave alone.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, all_services, ensure, name, ok},
};
use crate::{NoSecrets, RuntimeError};
use model::{
    Condition, EnvironmentSpec, Generation, ObjectStack, Power, Renderer, Resource, Restart, Root, ServiceState, Stack,
    Stage, VolumeOrigin,
};
use std::{collections::BTreeSet, time::Duration};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a stage that is applied again changes nothing",
        run: |bench| Box::pin(again(bench)),
    },
    Case {
        name: "a service becomes ready when it listens, and not before",
        run: |bench| Box::pin(readiness(bench)),
    },
    Case {
        name: "an older generation is refused",
        run: |bench| Box::pin(older(bench)),
    },
    Case {
        name: "only services whose digest changed are replaced",
        run: |bench| Box::pin(replaced(bench)),
    },
    Case {
        name: "a stage has no inner order",
        run: |bench| Box::pin(unordered(bench)),
    },
    Case {
        name: "what a generation no longer has is pruned, and only then",
        run: |bench| Box::pin(pruned(bench)),
    },
    Case {
        name: "what can not run is refused before anything is made",
        run: |bench| Box::pin(unsupported(bench)),
    },
    Case {
        name: "a command that does not exist is the user's mistake",
        run: |bench| Box::pin(missing(bench)),
    },
    Case {
        name: "a service that ends is told, and started again if it should be",
        run: |bench| Box::pin(ended(bench)),
    },
    Case {
        name: "a service that ended with a failure is started again when it is applied again",
        run: |bench| Box::pin(failed_before(bench)),
    },
    Case {
        name: "a service that keeps ending is counted anew when it was stopped and is applied again",
        run: |bench| Box::pin(counted_anew(bench)),
    },
    Case {
        name: "changes are announced",
        run: |bench| Box::pin(announced(bench)),
    },
    Case {
        name: "two environments at once do not see each other",
        run: |bench| Box::pin(apart(bench)),
    },
    Case {
        name: "what an environment was meant to be is recalled as it was asked for, or not at all",
        run: |bench| Box::pin(recalled(bench)),
    },
    Case {
        name: "nothing exists that no footprint announced",
        run: |bench| Box::pin(footprints(bench)),
    },
];

async fn recalled(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("one"))?;
    let id = &spec.environment;
    let before = ok("recalling", bench.runtime().recall(id).await)?;
    ensure!(
        before.is_none(),
        "expected nothing of what never existed, saw {before:?}"
    );
    bench.apply(&spec, &Stage::Envelope).await?;
    let first = ok("recalling", bench.runtime().recall(id).await)?;
    ensure!(
        first.as_ref().is_none_or(|recalled| *recalled == spec),
        "expected generation 1 as it was asked for, saw {first:?}"
    );
    let mut next = spec.clone();
    next.generation = next.generation.next();
    bench.apply(&next, &Stage::Envelope).await?;
    let second = ok("recalling", bench.runtime().recall(id).await)?;
    ensure!(
        second.as_ref().is_none_or(|recalled| *recalled == next) && second.is_some() == first.is_some(),
        "expected generation 2 as it was asked for, saw {second:?}"
    );
    ok("removing", bench.runtime().remove(id, next.generation.next()).await)?;
    let after = ok("recalling", bench.runtime().recall(id).await)?;
    ensure!(after.is_none(), "expected nothing of what was removed, saw {after:?}");
    Ok(())
}

async fn again(bench: &Bench<'_>) -> Outcome {
    let spec =
        bench
            .spec()?
            .with("web", bench.server("one"))?
            .with_volume("disk", VolumeOrigin::Empty, Generation(1))?;
    let id = &spec.environment;
    bench.apply(&spec, &Stage::Envelope).await?;
    bench.apply(&spec, &Stage::Envelope).await?;
    let envelope = bench.observe(id).await?;
    ensure!(
        envelope.envelope == Some(spec.generation),
        "expected the envelope of generation 1 to be observed, saw {:?}",
        envelope.envelope
    );
    ensure!(
        envelope.services.is_empty(),
        "expected no service after the envelope alone, saw {:?}",
        envelope.services
    );
    bench.apply(&spec, &all_services(&spec)).await?;
    let first = bench.ready(id, "web").await?;
    ensure!(
        Some(&first.digest) == spec.service_digest(&name("web")?).as_ref(),
        "expected the digest of the specification to be observed, saw {}",
        first.digest
    );
    bench.apply_all(&spec).await?;
    bench.apply(&spec, &Stage::Prune).await?;
    let second = bench.ready(id, "web").await?;
    ensure!(
        first == second,
        "expected the service to be left alone: before {first:?}, after {second:?}"
    );
    Ok(())
}

async fn readiness(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("never", bench.service(&Program::Idle))?
        .with("web", bench.server("web"))?;
    bench.apply_all(&spec).await?;
    bench.ready(&spec.environment, "web").await?;
    for _ in 0..10 {
        let fact = bench.fact(&spec.environment, "never").await?;
        ensure!(
            fact.state == ServiceState::Starting,
            "expected a service that listens nowhere to be starting, saw {:?}",
            fact.state
        );
        bench.fixture.pause().await;
    }
    Ok(())
}

async fn older(bench: &Bench<'_>) -> Outcome {
    let first = bench.spec()?.with("web", bench.server("one"))?;
    let second = first.clone().next().with("web", bench.server("two"))?;
    bench.bring_up(&second).await?;
    let runtime = bench.runtime();
    let id = &first.environment;
    let services = [name("web")?];
    let job = bench.job(
        "late",
        &Program::Exit {
            text: "late".to_owned(),
            code: 0,
        },
        Duration::from_secs(10),
    )?;
    let with_job = first.clone().with_job(job);
    let answers = [
        (
            "applying the envelope",
            runtime.apply(&first, &Stage::Envelope, &NoSecrets).await,
        ),
        (
            "applying services",
            runtime.apply(&first, &all_services(&first), &NoSecrets).await,
        ),
        ("pruning", runtime.apply(&first, &Stage::Prune, &NoSecrets).await),
        (
            "stopping services",
            runtime.services_stop(id, Generation(1), &services).await,
        ),
        (
            "changing the power",
            runtime.power(id, Generation(1), Power::Stopped).await,
        ),
        (
            "running a job",
            runtime.job_run(&with_job, &name("late")?, &NoSecrets).await.map(drop),
        ),
        ("removing", runtime.remove(id, Generation(1)).await),
    ];
    for (action, answer) in answers {
        match answer {
            Err(RuntimeError::Superseded {
                given: Generation(1),
                newest: Generation(2),
                ..
            }) => {}
            other => {
                return Err(format!(
                    "{action} of generation 1: expected `Superseded` by 2, got {other:?}"
                ));
            }
        }
    }
    bench.greets(id, "web", "two").await
}

async fn replaced(bench: &Bench<'_>) -> Outcome {
    let first = bench
        .spec()?
        .with("kept", bench.server("kept"))?
        .with("web", bench.server("one"))?;
    let id = &first.environment;
    bench.bring_up(&first).await?;
    let kept = bench.fact(id, "kept").await?;
    let mut connection = bench.dial(id, "kept").await?;
    super::bench::line(&mut connection).await?;
    let second = first.clone().next().with("web", bench.server("two"))?;
    bench.bring_up(&second).await?;
    bench.greets(id, "web", "two").await?;
    let after = bench.fact(id, "kept").await?;
    ensure!(
        kept == after,
        "expected the unchanged service to be left alone: before {kept:?}, after {after:?}"
    );
    super::bench::echoes(&mut connection, "still here").await
}

async fn unordered(bench: &Bench<'_>) -> Outcome {
    let mut web = bench.server("web");
    web.depends_on.insert(name("absent")?, Condition::Healthy);
    let spec = bench
        .spec()?
        .with("web", web)?
        .with("absent", bench.service(&Program::Idle))?;
    bench.apply(&spec, &Stage::Envelope).await?;
    bench
        .apply(&spec, &Stage::Services(BTreeSet::from([name("web")?])))
        .await?;
    bench.ready(&spec.environment, "web").await?;
    let seen = bench.observe(&spec.environment).await?;
    ensure!(
        seen.services.len() == 1,
        "expected the one service of the stage, saw {:?}",
        seen.services.keys()
    );
    Ok(())
}

async fn pruned(bench: &Bench<'_>) -> Outcome {
    let program = Program::Exit {
        text: "ran".to_owned(),
        code: 0,
    };
    let first = bench
        .spec()?
        .with("kept", bench.server("kept"))?
        .with("dropped", bench.server("dropped"))?
        .with_volume("disk", VolumeOrigin::Empty, Generation(1))?
        .with_job(bench.job("job", &program, Duration::from_secs(60))?);
    bench.bring_up(&first).await?;
    let id = &first.environment;
    let job = name("job")?;
    ok(
        "running the job",
        bench.runtime().job_run(&first, &job, &NoSecrets).await,
    )?;
    let second = first.clone().next().without("dropped")?.edit(|stack| {
        stack.volumes.clear();
        stack.jobs.clear();
    });
    bench.apply_all(&second).await?;
    bench.greets(id, "dropped", "dropped").await?;
    bench.apply(&second, &Stage::Prune).await?;
    bench.apply(&second, &Stage::Prune).await?;
    let seen = bench.observe(id).await?;
    let left: Vec<&str> = seen.services.keys().map(model::ServiceName::as_str).collect();
    ensure!(left == ["kept"], "expected `kept` alone after pruning, saw {left:?}");
    ensure!(
        seen.volumes.is_empty(),
        "expected no volume after pruning, saw {:?}",
        seen.volumes
    );
    ensure!(
        seen.jobs.is_empty(),
        "expected no job after pruning, saw {:?}",
        seen.jobs
    );
    bench.greets(id, "kept", "kept").await?;
    let services = bench.runtime().footprint(&first, &all_services(&first));
    let jobs = bench.runtime().job_footprint(&first, &job);
    let gone: BTreeSet<Resource> = services.into_iter().chain(jobs).collect();
    let kept: BTreeSet<Resource> = bench
        .runtime()
        .footprint(&second, &all_services(&second))
        .into_iter()
        .collect();
    let listed = ok("listing", bench.runtime().inventory(Some(id)).await)?;
    let left = listed
        .iter()
        .find(|resource| gone.contains(resource) && !kept.contains(resource));
    ensure!(
        left.is_none(),
        "expected nothing of the pruned service and job in the inventory, saw {left:?}"
    );
    Ok(())
}

async fn unsupported(bench: &Bench<'_>) -> Outcome {
    let capabilities = bench.runtime().capabilities();
    let mut spec = bench.spec()?.with("web", bench.server("web"))?;
    if !capabilities.objects {
        let path = "chart".to_owned();
        spec.stack = Stack::Objects(ObjectStack {
            source: name("shop")?,
            path,
            renderer: Renderer::Helm,
        });
    } else if !capabilities.images {
        let mut service = bench.server("image");
        service.workload.root = Root::Image {
            reference: "registry.invalid/image:1".to_owned(),
            pinned: None,
        };
        spec = spec.with("image", service)?;
    } else {
        return Ok(());
    }
    let answer = bench.runtime().apply(&spec, &Stage::Envelope, &NoSecrets).await;
    match answer {
        Err(RuntimeError::Unsupported { what, hint, .. }) => {
            ensure!(
                !what.is_empty() && !hint.is_empty(),
                "expected a name and a hint, got `{what}` and `{hint}`"
            );
        }
        other => return Err(format!("expected `Unsupported`, got {other:?}")),
    }
    let seen = ok("observing", bench.runtime().observe(&spec.environment).await)?;
    ensure!(seen.is_none(), "expected that nothing was made, saw {seen:?}");
    let left = ok("listing", bench.runtime().inventory(Some(&spec.environment)).await)?;
    ensure!(left.is_empty(), "expected an empty inventory, saw {left:?}");
    Ok(())
}

async fn missing(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.service(&Program::Missing))?;
    bench.apply(&spec, &Stage::Envelope).await?;
    match bench.runtime().apply(&spec, &all_services(&spec), &NoSecrets).await {
        Err(RuntimeError::Invalid { what, .. }) => {
            ensure!(
                what.contains("web"),
                "expected the message to name the service `web`, it names `{what}`"
            );
        }
        other => return Err(format!("expected `Invalid`, got {other:?}")),
    }
    Ok(())
}

async fn ended(bench: &Bench<'_>) -> Outcome {
    let program = Program::Exit {
        text: "the last words".to_owned(),
        code: 3,
    };
    let mut again = bench.service(&program);
    again.restart = Restart::OnFailure;
    let spec = bench
        .spec()?
        .with("once", bench.service(&program))?
        .with("again", again)?;
    let id = &spec.environment;
    bench.apply_all(&spec).await?;
    let exited = |state: &ServiceState| *state == ServiceState::Exited { code: 3 };
    bench.state(id, "once", "ended with status 3", exited).await?;
    bench.printed(id, "once", "the last words").await?;
    for _ in 0..bench.fixture.patience() {
        let fact = bench.fact(id, "again").await?;
        ensure!(
            !matches!(fact.state, ServiceState::Exited { .. } | ServiceState::Ready),
            "expected a service that is to be started again, saw {:?}",
            fact.state
        );
        if fact.restarts > 0 {
            return Ok(());
        }
        bench.fixture.pause().await;
    }
    Err("expected the service to be started again, its count of restarts stays 0".to_owned())
}

async fn failed_before(bench: &Bench<'_>) -> Outcome {
    let fails = |code: i32| Program::Exit {
        text: "the last words".to_owned(),
        code,
    };
    let spec = bench
        .spec()?
        .with("failed", bench.service(&fails(3)))?
        .with("through", bench.service(&fails(0)))?;
    bench.apply_all(&spec).await?;
    let id = spec.environment.clone();
    let ended = |code: i32| move |state: &ServiceState| *state == ServiceState::Exited { code };
    let failed = bench.state(&id, "failed", "ended with status 3", ended(3)).await?;
    let through = bench.state(&id, "through", "ended with status 0", ended(0)).await?;
    bench.apply_all(&spec.next()).await?;
    for _ in 0..bench.fixture.patience() {
        let now = bench.fact(&id, "failed").await?;
        if now.since > failed.since && now.state == failed.state {
            let after = bench.fact(&id, "through").await?;
            ensure!(
                after.since == through.since,
                "expected what ended well to be left alone, it was started again"
            );
            return Ok(());
        }
        bench.fixture.pause().await;
    }
    Err("expected the service that had failed to be started again, it was left as it was".to_owned())
}

async fn counted_anew(bench: &Bench<'_>) -> Outcome {
    /// Pauses grow from restart to restart: until there are as many again, somebody has looked, also on a machine that is busy.
    const ENOUGH: u32 = 5;
    let fails = Program::Exit {
        text: "the last words".to_owned(),
        code: 3,
    };
    let mut again = bench.service(&fails);
    again.restart = Restart::OnFailure;
    let spec = bench.spec()?.with("failing", again)?;
    bench.apply_all(&spec).await?;
    let id = spec.environment.clone();
    let mut before = 0;
    for _ in 0..bench.fixture.patience() {
        before = bench.fact(&id, "failing").await?.restarts;
        if before >= ENOUGH {
            break;
        }
        bench.fixture.pause().await;
    }
    ensure!(
        before >= ENOUGH,
        "expected a service that fails to be started again, it was {before} times"
    );
    let next = spec.next();
    let services = [name("failing")?];
    ok(
        "services_stop",
        bench.runtime().services_stop(&id, next.generation, &services).await,
    )?;
    bench.apply_all(&next).await?;
    let after = bench.fact(&id, "failing").await?.restarts;
    ensure!(
        after < before,
        "expected it to be counted anew, it has {after} restarts after {before}"
    );
    Ok(())
}

async fn announced(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    let mut changes = bench.runtime().changes();
    bench.bring_up(&spec).await?;
    for _ in 0..bench.fixture.patience() {
        match changes.try_recv() {
            Ok(environment) if environment == spec.environment => return Ok(()),
            // Others may run at the same time; whoever lags must look at everything.
            Ok(_) => {}
            Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => return Ok(()),
            Err(_) => bench.fixture.pause().await,
        }
    }
    Err(format!("expected a change of {} to be announced", spec.environment))
}

async fn apart(bench: &Bench<'_>) -> Outcome {
    let left = bench.spec()?.with("web", bench.server("left"))?;
    let right = bench.spec()?.with("web", bench.server("right"))?;
    let (one, two) = futures::join!(bench.bring_up(&left), bench.bring_up(&right));
    one.and(two)?;
    bench.greets(&left.environment, "web", "left").await?;
    bench.greets(&right.environment, "web", "right").await?;
    let before = bench.fact(&right.environment, "web").await?;
    for resource in ok("listing", bench.runtime().inventory(Some(&left.environment)).await)? {
        ensure!(
            resource.environment == left.environment,
            "expected only what is of {}, saw {resource:?}",
            left.environment
        );
    }
    ok(
        "removing",
        bench.runtime().remove(&left.environment, left.generation).await,
    )?;
    let after = bench.fact(&right.environment, "web").await?;
    ensure!(
        before == after,
        "expected the other environment to be left alone: before {before:?}, after {after:?}"
    );
    bench.greets(&right.environment, "web", "right").await
}

async fn footprints(bench: &Bench<'_>) -> Outcome {
    let spec =
        bench
            .spec()?
            .with("web", bench.server("web"))?
            .with_volume("disk", VolumeOrigin::Empty, Generation(1))?;
    let announced = |spec: &EnvironmentSpec| -> BTreeSet<Resource> {
        let stages = [Stage::Envelope, all_services(spec), Stage::Prune];
        stages
            .iter()
            .flat_map(|stage| bench.runtime().footprint(spec, stage))
            .collect()
    };
    bench.bring_up(&spec).await?;
    let announced = announced(&spec);
    let listed = ok("listing", bench.runtime().inventory(Some(&spec.environment)).await)?;
    ensure!(
        !listed.is_empty(),
        "expected an environment that runs to be in the inventory, which is empty"
    );
    let surprise = listed.iter().find(|resource| !announced.contains(resource));
    ensure!(
        surprise.is_none(),
        "expected only what a footprint announced, saw {surprise:?}"
    );
    let all = ok("listing everything", bench.runtime().inventory(None).await)?;
    let missing = listed.iter().find(|resource| !all.contains(resource));
    ensure!(
        missing.is_none(),
        "expected the inventory of all environments to hold {missing:?}"
    );
    Ok(())
}
