//! The same openings with a spare: its engines wait for the pull request.

use crate::{
    procfs,
    shop::{Steps, answers, ms, steps},
    variant::Variant,
    world::World,
};
use anyhow::{Result, ensure};
use model::EnvironmentId;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long an idle spare is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// What was measured of one variant in one round.
#[derive(Debug)]
pub(crate) struct SpareRound {
    /// From the news of the pull request until Maquette says live.
    pub(crate) live: f64,
    /// Until everything answered to a question from outside.
    pub(crate) answers: f64,
    /// From the close until the receipt is complete.
    pub(crate) close: f64,
    pub(crate) steps: Steps,
    /// Of the idle spare's processes, in KiB.
    pub(crate) pss_kib: f64,
    /// Of the same, in percent of a core.
    pub(crate) cpu_percent: f64,
}

/// One round of all variants. Until it and after it there is no spare.
pub(crate) async fn round(world: &World, number: usize) -> Result<BTreeMap<&'static str, SpareRound>> {
    let mut rounds = BTreeMap::new();
    for variant in Variant::ALL {
        world.reconcile(true).await?;
        let spares = world.spares(true).await?;
        // Frozen a moment after they are ready.
        sleep(Duration::from_secs(1)).await;
        let project = variant.name();
        let Some(spare) = spares.iter().find(|row| row.project.as_str() == project) else {
            anyhow::bail!("{project} has no spare");
        };
        let (pss_kib, cpu_percent) = idle(&spare.id).await?;
        let (pull_request, opened) = world.open(variant, &format!("{number}-spare")).await?;
        let row = world.live(variant, pull_request, None).await?;
        let live = ms(opened.at);
        answers(world, &row, variant).await?;
        let answered = ms(opened.at);
        ensure!(row.id == spare.id, "the spare of {project} was not adopted");
        let steps = steps(world, &row, opened.wall).await?;
        let closed = world.close(variant, pull_request).await?;
        world.receipt(&row.id).await?;
        let close = ms(closed.at);
        let round = SpareRound {
            live,
            answers: answered,
            close,
            steps,
            pss_kib,
            cpu_percent,
        };
        rounds.insert(project, round);
        world.reconcile(false).await?;
        world.spares(false).await?;
    }
    Ok(rounds)
}

/// PSS in KiB and CPU in percent of a core of the processes of an environment.
async fn idle(id: &EnvironmentId) -> Result<(f64, f64)> {
    let mut pids = Vec::new();
    collect(Path::new("/sys/fs/cgroup"), id.as_str(), false, 0, &mut pids);
    pids.sort_unstable();
    pids.dedup();
    ensure!(!pids.is_empty(), "the spare {id} has no process");
    let cpu = || pids.iter().map(|pid| procfs::cpu_ms(*pid)).sum::<f64>();
    let (since, before) = (Instant::now(), cpu());
    sleep(WATCHED).await;
    let percent = (cpu() - before) / ms(since) * 100.0;
    let pss: u64 = pids.iter().map(|pid| procfs::memory(*pid).pss).sum();
    Ok((pss as f64, percent))
}

/// The processes of all control groups below a group of this name.
fn collect(directory: &Path, name: &str, inside: bool, depth: usize, pids: &mut Vec<u32>) {
    if inside {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if depth < 8 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let inside = inside || entry.file_name().to_str() == Some(name);
            collect(&entry.path(), name, inside, depth + 1, pids);
        }
    }
}
