//! What a build leaves to others: its group lies beside those of the environments and weighs next to nothing, and is bounded, listed
//! and removed with its environment all the same.

use crate::{
    rig::{BASE, Bench, build, web},
    support::{PATIENCE, ready, service, spec, up},
};
use model::{Limits, Resource, Stage};
use runtime::{NoSecrets, Runtime as _};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// For so long it is measured who gets the processors.
const LOOK: Duration = Duration::from_secs(4);
const PIDS: u64 = 777;

/// A file of a group, wherever its hierarchy is mounted.
fn file(group: &Path, name: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let mut found = std::iter::once(root.to_owned())
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(group).join(name));
    found.find(|file| file.is_file())
}

fn says(group: &Path, name: &str) -> String {
    let file = file(group, name).unwrap_or_else(|| panic!("{} has no {name}", group.display()));
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Microseconds of the processors that a group has had.
fn used(group: &Path) -> u64 {
    if file(group, "cpuacct.usage").is_some() {
        return says(group, "cpuacct.usage").parse::<u64>().unwrap() / 1000;
    }
    let text = says(group, "cpu.stat");
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_build_takes_what_nobody_else_wants_and_belongs_to_its_environment() {
    let bench = Bench::start().await;
    let id = bench.environment.clone();
    let loops = std::thread::available_parallelism().unwrap().get();
    let burn = format!(
        "i=0; while [ $i -lt {} ]; do (while :; do :; done) & i=$((i+1)); done; echo burning; wait",
        loops.max(2)
    );
    let dockerfile = format!("FROM {BASE}\nRUN {burn}\n");
    let mut burning = bench.generation(1, &[("Dockerfile", &dockerfile)], &build()).await;
    burning.limits = Limits {
        pids: Some(PIDS),
        ..Limits::default()
    };
    bench
        .runtime
        .apply(&burning, &Stage::Envelope, &NoSecrets)
        .await
        .unwrap();

    let live = bench.rig.environment();
    let watched = async {
        let since = Instant::now();
        while !bench.printed().await.contains("\nburning") {
            assert!(since.elapsed() < PATIENCE, "{}", bench.rig.log());
            sleep(Duration::from_millis(50)).await;
        }
        let made = spec(live.clone(), &[("page", service(&["sh", "-c", &burn], &[]))]);
        up(&bench.runtime, &made).await;
        ready(&bench.runtime, &live, "page").await;

        let instance = PathBuf::from(format!("maquette-{}", bench.rig.instance));
        let builds = instance.join("builds");
        let (of_build, of_page) = (builds.join(id.as_str()), instance.join(live.as_str()));
        let weight = ["cpu.weight", "cpu.shares"]
            .into_iter()
            .find(|name| file(&builds, name).is_some());
        let idle = file(&builds, "cpu.idle").is_some() && says(&builds, "cpu.idle") == "1";
        assert!(
            idle || ["1", "2"].contains(&says(&builds, weight.unwrap()).as_str()),
            "the least weight"
        );
        assert_eq!(
            says(&of_build, "pids.max"),
            PIDS.to_string(),
            "the limits of its environment"
        );

        let before = (used(&of_build), used(&of_page));
        sleep(LOOK).await;
        let (built, shown) = (used(&of_build) - before.0, used(&of_page) - before.1);
        assert!(shown > 4 * built, "the build had {built} µs, the other one {shown} µs");

        // What is there of it was announced before.
        let announced = [
            bench.runtime.build_footprint(&burning, &web()),
            bench.runtime.footprint(&burning, &Stage::Envelope),
        ];
        let announced: BTreeSet<Resource> = announced.into_iter().flatten().collect();
        let there = bench.runtime.inventory(Some(&id)).await.unwrap();
        assert!(
            there
                .iter()
                .any(|resource| resource.name == format!("builds/{id}/b-web")),
            "{there:?}"
        );
        let unknown: Vec<_> = there.iter().filter(|resource| !announced.contains(resource)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");

        bench.runtime.remove(&live, burning.generation).await.unwrap();
        bench.runtime.remove(&id, burning.generation).await.unwrap();
        assert!(bench.runtime.inventory(None).await.unwrap().is_empty());
        assert!(
            file(&builds, "cgroup.procs").is_none(),
            "there is nothing left to build"
        );
    };
    let (built, ()) = tokio::join!(bench.run(&burning), watched);
    assert!(
        built.is_err() || matches!(built, Ok(runtime::BuildOutcome::Failed { .. })),
        "{built:?}"
    );
    bench.end().await;
}
