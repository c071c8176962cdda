//! Connections, logs and commands.

use super::{
    Case, Program,
    bench::{Bench, Draft, Outcome, echoes, ensure, line, name, ok},
};
use crate::{ExecExit, LogQuery, NoSecrets, RuntimeError, Target};
use futures::StreamExt;
use model::{Generation, VolumeOrigin};
use std::{collections::BTreeMap, time::Duration};
use tokio::io::AsyncReadExt;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a connection reaches the service that was named",
        run: |bench| Box::pin(dialled(bench)),
    },
    Case {
        name: "many connections at once each get their own answers",
        run: |bench| Box::pin(many(bench)),
    },
    Case {
        name: "a port where nothing listens is an error",
        run: |bench| Box::pin(refused(bench)),
    },
    Case {
        name: "what does not exist is not found",
        run: |bench| Box::pin(unknown(bench)),
    },
    Case {
        name: "a log has a tail, and can be followed to its container's end",
        run: |bench| Box::pin(logs(bench)),
    },
    Case {
        name: "a command has input, output, variables and a status",
        run: |bench| Box::pin(exec(bench)),
    },
    Case {
        name: "an engine answers its administrator",
        run: |bench| Box::pin(engine(bench)),
    },
];

async fn dialled(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("a", bench.server("this is a"))?
        .with("b", bench.server("this is b"))?;
    bench.bring_up(&spec).await?;
    bench.greets(&spec.environment, "a", "this is a").await?;
    bench.greets(&spec.environment, "b", "this is b").await?;
    let mut connection = bench.dial(&spec.environment, "a").await?;
    line(&mut connection).await?;
    echoes(&mut connection, "hello").await?;
    echoes(&mut connection, &"x".repeat(5000)).await
}

async fn many(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    bench.bring_up(&spec).await?;
    let talks = (0..20).map(|number| {
        let environment = spec.environment.clone();
        async move {
            let mut connection = bench.dial(&environment, "web").await?;
            line(&mut connection).await?;
            echoes(&mut connection, &format!("connection {number}")).await
        }
    });
    futures::future::join_all(talks).await.into_iter().collect()
}

async fn refused(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    bench.bring_up(&spec).await?;
    let target = Target::Port(bench.fixture.port().wrapping_add(1));
    match bench.runtime().dial(&spec.environment, &name("web")?, target).await {
        Err(error) if error.is_transient() => Ok(()),
        Err(error) => Err(format!(
            "expected an error that may pass (something may listen soon), got `{error}`"
        )),
        // A connection that goes through something else may be refused after it was opened.
        Ok(mut connection) => match connection.read_u8().await {
            Err(_) => Ok(()),
            Ok(byte) => Err(format!(
                "expected no answer from a port where nothing listens, got byte {byte}"
            )),
        },
    }
}

async fn unknown(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    bench.bring_up(&spec).await?;
    let nowhere = bench.fixture.environment();
    let runtime = bench.runtime();
    let port = Target::Port(bench.fixture.port());
    let command = ["true".to_owned()];
    let none = BTreeMap::new();
    for (what, environment, service) in [
        ("an unknown service", &spec.environment, name("absent")?),
        ("an unknown environment", &nowhere, name("web")?),
    ] {
        let answers = [
            ("dialling", runtime.dial(environment, &service, port).await.map(drop)),
            (
                "running a command in",
                runtime.exec(environment, &service, &command, &none).await.map(drop),
            ),
            (
                "reading the log of",
                runtime
                    .logs(environment, service.as_str(), LogQuery::default())
                    .await
                    .map(drop),
            ),
        ];
        for (action, answer) in answers {
            ensure!(
                matches!(answer, Err(RuntimeError::NotFound { .. })),
                "{action} {what}: expected `NotFound`, got {answer:?}"
            );
        }
    }
    let seen = ok("observing an unknown environment", runtime.observe(&nowhere).await)?;
    ensure!(
        seen.is_none(),
        "expected nothing of an unknown environment, saw {seen:?}"
    );
    Ok(())
}

