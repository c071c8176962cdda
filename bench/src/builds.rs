//! Builds: a Dockerfile, beside buildah alone; a build without one whose inputs are those of an earlier one; and what a build at full
//! load costs whoever looks at another environment.

use crate::{
    cells::{Cells, service, workload},
    images::finished,
    machine::Machine,
    stats::{Spread, quantile},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use model::{
    Build, CommitId, Dockerfile, EnvironmentId, EnvironmentSpec, Job, JobEvent, JobName, Mount, MountKind, Product,
    Root, ServiceName, Stack,
};
use runtime::{BaseImage, BuildOutcome, NoSecrets, Runtime, Target};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use test_support::image::{Image, base, digest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

/// What the base image is called, where no registry is asked for it.
const BASE: &str = "bench.example/base:1";
const POOL_GIB: u64 = 6;
/// Between two questions to the page.
const TICK: Duration = Duration::from_millis(20);
/// How long a round of questions takes.
const LOOK: Duration = Duration::from_secs(8);
/// Until a build is at full load.
const WARM: Duration = Duration::from_secs(4);
const ANSWER: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BuildsArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// How often each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How much a step of the Dockerfile hashes, in MiB
    #[arg(long, default_value_t = 512)]
    mib: usize,
}

/// What this part writes; times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct BuildsResult {
    pub(crate) machine: Machine,
    /// A Dockerfile is built, until its image can be used.
    pub(crate) ours: Spread,
    /// The same by buildah with layers, until it has its image.
    pub(crate) buildah: Spread,
    /// Ours through buildah's of the same round.
    pub(crate) ratio: Spread,
    /// A native build for the first time.
    pub(crate) native_first: Spread,
    /// The same for another environment.
    pub(crate) native_again: Spread,
    /// Questions to a page of another environment, while nothing builds and while something does.
    pub(crate) quiet: Latency,
    pub(crate) loaded: Latency,
    /// The 95th percentile under load through that without.
    pub(crate) p95_ratio: Spread,
}

/// Latencies of a page, in milliseconds, over the rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: Spread,
    pub(crate) p95: Spread,
}

pub(crate) async fn run(args: &BuildsArgs) -> Result<()> {
    let machine = Machine::look();
    let cells = Cells::start("builds", POOL_GIB).await?;
    let (ours, buildah) = dockerfiles(&cells, args).await?;
    let (first, again) = native(&cells, args.rounds).await?;
    let (quiet, loaded) = looking(&cells, args.rounds.min(3)).await?;
    let ratio = ours.iter().zip(&buildah).map(|(ours, theirs)| ours / theirs);
    let p95 = quiet.iter().zip(&loaded).map(|(quiet, loaded)| loaded.1 / quiet.1);
    let result = BuildsResult {
        machine,
        ratio: Spread::of(ratio),
        ours: Spread::of(ours),
        buildah: Spread::of(buildah),
        native_first: Spread::of(first),
        native_again: Spread::of(again),
        p95_ratio: Spread::of(p95),
        quiet: latency(&quiet),
        loaded: latency(&loaded),
    };
    crate::report::write(&args.out, "builds.json", &result)
}

fn latency(rounds: &[(f64, f64)]) -> Latency {
    Latency {
        p50: Spread::of(rounds.iter().map(|round| round.0)),
        p95: Spread::of(rounds.iter().map(|round| round.1)),
    }
}

/// Three steps that write and hash, of which nothing is in a cache.
fn dockerfile(from: &str, round: usize, mib: usize) -> String {
    let hash =
        |step: usize| format!("RUN busybox dd if=/dev/zero bs=1M count={mib} | busybox sha256sum > /app/sum{step}\n");
    format!(
        "FROM {from}\nENV ROUND={round}\nCOPY . /app\nRUN busybox dd if=/dev/zero of=/app/file bs=1M count=40\n{}{}\
         CMD [\"/bin/busybox\", \"sleep\", \"1\"]\n",
        hash(1),
        hash(2)
    )
}

fn commit(number: usize) -> Result<CommitId> {
    Ok(format!("{number:0>40}").parse()?)
}

/// Times of ours and of buildah's.
async fn dockerfiles(cells: &Cells, args: &BuildsArgs) -> Result<(Vec<f64>, Vec<f64>)> {
    let layer = base().map_err(anyhow::Error::msg)?;
    let alone = Buildah::with(&layer, cells.traces.path())?;
    let image = Image::new(vec![layer], &serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] }));
    let base = base_image(&image, &cells.traces.path().join("base"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let other = || alone.build(round, args.mib);
        let early = (round % 2 == 0).then(other).transpose()?;
        let took = build(cells, &base, round, args.mib).await?;
        let other = match early {
            Some(other) => other,
            None => other()?,
        };
        tracing::info!("Dockerfile {round}: {took:.0} ms, buildah alone {other:.0}");
        if round > 0 {
            ours.push(took);
            theirs.push(other);
        }
    }
    Ok((ours, theirs))
}

