//! Open, push and close with the shop, and beside each round the floor.

use crate::{
    floor::{Floor, FloorTimes},
    machine::Machine,
    probe,
    spare::{self, SpareRound},
    stats::Spread,
    variant::Variant,
    world::World,
};
use anyhow::{Context, Result};
use clap::Args;
use model::Generation;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};
use store::EnvironmentRow;

const PATIENCE: Duration = Duration::from_secs(30);
/// The service that visitors see.
const PUBLIC: &str = "web";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct ShopArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// The example shop
    #[arg(long)]
    shop: PathBuf,
    /// How often each variant is opened, pushed and closed; a first round more is not counted
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this variant, without spares
    #[arg(long)]
    only: Option<Variant>,
}

/// One step of a generation: from the news until it began, and how long it took, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepTimes {
    pub(crate) step: String,
    pub(crate) began: Spread,
    pub(crate) took: Spread,
}

/// What one variant took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VariantResult {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) services: usize,
    /// From the news of the pull request until Maquette says live.
    pub(crate) open_live: Spread,
    /// Until everything answered to a question from outside.
    pub(crate) open_answers: Spread,
    /// From the push until live at that commit, everything asked again.
    pub(crate) push_answers: Spread,
    /// From the close until the receipt is complete.
    pub(crate) close_receipt: Spread,
    /// The bare processes until everything answered.
    pub(crate) floor: Spread,
    /// The clone of the database in it.
    pub(crate) floor_clone: Spread,
    /// Until each bare service answered.
    pub(crate) floor_services: BTreeMap<String, Spread>,
    /// `open_answers` minus the floor of the same round.
    pub(crate) overhead: Spread,
    /// `open_answers` divided by the floor of the same round.
    pub(crate) ratio: Spread,
    pub(crate) open_steps: Vec<StepTimes>,
    pub(crate) push_steps: Vec<StepTimes>,
    /// The same with a spare.
    #[serde(default)]
    pub(crate) spare: Option<SpareResult>,
}

/// What a variant took whose engines waited for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpareResult {
    pub(crate) open_live: Spread,
    pub(crate) open_answers: Spread,
    /// `open_answers` minus the floor of the same round, which has nothing that waits.
    pub(crate) overhead: Spread,
    pub(crate) ratio: Spread,
    pub(crate) close_receipt: Spread,
    /// PSS of the processes of an idle spare, in KiB.
    pub(crate) pss_kib: Spread,
    /// Their CPU, in percent of a core.
    pub(crate) cpu_percent: Spread,
    pub(crate) open_steps: Vec<StepTimes>,
}

/// What this part writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShopResult {
    pub(crate) machine: Machine,
    pub(crate) goldens_ms: f64,
    pub(crate) variants: Vec<VariantResult>,
}

pub(crate) type Steps = Vec<(String, f64, f64)>;

struct Round {
    live: f64,
    answers: f64,
    push: f64,
    close: f64,
    open_steps: Steps,
    push_steps: Steps,
    floor: FloorTimes,
}

/// Measures, and leaves nothing.
pub(crate) async fn run(args: &ShopArgs) -> Result<()> {
    let machine = Machine::look();
    let world = World::start(&args.shop).await?;
    let measured = tokio::select! {
        measured = measure(&world, args) => measured,
        interrupted = crate::shop::interrupted() => Err(interrupted),
    };
    world.end().await;
    let (goldens_ms, variants) = measured?;
    let result = ShopResult {
        machine,
        goldens_ms,
        variants,
    };
    crate::report::write(&args.out, "shop.json", &result)
}

/// Completes when somebody wants the run to end.
pub(crate) async fn interrupted() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            anyhow::anyhow!("interrupted")
        }
        _ => std::future::pending().await,
    }
}

async fn measure(world: &World, args: &ShopArgs) -> Result<(f64, Vec<VariantResult>)> {
    let goldens_ms = world.goldens().await.context("building the goldens")?;
    tracing::info!("goldens after {goldens_ms:.0} ms");
    let floor = Floor::new()?;
    let variants = args.only.map_or(Variant::ALL.to_vec(), |only| vec![only]);
    let mut all: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    let mut with_spare: BTreeMap<&str, Vec<SpareRound>> = BTreeMap::new();
    for number in 0..=args.rounds {
        for &variant in &variants {
            let round = round(world, &floor, variant, number).await;
            let round = round.with_context(|| format!("round {number} of {}", variant.name()))?;
            tracing::info!(
                "{} {number}: live {:.0} ms, answers {:.0}, floor {:.0}, push {:.0}, close {:.0}",
                variant.name(),
                round.live,
                round.answers,
                round.floor.all,
                round.push,
                round.close
            );
            // The first round fills caches, for both sides.
            if number > 0 {
                all.entry(variant.name()).or_default().push(round);
            }
        }
        if args.only.is_some() {
            continue;
        }
        let spares = spare::round(world, number).await;
        for (name, round) in spares.with_context(|| format!("round {number} with spares"))? {
            tracing::info!(
                "{name} {number} with a spare: live {:.0} ms, answers {:.0}, close {:.0}, idle {:.0} MiB, {:.2} %",
                round.live,
                round.answers,
                round.close,
                round.pss_kib / 1024.0,
                round.cpu_percent
            );
            if number > 0 {
                with_spare.entry(name).or_default().push(round);
            }
        }
    }
    let results = variants.into_iter().map(|variant| {
        let rounds = all.remove(variant.name()).unwrap_or_default();
        let spares = with_spare.remove(variant.name());
        VariantResult {
            spare: spares.map(|spares| spare_summary(&rounds, &spares)),
            ..summary(variant, &rounds)
        }
    });
    Ok((goldens_ms, results.collect()))
}

