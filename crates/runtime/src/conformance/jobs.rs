//! Jobs: once, awaited, bounded, and their exit status.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, ensure, name, ok},
};
use crate::{JobOutcome, NoSecrets};
use model::{EnvironmentSpec, JobEvent, JobName, RUN_VARIABLE, Stage, Value};
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a job runs to its end, once",
        run: |bench| Box::pin(once(bench)),
    },
    Case {
        name: "a job that is asked for twice at once runs once",
        run: |bench| Box::pin(joined(bench)),
    },
    Case {
        name: "a job that failed says its status and may run again",
        run: |bench| Box::pin(failing(bench)),
    },
    Case {
        name: "a run by hand is told again and not made again",
        run: |bench| Box::pin(by_hand(bench)),
    },
    Case {
        name: "a job is ended when its time is over",
        run: |bench| Box::pin(bounded(bench)),
    },
    Case {
        name: "a job that changed runs again",
        run: |bench| Box::pin(changed(bench)),
    },
];

const LONG: Duration = Duration::from_secs(60);

fn exit(text: &str, code: i32) -> Program {
    Program::Exit {
        text: text.to_owned(),
        code,
    }
}

/// An environment with one job and its envelope applied.
async fn prepared(bench: &Bench<'_>, program: &Program, timeout: Duration) -> Outcome<(EnvironmentSpec, JobName)> {
    let spec = bench.spec()?.with_job(bench.job("job", program, timeout)?);
    bench.apply(&spec, &Stage::Envelope).await?;
    Ok((spec, name("job")?))
}

async fn run(bench: &Bench<'_>, spec: &EnvironmentSpec, job: &JobName) -> Outcome<JobOutcome> {
    ok(
        &format!("running the job {job}"),
        bench.runtime().job_run(spec, job, &NoSecrets).await,
    )
}

fn ended(outcome: &JobOutcome, code: i32) -> Outcome {
    let expected = JobOutcome {
        exit: code,
        timed_out: false,
    };
    ensure!(
        *outcome == expected,
        "expected the job to end with {expected:?}, got {outcome:?}"
    );
    Ok(())
}

async fn once(bench: &Bench<'_>) -> Outcome {
    let (spec, job) = prepared(bench, &exit("ran", 0), LONG).await?;
    ended(&run(bench, &spec, &job).await?, 0)?;
    bench.printed(&spec.environment, "job", "ran").await?;
    let first = bench.observe(&spec.environment).await?.jobs.remove(&job);
    ensure!(
        first
            .as_ref()
            .is_some_and(|fact| fact.exit == Some(0) && fact.ended.is_some()),
        "expected the end of the job to be observed, saw {first:?}"
    );
    ensure!(
        first.as_ref().map(|fact| &fact.digest) == spec.job_digest(&job).as_ref(),
        "expected the digest of the specification to be observed, saw {first:?}"
    );
    ended(&run(bench, &spec, &job).await?, 0)?;
    ended(&run(bench, &spec.clone().next(), &job).await?, 0)?;
    let second = bench.observe(&spec.environment).await?.jobs.remove(&job);
    ensure!(
        first == second,
        "expected a job that has succeeded not to run again: before {first:?}, after {second:?}"
    );
    let announced = bench.runtime().job_footprint(&spec, &job);
    let stage = bench.runtime().footprint(&spec, &Stage::Envelope);
    let listed = ok("listing", bench.runtime().inventory(Some(&spec.environment)).await)?;
    let surprise = listed
        .iter()
        .find(|resource| !announced.contains(resource) && !stage.contains(resource));
    ensure!(
        surprise.is_none(),
        "expected only what a footprint announced, saw {surprise:?}"
    );
    Ok(())
}

async fn joined(bench: &Bench<'_>) -> Outcome {
    let (spec, job) = prepared(bench, &exit("ran", 0), LONG).await?;
    let (one, two) = futures::join!(run(bench, &spec, &job), run(bench, &spec, &job));
    ended(&one?, 0)?;
    ended(&two?, 0)?;
    let lines = bench.printed(&spec.environment, "job", "ran").await?;
    let times = lines.iter().filter(|line| *line == "ran").count();
    ensure!(times == 1, "expected one run, the log has {times}");
    Ok(())
}

async fn failing(bench: &Bench<'_>) -> Outcome {
    let (spec, job) = prepared(bench, &exit("failed", 7), LONG).await?;
    ended(&run(bench, &spec, &job).await?, 7)?;
    bench.printed(&spec.environment, "job", "failed").await?;
    let first = bench.observe(&spec.environment).await?.jobs.remove(&job);
    ensure!(
        first.as_ref().is_some_and(|fact| fact.exit == Some(7)),
        "expected status 7 to be observed, saw {first:?}"
    );
    bench.fixture.pause().await;
    ended(&run(bench, &spec, &job).await?, 7)?;
    let second = bench.observe(&spec.environment).await?.jobs.remove(&job);
    let started = |fact: &Option<model::JobFact>| fact.as_ref().map(|fact| fact.started);
    ensure!(
        started(&second) > started(&first),
        "expected a second run: before {first:?}, after {second:?}"
    );
    Ok(())
}

async fn by_hand(bench: &Bench<'_>) -> Outcome {
    let mut job = bench.job("job", &exit("failed", 7), LONG)?;
    job.on = JobEvent::Hand;
    let run_of = |number: &str| {
        let mut job = job.clone();
        let value = Value::Plain(number.to_owned());
        job.workload.environment.insert(RUN_VARIABLE.to_owned(), value);
        job
    };
    let spec = bench.spec()?.with_job(run_of("1"));
    let name = name("job")?;
    bench.apply(&spec, &Stage::Envelope).await?;
    ended(&run(bench, &spec, &name).await?, 7)?;
    let first = bench.observe(&spec.environment).await?.jobs.remove(&name);
    bench.fixture.pause().await;
    ended(&run(bench, &spec, &name).await?, 7)?;
    let second = bench.observe(&spec.environment).await?.jobs.remove(&name);
    ensure!(
        first.is_some() && first == second,
        "expected one run, saw {first:?} and then {second:?}"
    );
    let again = spec.with_job(run_of("2"));
    ended(&run(bench, &again, &name).await?, 7)?;
    let third = bench.observe(&again.environment).await?.jobs.remove(&name);
    ensure!(
        third.as_ref().map(|fact| &fact.digest) == again.job_digest(&name).as_ref(),
        "expected another number to be another run, saw {third:?}"
    );
    Ok(())
}

async fn bounded(bench: &Bench<'_>) -> Outcome {
    let (spec, job) = prepared(bench, &Program::Idle, Duration::from_millis(300)).await?;
    let outcome = run(bench, &spec, &job).await?;
    ensure!(
        outcome.timed_out && outcome.exit != 0,
        "expected the job to be ended when its time was over, got {outcome:?}"
    );
    let fact = bench.observe(&spec.environment).await?.jobs.remove(&job);
    ensure!(
        fact.as_ref()
            .is_some_and(|fact| fact.exit.is_some_and(|exit| exit != 0)),
        "expected an exit status other than 0 to be observed, saw {fact:?}"
    );
    Ok(())
}

async fn changed(bench: &Bench<'_>) -> Outcome {
    let (spec, job) = prepared(bench, &exit("first", 0), LONG).await?;
    ended(&run(bench, &spec, &job).await?, 0)?;
    let next = spec.next().with_job(bench.job("job", &exit("second", 0), LONG)?);
    ended(&run(bench, &next, &job).await?, 0)?;
    bench.printed(&next.environment, "job", "second").await?;
    Ok(())
}
