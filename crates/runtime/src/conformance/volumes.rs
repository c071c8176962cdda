//! Volumes, snapshots and clones.

use super::{
    Case,
    bench::{Bench, Draft, Outcome, ensure, mounting, name, ok},
};
use crate::{NoSecrets, RuntimeError, Sake};
use model::{EnvironmentId, EnvironmentSpec, Generation, SnapshotId, Stage, VolumeOrigin};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a volume is kept while its incarnation is the same, else replaced",
        run: |bench| Box::pin(incarnations(bench)),
    },
    Case {
        name: "two services share a volume that both mount",
        run: |bench| Box::pin(shared(bench)),
    },
    Case {
        name: "a clone and what it was cloned from do not see each other",
        run: |bench| Box::pin(cloned(bench)),
    },
    Case {
        name: "a snapshot outlives its environment and is removed once",
        run: |bench| Box::pin(snapshots(bench)),
    },
    Case {
        name: "a snapshot that does not exist is refused before anything is made",
        run: |bench| Box::pin(absent(bench)),
    },
    Case {
        name: "snapshots are neither made nor removed for a generation that is too old",
        run: |bench| Box::pin(outdated(bench)),
    },
];

/// An environment with a service that writes to a volume.
fn with_disk(bench: &Bench<'_>, origin: VolumeOrigin) -> Outcome<EnvironmentSpec> {
    bench
        .spec()?
        .with("web", mounting(bench.server("web"), "disk", "/data")?)?
        .with_volume("disk", origin, Generation(1))
}

/// Unique ids are made from the environment's, so that suites may run at the same time.
fn snapshot(environment: &EnvironmentId) -> Outcome<SnapshotId> {
    name(&format!("k{environment}"))
}

async fn holds(bench: &Bench<'_>, environment: &EnvironmentId, path: &str, text: Option<&str>) -> Outcome {
    let found = bench.read(environment, "web", path).await?;
    ensure!(
        found.as_deref() == text,
        "expected {path} in {environment} to hold {text:?}, read {found:?}"
    );
    Ok(())
}

async fn stop(bench: &Bench<'_>, spec: &EnvironmentSpec) -> Outcome {
    let services = [name("web")?];
    ok(
        "stopping",
        bench
            .runtime()
            .services_stop(&spec.environment, spec.generation, &services)
            .await,
    )
}

async fn incarnations(bench: &Bench<'_>) -> Outcome {
    let first = with_disk(bench, VolumeOrigin::Empty)?;
    let id = &first.environment;
    bench.bring_up(&first).await?;
    bench.write(id, "web", "/data/note", "one").await?;
    let second = first.clone().next();
    bench.bring_up(&second).await?;
    holds(bench, id, "/data/note", Some("one")).await?;

    let third = second.next().with_volume("disk", VolumeOrigin::Empty, Generation(3))?;
    stop(bench, &third).await?;
    bench.bring_up(&third).await?;
    holds(bench, id, "/data/note", None).await?;
    let fact = bench.observe(id).await?.volumes.remove(&name("disk")?);
    ensure!(
        fact.as_ref().is_some_and(|fact| fact.incarnation == Generation(3)),
        "expected incarnation 3 to be observed, saw {fact:?}"
    );
    Ok(())
}

async fn shared(bench: &Bench<'_>) -> Outcome {
    let spec =
        with_disk(bench, VolumeOrigin::Empty)?.with("other", mounting(bench.server("other"), "disk", "/elsewhere")?)?;
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    bench.write(id, "other", "/elsewhere/note", "from the other").await?;
    holds(bench, id, "/data/note", Some("from the other")).await
}

async fn cloned(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().snapshots {
        return Ok(());
    }
    let origin = with_disk(bench, VolumeOrigin::Empty)?;
    bench.bring_up(&origin).await?;
    bench.write(&origin.environment, "web", "/data/note", "origin").await?;
    stop(bench, &origin).await?;
    let id = snapshot(&origin.environment)?;
    let disk = name("disk")?;
    ok(
        "making a snapshot",
        bench
            .runtime()
            .snapshot_create(&origin.environment, origin.generation, &disk, &id)
            .await,
    )?;
    let result = async {
        let [one, two] = [
            with_disk(bench, VolumeOrigin::Snapshot(id.clone()))?,
            with_disk(bench, VolumeOrigin::Snapshot(id.clone()))?,
        ];
        bench.bring_up(&origin).await?;
        bench.bring_up(&one).await?;
        bench.bring_up(&two).await?;
        bench
            .write(&origin.environment, "web", "/data/note", "changed in the origin")
            .await?;
        bench
            .write(&one.environment, "web", "/data/note", "changed in a clone")
            .await?;
        holds(bench, &origin.environment, "/data/note", Some("changed in the origin")).await?;
        holds(bench, &one.environment, "/data/note", Some("changed in a clone")).await?;
        holds(bench, &two.environment, "/data/note", Some("origin")).await?;

        // The snapshot exists, so making it again does nothing, whatever the volume holds now.
        stop(bench, &origin).await?;
        ok(
            "making it again",
            bench
                .runtime()
                .snapshot_create(&origin.environment, origin.generation, &disk, &id)
                .await,
        )?;
        let three = with_disk(bench, VolumeOrigin::Snapshot(id.clone()))?;
        bench.bring_up(&three).await?;
        holds(bench, &three.environment, "/data/note", Some("origin")).await
    };
    let result = result.await;
    bench.clean().await?;
    ok(
        "removing the snapshot",
        bench.runtime().snapshot_remove(None, &id).await,
    )?;
    result
}

