//! The way out: what the generation allows is reached, all else is refused at once, and both are told.

use super::{
    Case,
    bench::{Bench, Draft as _, Outcome, ensure, name, ok},
};
use crate::ExecExit;
use model::{DoorFact, EnvironmentSpec, Generation, HostName, Stage};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a name that is allowed is reached, and counted",
        run: |bench| Box::pin(allowed(bench)),
    },
    Case {
        name: "a name that is not allowed is refused at once, and told",
        run: |bench| Box::pin(refused(bench)),
    },
    Case {
        name: "what a new generation allows holds for services that run",
        run: |bench| Box::pin(changed(bench)),
    },
];

const ALLOWED: &str = "endpoint.example.com";
const OTHER: &str = "other.example.com";
/// Refusals are no timeouts; a start of a program on a slow machine is no refusal.
const AT_ONCE: Duration = Duration::from_secs(8);
const TRIES: usize = 5;

fn allow(spec: &mut EnvironmentSpec, host: &str, endpoint: SocketAddr) -> Outcome {
    let host: HostName = name(host)?;
    spec.egress.private.clear();
    spec.egress.private.insert(host, [endpoint].into());
    Ok(())
}

async fn up(bench: &Bench<'_>, endpoint: SocketAddr) -> Outcome<EnvironmentSpec> {
    let mut spec = bench.spec()?.with("web", bench.server("web"))?;
    allow(&mut spec, ALLOWED, endpoint)?;
    bench.bring_up(&spec).await?;
    bench.ready(&spec.environment, "web").await?;
    Ok(spec)
}

/// What `web` gets from there; nothing if it gets nothing.
async fn fetch(bench: &Bench<'_>, spec: &EnvironmentSpec, host: &str, port: u16) -> Outcome<Option<String>> {
    let argv = bench.fixture.fetch(host, port);
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (exit, printed) = bench.exec(&spec.environment, "web", &words, b"").await?;
    Ok((exit == ExecExit::Status(0)).then_some(printed))
}

/// What is told of the door as soon as it holds.
async fn told(bench: &Bench<'_>, spec: &EnvironmentSpec, what: &str, holds: impl Fn(&DoorFact) -> bool) -> Outcome {
    let mut last = None;
    for _ in 0..bench.fixture.patience() {
        let seen = ok("observing", bench.runtime().observe(&spec.environment).await)?;
        last = seen.map(|seen| seen.door);
        if last.as_ref().is_some_and(&holds) {
            return Ok(());
        }
        bench.fixture.pause().await;
    }
    Err(format!("expected {what}, saw {last:?}"))
}

async fn allowed(bench: &Bench<'_>) -> Outcome {
    let Some(endpoint) = bench.fixture.outside() else {
        return Ok(());
    };
    let spec = up(bench, endpoint).await?;
    let got = fetch(bench, &spec, ALLOWED, endpoint.port()).await?;
    ensure!(
        got.as_deref() == Some("outside\n"),
        "expected what the endpoint says, got {got:?}"
    );
    told(bench, &spec, "one connection with 8 bytes", |door| {
        let mut passed = door.passed.iter();
        passed.any(|passed| passed.name == ALLOWED && passed.connections == 1 && passed.received == 8)
    })
    .await
}

async fn refused(bench: &Bench<'_>) -> Outcome {
    let Some(endpoint) = bench.fixture.outside() else {
        return Ok(());
    };
    let spec = up(bench, endpoint).await?;
    // A machine that is busy takes its time now and then; a time-out is as long each time.
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let got = fetch(bench, &spec, OTHER, endpoint.port()).await?;
        ensure!(
            got.is_none(),
            "expected nothing from a name that is not allowed, got {got:?}"
        );
        let by_address = fetch(bench, &spec, &endpoint.ip().to_string(), endpoint.port()).await?;
        ensure!(
            by_address.is_none(),
            "expected nothing from the endpoint's own address, got {by_address:?}"
        );
        took = took.min(begun.elapsed());
        if took < AT_ONCE {
            break;
        }
    }
    ensure!(
        took < AT_ONCE,
        "expected two refusals at once, they took {took:?} at least"
    );
    told(bench, &spec, "the name among what was refused", |door| {
        door.refused
            .iter()
            .any(|refused| refused.name == OTHER && refused.count > 0)
    })
    .await
}

async fn changed(bench: &Bench<'_>) -> Outcome {
    let Some(endpoint) = bench.fixture.outside() else {
        return Ok(());
    };
    let mut spec = up(bench, endpoint).await?;
    let before = bench.fact(&spec.environment, "web").await?;
    spec.generation = Generation(2);
    allow(&mut spec, OTHER, endpoint)?;
    bench.apply(&spec, &Stage::Envelope).await?;
    let got = fetch(bench, &spec, OTHER, endpoint.port()).await?;
    ensure!(got.is_some(), "expected the name that is allowed now to be reached");
    let got = fetch(bench, &spec, ALLOWED, endpoint.port()).await?;
    ensure!(got.is_none(), "expected nothing from the name that is allowed no more");
    let after = bench.fact(&spec.environment, "web").await?;
    ensure!(
        after.since == before.since && after.restarts == before.restarts,
        "expected the service to go on, it was {before:?} and is {after:?}"
    );
    Ok(())
}