async fn round(world: &World, floor: &Floor, variant: Variant, number: usize) -> Result<Round> {
    // Whoever comes second finds warmer caches: they take turns.
    let before = if number.is_multiple_of(2) {
        Some(floor_round(world, floor, variant).await?)
    } else {
        None
    };
    let (pull_request, opened) = world.open(variant, &number.to_string()).await?;
    let row = world.live(variant, pull_request, None).await?;
    let live = ms(opened.at);
    answers(world, &row, variant).await?;
    let answered = ms(opened.at);
    let open_steps = steps(world, &row, opened.wall).await?;

    let (commit, pushed) = world.push(variant, &number.to_string()).await?;
    let row = world.live(variant, pull_request, Some(&commit)).await?;
    answers(world, &row, variant).await?;
    let push = ms(pushed.at);
    let push_steps = steps(world, &row, pushed.wall).await?;

    let closed = world.close(variant, pull_request).await?;
    world.receipt(&row.id).await?;
    let close = ms(closed.at);
    let floor = match before {
        Some(times) => times,
        None => floor_round(world, floor, variant).await?,
    };
    Ok(Round {
        live,
        answers: answered,
        push,
        close,
        open_steps,
        push_steps,
        floor,
    })
}

async fn floor_round(world: &World, floor: &Floor, variant: Variant) -> Result<FloorTimes> {
    let golden = world.golden().await?;
    let times = floor
        .round(variant, &world.files(variant), &golden, &world.pool(), &world.scratch())
        .await
        .context("the bare processes")?;
    // What they leave to the kernel must not be the other side's burden.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(times)
}

pub(crate) fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The public service is asked through the gateway, the others by the runtime's dial.
pub(crate) async fn answers(world: &World, row: &EnvironmentRow, variant: Variant) -> Result<()> {
    let (address, head) = (world.entry.address(), world.entry.head(&row.label));
    let asked = variant.pages().into_iter().map(|page| {
        let (cell, id, head) = (world.cell.clone(), row.id.clone(), head.clone());
        tokio::spawn(async move {
            match page.service {
                PUBLIC => probe::until_connected(page, address, &head, PATIENCE).await,
                _ => probe::until_dialled(&*cell, &id, page, PATIENCE).await,
            }
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await??;
    }
    Ok(())
}

pub(crate) async fn steps(world: &World, row: &EnvironmentRow, news: SystemTime) -> Result<Steps> {
    let news = news.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() * 1e3;
    let generation = row.live.unwrap_or(Generation(1));
    let listed = world.store.step_list(&row.id, generation).await?;
    let times = listed.into_iter().map(|step| {
        let began = step.began.0 as f64;
        let ended = step.ended.map_or(began, |at| at.0 as f64);
        (step.step, began - news, ended - began)
    });
    Ok(times.collect())
}

fn summary(variant: Variant, rounds: &[Round]) -> VariantResult {
    let of = |number: fn(&Round) -> f64| Spread::of(rounds.iter().map(number));
    let names = rounds.iter().flat_map(|r| r.floor.services.keys().cloned());
    let names: std::collections::BTreeSet<String> = names.collect();
    let service = |name: String| {
        let times = rounds.iter().filter_map(|r| r.floor.services.get(&name).copied());
        let spread = Spread::of(times);
        (name, spread)
    };
    VariantResult {
        name: variant.name().to_owned(),
        title: variant.title().to_owned(),
        services: variant.services(),
        open_live: of(|r| r.live),
        open_answers: of(|r| r.answers),
        push_answers: of(|r| r.push),
        close_receipt: of(|r| r.close),
        floor: of(|r| r.floor.all),
        floor_clone: of(|r| r.floor.clone),
        floor_services: names.into_iter().map(service).collect(),
        overhead: of(|r| r.answers - r.floor.all),
        ratio: of(|r| r.answers / r.floor.all),
        open_steps: step_times(rounds.iter().map(|r| &r.open_steps)),
        push_steps: step_times(rounds.iter().map(|r| &r.push_steps)),
        spare: None,
    }
}

fn spare_summary(rounds: &[Round], spares: &[SpareRound]) -> SpareResult {
    let of = |number: fn(&SpareRound) -> f64| Spread::of(spares.iter().map(number));
    let beside = |number: fn(f64, f64) -> f64| {
        let pairs = spares.iter().zip(rounds);
        Spread::of(pairs.map(|(spare, round)| number(spare.answers, round.floor.all)))
    };
    SpareResult {
        open_live: of(|r| r.live),
        open_answers: of(|r| r.answers),
        overhead: beside(|answers, floor| answers - floor),
        ratio: beside(|answers, floor| answers / floor),
        close_receipt: of(|r| r.close),
        pss_kib: of(|r| r.pss_kib),
        cpu_percent: of(|r| r.cpu_percent),
        open_steps: step_times(spares.iter().map(|r| &r.steps)),
    }
}

/// In the order of their medians.
fn step_times<'a>(rounds: impl Iterator<Item = &'a Steps>) -> Vec<StepTimes> {
    let mut by_step: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for (step, began, took) in rounds.flatten() {
        let (all_began, all_took) = by_step.entry(step).or_default();
        all_began.push(*began);
        all_took.push(*took);
    }
    let mut times: Vec<StepTimes> = by_step
        .into_iter()
        .map(|(step, (began, took))| StepTimes {
            step: step.to_owned(),
            began: Spread::of(began),
            took: Spread::of(took),
        })
        .collect();
    times.sort_by(|a, b| a.began.median.total_cmp(&b.began.median));
    times
}
