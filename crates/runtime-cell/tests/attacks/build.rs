//! Runs a program as a build in a checkout of an environment.

use crate::{packed::Packed, support::workload};
use async_trait::async_trait;
use futures::StreamExt as _;
use model::{EnvironmentSpec, Generation, Job, JobEvent, Mount, MountKind, Product, Root, Stack, Stage};
use runtime::{Checkout, LogQuery, NoSecrets, Runtime as _, Sake, SourceKey};
use runtime_cell::CellRuntime;
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// A commit with one file.
struct Files;

#[async_trait]
impl Checkout for Files {
    async fn write(&self, into: &Path) -> Result<(), String> {
        fs::write(into.join("README"), "x").map_err(|error| error.to_string())
    }
}

/// What it printed. It ends with a status that keeps nothing of what it made.
pub(crate) async fn run(
    runtime: &CellRuntime,
    of: &EnvironmentSpec,
    image: Option<&Packed>,
    argv: &[&str; 3],
) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(2);
    let generation = Generation(NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = format!("attack-{}", generation.0);
    let program = format!("{}\nimport sys; sys.exit(3)\n", argv[2]);
    let argv = [argv[0], argv[1], program.as_str()];
    let mut work = workload(&argv);
    if let Some(image) = image {
        work = image.service(&argv, &[]).workload;
    }
    assert_eq!(image.is_some(), matches!(work.root, Root::Image { .. }));
    let source: model::SourceName = "app".parse().unwrap();
    let commit: model::CommitId = "1".repeat(40).parse().unwrap();
    work.mounts.push(Mount {
        target: "/app".to_owned(),
        kind: MountKind::Source {
            source: source.clone(),
            subpath: String::new(),
        },
        read_only: false,
    });
    let job = Job {
        name: name.parse().unwrap(),
        workload: work,
        on: JobEvent::Build,
        needs: Vec::new(),
        timeout_ms: 300_000,
        product: Some(Product {
            source: source.clone(),
            inputs: None,
            private_to: None,
        }),
        schedule: None,
    };
    let mut made = of.clone();
    let environment = &of.environment;
    made.generation = generation;
    made.sources = [(source.clone(), commit.clone())].into();
    let key = SourceKey {
        project: made.project.clone(),
        source,
        commit,
    };
    let sake = Sake {
        environment: environment.clone(),
        generation,
    };
    let Stack::Services(stack) = &mut made.stack else {
        unreachable!()
    };
    let job_name = job.name.clone();
    stack.jobs.insert(job_name.clone(), job);
    runtime.source_put(&sake, &key, &Files).await.unwrap();
    runtime.apply(&made, &Stage::Envelope, &NoSecrets).await.unwrap();
    let outcome = runtime.job_run(&made, &job_name, &NoSecrets).await.unwrap();
    let lines = runtime.logs(environment, &name, LogQuery::default()).await;
    let lines: Vec<String> = lines.unwrap().map(|line| line.text + "\n").collect().await;
    let printed = lines.concat();
    assert_eq!(outcome.exit, 3, "{outcome:?} {printed}");
    printed
}