async fn snapshots(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().snapshots {
        return Ok(());
    }
    let spec = with_disk(bench, VolumeOrigin::Empty)?;
    bench.apply(&spec, &Stage::Envelope).await?;
    let id = snapshot(&spec.environment)?;
    ok(
        "making a snapshot",
        bench
            .runtime()
            .snapshot_create(&spec.environment, spec.generation, &name("disk")?, &id)
            .await,
    )?;
    ok(
        "removing the environment",
        bench.runtime().remove(&spec.environment, spec.generation).await,
    )?;
    let listed = ok("listing snapshots", bench.runtime().snapshot_list().await)?;
    ensure!(
        listed.contains(&id),
        "expected the snapshot {id} to be listed, got {listed:?}"
    );
    for _ in 0..2 {
        ok(
            "removing the snapshot",
            bench.runtime().snapshot_remove(None, &id).await,
        )?;
    }
    let listed = ok("listing snapshots", bench.runtime().snapshot_list().await)?;
    ensure!(
        !listed.contains(&id),
        "expected the snapshot {id} to be gone, got {listed:?}"
    );
    Ok(())
}

async fn absent(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().snapshots {
        return Ok(());
    }
    let spec = with_disk(bench, VolumeOrigin::Snapshot(name("gabsent")?))?;
    match bench.runtime().apply(&spec, &Stage::Envelope, &NoSecrets).await {
        Err(RuntimeError::NotFound { what }) => {
            ensure!(
                what.contains("gabsent"),
                "expected the message to name the snapshot, it names `{what}`"
            );
        }
        other => return Err(format!("expected `NotFound`, got {other:?}")),
    }
    bench
        .apply(&with_disk(bench, VolumeOrigin::Empty)?, &Stage::Envelope)
        .await?;
    let missing = bench
        .runtime()
        .snapshot_create(&spec.environment, spec.generation, &name("disk")?, &name("kabsent")?)
        .await;
    ensure!(
        matches!(missing, Err(RuntimeError::NotFound { .. })),
        "expected `NotFound` for a snapshot of a volume that does not exist, got {missing:?}"
    );
    Ok(())
}

async fn outdated(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().snapshots {
        return Ok(());
    }
    let first = with_disk(bench, VolumeOrigin::Empty)?;
    let environment = &first.environment;
    bench.apply(&first, &Stage::Envelope).await?;
    let (runtime, disk, id) = (bench.runtime(), name("disk")?, snapshot(environment)?);
    let make = |generation| {
        let (disk, id) = (&disk, &id);
        async move { runtime.snapshot_create(environment, generation, disk, id).await }
    };
    let remove = |generation| {
        let (environment, id) = (environment.clone(), &id);
        async move {
            let sake = Sake {
                environment,
                generation,
            };
            runtime.snapshot_remove(Some(&sake), id).await
        }
    };
    // Making a snapshot is a change like any other: older generations are refused from then on.
    ok("making a snapshot for generation 3", make(Generation(3)).await)?;
    for (action, answer) in [
        ("making", make(Generation(2)).await),
        ("removing", remove(Generation(2)).await),
        ("applying", runtime.apply(&first, &Stage::Envelope, &NoSecrets).await),
    ] {
        ensure!(
            matches!(
                &answer,
                Err(RuntimeError::Superseded {
                    newest: Generation(3),
                    ..
                })
            ),
            "{action} for an older generation: expected `Superseded` by 3, got {answer:?}"
        );
    }
    let listed = ok("listing snapshots", runtime.snapshot_list().await)?;
    ensure!(listed.contains(&id), "expected the snapshot to be left alone");
    ok("removing it for generation 3", remove(Generation(3)).await)?;
    let listed = ok("listing snapshots", runtime.snapshot_list().await)?;
    ensure!(!listed.contains(&id), "expected the snapshot to be gone");
    Ok(())
}
