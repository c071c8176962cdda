//! An environment that no limit keeps from the processors, beside one that wants some of them, too.

use crate::Town;
use crate::support::exec;
use model::EnvironmentId;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// For so long it is measured who gets the processors.
const LOOK: Duration = Duration::from_secs(3);
/// Far more than there are processors.
const MANY: usize = 24;

/// Microseconds of the processors that an environment has had.
fn used(town: &Town, environment: &EnvironmentId) -> u64 {
    let group = |hierarchy: &Path| {
        hierarchy
            .join(format!("maquette-{}", town.rig.instance))
            .join(environment.as_str())
    };
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let groups: Vec<PathBuf> = hierarchies
        .chain([root.to_owned()])
        .map(|place| group(&place))
        .collect();
    let read = |name: &str| {
        groups
            .iter()
            .find_map(|group| fs::read_to_string(group.join(name)).ok())
    };
    if let Some(nanoseconds) = read("cpuacct.usage") {
        return nanoseconds.trim().parse::<u64>().unwrap() / 1000;
    }
    let text = read("cpu.stat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.unwrap().parse().unwrap()
}

fn burn(count: usize) -> String {
    format!(
        "import os, signal\nfor n in range({count} - 1):\n    if os.fork() == 0: break\nsignal.alarm(60)\nwhile True: pass\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_neighbour_leaves_others_their_part_of_the_processors() {
    let town = Town::build().await;
    let own = std::thread::available_parallelism().unwrap().get();
    let (many, few) = (burn(MANY), burn(own));
    let (many, few) = (["python3", "-c", &many], ["python3", "-c", &few]);
    let attack = exec(&town.runtime, &town.attacker, "shell", &many);
    let work = exec(&town.runtime, &town.victim, "web", &few);
    let look = async {
        let begun = Instant::now();
        let both = || [used(&town, &town.attacker), used(&town, &town.victim)];
        // Until both are at it.
        let first = both();
        while both().iter().zip(first).any(|(now, then)| now - then < 200_000) {
            assert!(begun.elapsed() < Duration::from_secs(50), "{first:?} {:?}", both());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = both();
        tokio::time::sleep(LOOK).await;
        let after = both();
        let [taken, left] = [after[0] - before[0], after[1] - before[1]];
        // Alike, whatever the numbers of their processes: by processes the victim would have a twelfth of what the attacker has.
        assert!(left * 2 > taken, "the attacker had {taken} µs, its neighbour {left} µs");
        town.victim_lives().await;
    };
    tokio::select! {
        _ = attack => panic!("the attack has ended"),
        _ = work => panic!("the work has ended"),
        () = look => {}
    }
    town.end().await;
}