async fn logs(bench: &Bench<'_>) -> Outcome {
    let job = bench.job(
        "job",
        &Program::Exit {
            text: "from the job".to_owned(),
            code: 0,
        },
        Duration::from_secs(60),
    )?;
    let spec = bench
        .spec()?
        .with("web", bench.server("from the service"))?
        .with_job(job);
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    ok(
        "running the job",
        bench.runtime().job_run(&spec, &name("job")?, &NoSecrets).await,
    )?;
    bench.printed(id, "job", "from the job").await?;
    let lines = bench.printed(id, "web", "from the service").await?;
    ensure!(lines.len() == 1, "expected the log of the service alone, got {lines:?}");
    let nothing = LogQuery {
        tail: Some(0),
        follow: false,
    };
    let lines = ok("reading no lines", bench.runtime().logs(id, "web", nothing).await)?
        .count()
        .await;
    ensure!(lines == 0, "expected no lines with a tail of 0, got {lines}");

    let follow = LogQuery {
        tail: Some(1),
        follow: true,
    };
    let mut followed = ok("following", bench.runtime().logs(id, "web", follow).await)?;
    let first = tokio::time::timeout(Duration::from_secs(150), followed.next()).await;
    ensure!(
        matches!(&first, Ok(Some(line)) if line.text == "from the service"),
        "expected the newest line first, got {first:?}"
    );
    let early = tokio::time::timeout(Duration::from_millis(50), followed.next()).await;
    ensure!(
        early.is_err(),
        "expected a followed log to wait for more, got {early:?}"
    );
    ok("removing", bench.runtime().remove(id, spec.generation).await)?;
    let rest = tokio::time::timeout(Duration::from_secs(150), followed.count()).await;
    ensure!(
        rest.is_ok(),
        "expected a followed log to end when its container was removed"
    );
    Ok(())
}

async fn exec(bench: &Bench<'_>) -> Outcome {
    let spec = bench.spec()?.with("web", bench.server("web"))?;
    bench.bring_up(&spec).await?;
    let id = &spec.environment;
    let cases: [(&[&str], &[u8], i32, &str); 4] = [
        (&["true"], b"", 0, ""),
        (&["false"], b"", 1, ""),
        (&["echo", "two words", "$(reboot)"], b"", 0, "two words $(reboot)\n"),
        (&["cat"], b"a line\nand a half", 0, "a line\nand a half"),
    ];
    for (argv, input, status, output) in cases {
        let (exit, printed) = bench.exec(id, "web", argv, input).await?;
        ensure!(
            exit == ExecExit::Status(status),
            "{argv:?}: expected status {status}, got {exit:?}"
        );
        ensure!(printed == output, "{argv:?}: expected {output:?}, got {printed:?}");
    }
    let variables = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let (_, printed) = bench
        .exec_with(id, "web", &["printenv", "GREETING"], b"", &variables)
        .await?;
    ensure!(printed == "hello\n", "expected the variable to be set, got {printed:?}");
    let (exit, _) = bench.exec(id, "web", &["this-command-does-not-exist"], b"").await?;
    ensure!(
        matches!(exit, ExecExit::Failed(_) | ExecExit::Status(126 | 127)),
        "expected a command that does not exist to fail, got {exit:?}"
    );
    bench.greets(id, "web", "web").await
}

async fn engine(bench: &Bench<'_>) -> Outcome {
    let Some(engine) = bench.fixture.engine() else {
        return Ok(());
    };
    let spec = bench
        .spec()?
        .with("engine", engine)?
        .with_volume("data", VolumeOrigin::Empty, Generation(1))?;
    bench.bring_up(&spec).await?;
    let dialled = bench
        .runtime()
        .dial(&spec.environment, &name("engine")?, Target::Administration)
        .await;
    ok("dialling the engine's administration", dialled).map(drop)
}