fn base_image(image: &Image, place: &Path) -> Result<BaseImage> {
    fs::create_dir_all(place)?;
    let (manifest, config) = image.documents();
    let (manifest, config, config_digest) = images::documented(manifest, config);
    let layer = image.layers.first().context("no layer")?;
    let mut blobs = BTreeMap::new();
    for (digest, bytes) in [(config_digest.to_string(), &config), (digest(layer), layer)] {
        let path = place.join(&digest);
        fs::write(&path, bytes)?;
        blobs.insert(digest, path);
    }
    Ok(BaseImage {
        names: [BASE.to_owned()].into(),
        manifest,
        blobs,
    })
}

/// A generation whose service `web` is built so.
async fn generation(cells: &Cells, number: usize, text: String) -> Result<EnvironmentSpec> {
    let commit = commit(number)?;
    let files = [("Dockerfile", text), ("page", "a page".to_owned())];
    cells.put(&commit, &files).await?;
    let build = Build {
        source: "app".parse()?,
        context: String::new(),
        dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
        args: BTreeMap::new(),
        target: None,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        no_health: false,
        made: None,
        private_to: None,
        tags: BTreeSet::new(),
    };
    let web = service(Root::Build(Box::new(build)), &["unused"], &[]);
    cells.environment(&[("web", web)], Some(&commit)).await
}

async fn build(cells: &Cells, base: &BaseImage, round: usize, mib: usize) -> Result<f64> {
    let spec = generation(cells, round, dockerfile(BASE, round, mib)).await?;
    rustix::fs::sync();
    let since = Instant::now();
    let bases = std::slice::from_ref(base);
    let outcome = cells.cell.build_run(&spec, &"web".parse()?, bases, &NoSecrets).await?;
    let took = since.elapsed().as_secs_f64() * 1e3;
    let BuildOutcome::Built(made) = outcome else {
        bail!("the build failed: {outcome:?}");
    };
    cells.remove(&spec.environment).await?;
    cells.cell.image_remove(&made.image).await?;
    Ok(took)
}

/// Buildah with a storage of its own.
struct Buildah {
    place: PathBuf,
}

/// What the base image is called there.
const ALONE: &str = "localhost/bench-base:1";

impl Buildah {
    /// With the base image, made of this layer.
    fn with(layer: &[u8], place: &Path) -> Result<Self> {
        let alone = Self {
            place: place.join("buildah"),
        };
        let (base, context) = (alone.place.join("base"), alone.place.join("context"));
        fs::create_dir_all(&base)?;
        fs::create_dir_all(&context)?;
        fs::write(base.join("base.tar"), layer)?;
        fs::write(
            base.join("Dockerfile"),
            "FROM scratch\nADD base.tar /\nENV PATH=/bin\nCMD [\"sh\"]\n",
        )?;
        fs::write(context.join("page"), "a page")?;
        finished(alone.command().args(["build", "--quiet", "--tag", ALONE]).arg(&base))?;
        Ok(alone)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.place.join("storage"));
        command.arg("--runroot").arg(self.place.join("run"));
        command
    }

    fn build(&self, round: usize, mib: usize) -> Result<f64> {
        let context = self.place.join("context");
        fs::write(context.join("Dockerfile"), dockerfile(ALONE, round, mib))?;
        rustix::fs::sync();
        let since = Instant::now();
        finished(
            self.command()
                // Not every runtime works on every machine; this needs none, and is the fastest.
                .args([
                    "build",
                    "--quiet",
                    "--isolation",
                    "chroot",
                    "--layers",
                    "--pull-never",
                    "--tag",
                ])
                .arg(format!("bench:{round}"))
                .arg(&context),
        )?;
        Ok(since.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its images are mounted while they are there.
        let _ = finished(self.command().args(["rmi", "--all", "--force"]));
    }
}

/// A build without a Dockerfile: the first time, and for other environments with the same inputs.
async fn native(cells: &Cells, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let commit = commit(900)?;
    cells.put(&commit, &[("package.lock", "one".to_owned())]).await?;
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for all in [&mut first, &mut again] {
            let spec = with_job(cells, &commit, round).await?;
            let since = Instant::now();
            let outcome = cells.cell.job_run(&spec, &"build".parse()?, &NoSecrets).await?;
            all.push(since.elapsed().as_secs_f64() * 1e3);
            ensure!(outcome.exit == 0, "the build failed: {outcome:?}");
            cells.remove(&spec.environment).await?;
        }
    }
    Ok((first, again))
}

