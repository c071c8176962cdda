//! Freezing, stopping and running again.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, all_services, echoes, ensure, line, mounting, name, ok},
};
use model::{Condition, EnvironmentId, EnvironmentSpec, Generation, Power, ServiceState, Stage, VolumeOrigin};
use tokio::io::AsyncReadExt;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "freezing keeps what is in memory",
        run: |bench| Box::pin(frozen(bench)),
    },
    Case {
        name: "stopping keeps what is on disk",
        run: |bench| Box::pin(stopped(bench)),
    },
    Case {
        name: "what has run to its end stays ended through sleep and is not run again",
        run: |bench| Box::pin(completed(bench)),
    },
    Case {
        name: "after sleep nothing is started before what must have completed first",
        run: |bench| Box::pin(held_back(bench)),
    },
    Case {
        name: "single services stop and start again",
        run: |bench| Box::pin(single(bench)),
    },
];

async fn power(bench: &Bench<'_>, environment: &EnvironmentId, power: Power) -> Outcome {
    // Twice: the second time nothing is left to do.
    for _ in 0..2 {
        ok(
            &format!("changing the power to {power:?}"),
            bench.runtime().power(environment, Generation(1), power).await,
        )?;
    }
    let seen = bench.observe(environment).await?.power;
    ensure!(
        seen == power,
        "expected the power {power:?} to be observed, saw {seen:?}"
    );
    Ok(())
}

async fn frozen(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().freeze {
        return Ok(());
    }
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    let before = bench.fact(id, "web").await?;
    let mut connection = bench.dial(id, "web").await?;
    line(&mut connection).await?;
    power(bench, id, Power::Frozen).await?;
    let silent = tokio::time::timeout(
        std::time::Duration::from_millis(100),
        echoes(&mut connection, "while frozen"),
    )
    .await;
    ensure!(
        silent.is_err(),
        "expected no answer from a frozen service, got {silent:?}"
    );
    power(bench, id, Power::Running).await?;
    let after = bench.ready(id, "web").await?;
    ensure!(
        after.restarts == before.restarts && after.digest == before.digest,
        "expected the same process to go on: before {before:?}, after {after:?}"
    );
    let answer = line(&mut connection).await?;
    ensure!(
        answer == "while frozen",
        "expected the answer that froze, got `{answer}`"
    );
    bench.greets(id, "web", "web").await
}

async fn stopped(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("web", mounting(bench.server("web"), "disk", "/data")?)?
        .with_volume("disk", VolumeOrigin::Empty, Generation(1))?;
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    bench.write(id, "web", "/data/note", "kept").await?;
    power(bench, id, Power::Stopped).await?;
    let fact = bench.fact(id, "web").await?;
    ensure!(
        fact.state == ServiceState::Stopped,
        "expected the service to be stopped, saw {:?}",
        fact.state
    );
    let target = crate::Target::Port(bench.fixture.port());
    let dialled = bench.runtime().dial(id, &name("web")?, target).await;
    ensure!(dialled.is_err(), "expected no connection to a stopped service");
    power(bench, id, Power::Running).await?;
    bench.ready(id, "web").await?;
    bench.greets(id, "web", "web").await?;
    let note = bench.read(id, "web", "/data/note").await?;
    ensure!(
        note.as_deref() == Some("kept"),
        "expected the file in the volume to be kept, read {note:?}"
    );
    Ok(())
}

/// `web`, which `first` must have completed before.
fn after_first(bench: &Bench<'_>, code: i32) -> Outcome<EnvironmentSpec> {
    let text = "ran".to_owned();
    let mut web = bench.server("web");
    web.depends_on.insert(name("first")?, Condition::Completed);
    bench
        .spec()?
        .with("first", bench.service(&Program::Exit { text, code }))?
        .with("web", web)
}

async fn ends(bench: &Bench<'_>, environment: &EnvironmentId, code: i32) -> Outcome {
    let is = |state: &ServiceState| *state == ServiceState::Exited { code };
    let wanted = format!("ended with {code}");
    bench.state(environment, "first", &wanted, is).await.map(drop)
}

async fn completed(bench: &Bench<'_>) -> Outcome {
    let spec = after_first(bench, 0)?;
    let id = &spec.environment;
    bench.apply(&spec, &Stage::Envelope).await?;
    bench.apply(&spec, &Stage::Services([name("first")?].into())).await?;
    ends(bench, id, 0).await?;
    bench.printed(id, "first", "ran").await?;
    bench.apply_all(&spec).await?;
    bench.ready(id, "web").await?;
    power(bench, id, Power::Stopped).await?;
    ends(bench, id, 0).await?;
    power(bench, id, Power::Running).await?;
    bench.ready(id, "web").await?;
    bench.greets(id, "web", "web").await?;
    // The next generation wants it as it was.
    bench.apply_all(&spec.clone().next()).await?;
    ends(bench, id, 0).await?;
    let lines = bench.log(id, "first").await?;
    let times = lines.iter().filter(|line| *line == "ran").count();
    ensure!(times == 1, "expected one run, the log has {times}");
    Ok(())
}

async fn held_back(bench: &Bench<'_>) -> Outcome {
    let spec = after_first(bench, 3)?;
    let id = &spec.environment;
    // A stage has no inner order: whoever asks for both at once gets both.
    bench.apply_all(&spec).await?;
    bench.ready(id, "web").await?;
    ends(bench, id, 3).await?;
    power(bench, id, Power::Stopped).await?;
    power(bench, id, Power::Running).await?;
    for _ in 0..10 {
        let state = bench.fact(id, "web").await?.state;
        ensure!(
            state == ServiceState::Stopped,
            "expected web to wait for what must have completed first, saw {state:?}"
        );
        bench.fixture.pause().await;
    }
    bench.apply(&spec, &Stage::Services([name("web")?].into())).await?;
    bench.ready(id, "web").await.map(drop)
}

async fn single(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("kept", bench.server("kept"))?
        .with("web", bench.server("web"))?;
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    let kept = bench.fact(id, "kept").await?;
    let mut connection = bench.dial(id, "web").await?;
    line(&mut connection).await?;
    for _ in 0..2 {
        let services = [name("web")?];
        ok(
            "stopping one service",
            bench.runtime().services_stop(id, spec.generation, &services).await,
        )?;
    }
    let fact = bench.fact(id, "web").await?;
    ensure!(
        fact.state == ServiceState::Stopped,
        "expected the service to be stopped, saw {:?}",
        fact.state
    );
    let rest = tokio::time::timeout(std::time::Duration::from_secs(150), connection.read_u8()).await;
    ensure!(
        matches!(rest, Ok(Err(_))),
        "expected a connection to end with the process that held it, got {rest:?}"
    );
    let after = bench.fact(id, "kept").await?;
    ensure!(
        kept == after,
        "expected the other service to be left alone: before {kept:?}, after {after:?}"
    );
    bench.apply(&spec, &all_services(&spec)).await?;
    bench.ready(id, "web").await?;
    bench.greets(id, "web", "web").await
}
