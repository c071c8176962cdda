//! Checkouts of sources.

use super::{
    Case,
    bench::{Bench, Draft, Outcome, ensure, name, ok},
};
use crate::{Checkout, RuntimeError, Sake, SourceKey};
use async_trait::async_trait;
use model::{Digest, Generation, Mount, MountKind};
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a source is written once and seen by those who mount it",
        run: |bench| Box::pin(mounted(bench)),
    },
    Case {
        name: "a checkout that fails leaves no source",
        run: |bench| Box::pin(failed(bench)),
    },
    Case {
        name: "a source is not put for a generation that is too old",
        run: |bench| Box::pin(outdated(bench)),
    },
];

/// Writes two files and counts how often it was asked to.
pub(super) struct Files(pub(super) AtomicUsize);

#[async_trait]
impl Checkout for Files {
    async fn write(&self, into: &Path) -> Result<(), String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let write = async {
            tokio::fs::create_dir(into.join("folder")).await?;
            tokio::fs::write(into.join("top"), "at the top").await?;
            tokio::fs::write(into.join("folder/note"), "from the commit").await
        };
        write.await.map_err(|error: std::io::Error| error.to_string())
    }
}

/// Writes a file and fails.
struct Broken;

#[async_trait]
impl Checkout for Broken {
    async fn write(&self, into: &Path) -> Result<(), String> {
        tokio::fs::write(into.join("half"), "half")
            .await
            .map_err(|error| error.to_string())?;
        Err("the object is missing".to_owned())
    }
}

/// A key that no other run of the suite has.
pub(super) fn key(bench: &Bench<'_>) -> Outcome<SourceKey> {
    let digest = Digest::of(bench.fixture.environment().as_str().as_bytes());
    Ok(SourceKey {
        project: name("conformance")?,
        source: name("shop")?,
        commit: name(&digest.as_str()[..40])?,
    })
}

/// An environment that the runtime does not have: nothing is refused to it.
pub(super) fn nobody(bench: &Bench<'_>) -> Sake {
    Sake {
        environment: bench.fixture.environment(),
        generation: Generation(1),
    }
}

async fn mounted(bench: &Bench<'_>) -> Outcome {
    let runtime = bench.runtime();
    let key = key(bench)?;
    let files = Files(AtomicUsize::new(0));
    for _ in 0..2 {
        ok(
            "putting a source",
            runtime.source_put(&nobody(bench), &key, &files).await,
        )?;
    }
    let times = files.0.load(Ordering::Relaxed);
    ensure!(
        times == 1,
        "expected the source to be checked out once, it was {times} times"
    );
    ensure!(
        ok("asking for the source", runtime.source_exists(&key).await)?,
        "expected the source to exist"
    );
    let listed = ok("listing sources", runtime.source_list().await)?;
    ensure!(listed.contains(&key), "expected the source to be listed");

    let mount = |target: &str, subpath: &str, read_only: bool| -> Outcome<Mount> {
        let kind = MountKind::Source {
            source: key.source.clone(),
            subpath: subpath.to_owned(),
        };
        Ok(Mount {
            target: target.to_owned(),
            kind,
            read_only,
        })
    };
    let mut web = bench.server("web");
    web.workload
        .mounts
        .extend([mount("/app", "", false)?, mount("/fixed", "folder", true)?]);
    let mut other = bench.server("other");
    other.workload.mounts.push(mount("/app", "", false)?);
    let mut spec = bench.spec()?.with("web", web)?.with("other", other)?;
    spec.sources.insert(key.source.clone(), key.commit.clone());
    let id = &spec.environment;
    bench.bring_up(&spec).await?;
    for (path, text) in [
        ("/app/top", "at the top"),
        ("/app/folder/note", "from the commit"),
        ("/fixed/note", "from the commit"),
    ] {
        let found = bench.read(id, "web", path).await?;
        ensure!(
            found.as_deref() == Some(text),
            "expected {path} to hold `{text}`, read {found:?}"
        );
    }
    bench.write(id, "web", "/app/top", "changed").await?;
    let own = bench.read(id, "web", "/app/top").await?;
    ensure!(
        own.as_deref() == Some("changed"),
        "expected what the service wrote, read {own:?}"
    );
    let others = bench.read(id, "other", "/app/top").await?;
    ensure!(
        others.as_deref() == Some("at the top"),
        "expected the other service to see the commit, it read {others:?}"
    );
    let (exit, _) = bench.exec(id, "web", &["tee", "/fixed/note"], b"changed").await?;
    ensure!(
        exit != crate::ExecExit::Status(0),
        "expected a read-only mount to refuse a write"
    );

    bench.clean().await?;
    for _ in 0..2 {
        ok("removing the source", runtime.source_remove(&key).await)?;
    }
    ensure!(
        !ok("asking for the source", runtime.source_exists(&key).await)?,
        "expected the source to be gone"
    );
    Ok(())
}

async fn failed(bench: &Bench<'_>) -> Outcome {
    let key = key(bench)?;
    let answer = bench.runtime().source_put(&nobody(bench), &key, &Broken).await;
    let told = answer
        .as_ref()
        .err()
        .is_some_and(|error| error.to_string().contains("the object is missing"));
    ensure!(told, "expected the checkout's own words, got {answer:?}");
    let exists = ok("asking for the source", bench.runtime().source_exists(&key).await)?;
    ensure!(!exists, "expected half a checkout not to be taken for a source");
    ok(
        "putting it again",
        bench
            .runtime()
            .source_put(&nobody(bench), &key, &Files(AtomicUsize::new(0)))
            .await,
    )?;
    ok("removing it", bench.runtime().source_remove(&key).await)
}

async fn outdated(bench: &Bench<'_>) -> Outcome {
    let newer = bench.spec()?.next().with("web", bench.server("web"))?;
    bench.bring_up(&newer).await?;
    let (runtime, key) = (bench.runtime(), key(bench)?);
    let sake = |generation| Sake {
        environment: newer.environment.clone(),
        generation,
    };
    let files = Files(AtomicUsize::new(0));
    let answer = runtime.source_put(&sake(Generation(1)), &key, &files).await;
    ensure!(
        matches!(&answer, Err(RuntimeError::Superseded { newest, .. }) if *newest == newer.generation),
        "expected `Superseded` by {}, got {answer:?}",
        newer.generation
    );
    let exists = ok("asking for the source", runtime.source_exists(&key).await)?;
    ensure!(!exists, "expected nothing to be put for an old generation");
    ok(
        "putting it for the newest generation",
        runtime.source_put(&sake(newer.generation), &key, &files).await,
    )?;
    ok("removing it", runtime.source_remove(&key).await)
}