async fn with_job(cells: &Cells, commit: &CommitId, round: usize) -> Result<EnvironmentSpec> {
    let name: JobName = "build".parse()?;
    let program = format!(
        "import os\nos.mkdir('made')\nfor i in range(2000):\n    with open(f'made/{{i}}', 'w') as f:\n        f.write('{round}')"
    );
    let mut workload = workload(Root::Host, &["python3", "-c", &program]);
    workload.working_dir = Some("/app".to_owned());
    workload.mounts.push(Mount {
        target: "/app".to_owned(),
        kind: MountKind::Source {
            source: "app".parse()?,
            subpath: String::new(),
        },
        read_only: false,
    });
    let job = Job {
        name: name.clone(),
        workload,
        on: JobEvent::Build,
        needs: Vec::new(),
        timeout_ms: 60_000,
        product: Some(Product {
            source: "app".parse()?,
            inputs: Some(BTreeMap::from([("package.lock".to_owned(), "1".to_owned())])),
            private_to: None,
        }),
        schedule: None,
    };
    let mut spec = cells.environment(&[], Some(commit)).await?;
    let Stack::Services(stack) = &mut spec.stack else {
        bail!("no services");
    };
    stack.jobs.insert(name, job);
    Ok(spec)
}

/// Median and 95th percentile of a page's latency, with nothing beside it and beside a build that takes every core.
async fn looking(cells: &Cells, rounds: usize) -> Result<(Vec<(f64, f64)>, Vec<(f64, f64)>)> {
    let argv = [
        "/bin/busybox",
        "httpd",
        "-f",
        "-p",
        "8080",
        "-h",
        "/usr/share/common-licenses",
    ];
    let page = service(Root::Host, &argv, &[8080]);
    let spec = cells.environment(&[("page", page)], None).await?;
    cells.start_services(&spec).await?;
    let base = Image::new(
        vec![base().map_err(anyhow::Error::msg)?],
        &serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] }),
    );
    let base = base_image(&base, &cells.traces.path().join("base"))?;
    // Whoever was never asked is slow once.
    questions(&cells.cell, &spec.environment).await?;
    let (mut quiet, mut loaded) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        quiet.push(questions(&cells.cell, &spec.environment).await?);
        let text = format!("FROM {BASE}\nENV ROUND={round}\n{}", burning());
        let building = generation(cells, 950 + round, text).await?;
        let web: ServiceName = "web".parse()?;
        let bases = [base.clone()];
        let build = cells.cell.build_run(&building, &web, &bases, &NoSecrets);
        let look = async {
            sleep(WARM).await;
            questions(&cells.cell, &spec.environment).await
        };
        let (built, seen) = tokio::join!(build, look);
        ensure!(matches!(built?, BuildOutcome::Built(_)), "the build failed");
        loaded.push(seen?);
        cells.remove(&building.environment).await?;
        tracing::info!(
            "a page beside nothing and beside a build: {:?} {:?}",
            quiet.last(),
            loaded.last()
        );
    }
    cells.remove(&spec.environment).await?;
    Ok((quiet, loaded))
}

/// A step that keeps every core busy for longer than anybody looks.
fn burning() -> String {
    let seconds = (WARM + LOOK).as_secs() + 3;
    let each = format!("busybox timeout {seconds} sh -c 'while :; do :; done' & ");
    format!("RUN {}wait; true\n", each.repeat(4))
}

/// Asks for the page at a fixed rate; a latency counts from the time at which a question was due. Milliseconds.
async fn questions(cell: &Arc<dyn Runtime>, environment: &EnvironmentId) -> Result<(f64, f64)> {
    let begun = tokio::time::Instant::now();
    let count = u32::try_from(LOOK.as_millis() / TICK.as_millis())?;
    let mut asked = JoinSet::new();
    for number in 0..count {
        let due = begun + TICK * number;
        sleep_until(due).await;
        let (cell, environment) = (Arc::clone(cell), environment.clone());
        asked.spawn(async move {
            timeout(ANSWER, ask(&*cell, &environment)).await??;
            anyhow::Ok(due.elapsed().as_secs_f64() * 1e3)
        });
    }
    let mut times = Vec::new();
    while let Some(time) = asked.join_next().await {
        times.push(time??);
    }
    times.sort_by(f64::total_cmp);
    Ok((quantile(&times, 0.5), quantile(&times, 0.95)))
}

async fn ask(cell: &dyn Runtime, environment: &EnvironmentId) -> Result<()> {
    let mut stream = cell.dial(environment, &"page".parse()?, Target::Port(8080)).await?;
    stream.write_all(b"GET /Apache-2.0 HTTP/1.0\r\n\r\n").await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    ensure!(text.starts_with(b"HTTP/1.") && text.len() > 5_000, "not the page");
    Ok(())
}
