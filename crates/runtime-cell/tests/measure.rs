//! Prints what cells cost. Run by hand: `cargo test --release -p runtime-cell --test measure -- --ignored --nocapture measure`,
//! with `CELL_TEST_OCI=runc` for the other OCI runtime. CPU time says more than the clock does on a machine that is busy.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{Generation, Stage};
use runtime::{NoSecrets, Runtime as _};
use std::{
    fs,
    time::{Duration, Instant},
};
use support::{Rig, all, ready, service, spec};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

fn cpu_ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Milliseconds of CPU time that the cell host, what it started, and all cells have used.
fn cpu_used(instance: &str) -> f64 {
    let group = format!("maquette-{instance}");
    if let Ok(nanoseconds) = fs::read_to_string(format!("/sys/fs/cgroup/cpuacct/{group}/cpuacct.usage")) {
        return nanoseconds.trim().parse::<f64>().unwrap() / 1e6;
    }
    let text = fs::read_to_string(format!("/sys/fs/cgroup/{group}/cpu.stat")).unwrap();
    let microseconds = text.lines().find_map(|l| l.strip_prefix("usage_usec "));
    microseconds.unwrap().parse::<f64>().unwrap() / 1e3
}

fn monitors(instance: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("conmon") && line.contains(&format!("{instance}-e"))
    };
    pids.filter(ours).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints measurements"]
async fn measure() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let listen = "import socket, signal\nl = socket.create_server(('', 8000))\nsignal.pause()";
    for services in [1, 1, 1, 1, 6, 6, 6, 10] {
        let names: Vec<String> = (0..services).map(|n| format!("s{n}")).collect();
        let list: Vec<(&str, model::Service)> = names
            .iter()
            .map(|n| (n.as_str(), service(&["sleep", "1000"], &[])))
            .collect();
        let made = spec(rig.environment(), &list);
        let cpu = cpu_used(rig.instance.as_str());
        let begun = Instant::now();
        runtime.apply(&made, &Stage::Envelope, &NoSecrets).await.unwrap();
        let envelope = begun.elapsed();
        runtime.apply(&made, &all(&made), &NoSecrets).await.unwrap();
        let applied = begun.elapsed();
        for name in &names {
            ready(&runtime, &made.environment, name).await;
        }
        let up = begun.elapsed();
        let cpu = cpu_used(rig.instance.as_str()) - cpu;
        let begun = Instant::now();
        runtime.remove(&made.environment, Generation(1)).await.unwrap();
        eprintln!(
            "{services:>2} services: envelope {:.1} ms, applied {:.1} ms, ready {:.1} ms ({:.1} per service); \
             CPU {cpu:.1} ms ({:.1} per service); removed {:.1} ms",
            envelope.as_secs_f64() * 1e3,
            applied.as_secs_f64() * 1e3,
            up.as_secs_f64() * 1e3,
            (up - envelope).as_secs_f64() * 1e3 / f64::from(services),
            cpu / f64::from(services),
            begun.elapsed().as_secs_f64() * 1e3
        );
    }
    let many = 30;
    let mut environments = Vec::new();
    for _ in 0..many {
        let made = spec(
            rig.environment(),
            &[("web", service(&["python3", "-c", listen], &[8000]))],
        );
        support::up(&runtime, &made).await;
        ready(&runtime, &made.environment, "web").await;
        environments.push(made.environment);
    }
    let all_pss: Vec<u64> = monitors(rig.instance.as_str()).iter().map(|pid| pss(*pid)).collect();
    eprintln!(
        "{} monitors, {} kB PSS each",
        all_pss.len(),
        all_pss.iter().sum::<u64>() / all_pss.len().max(1) as u64
    );
    let host = rig.host_pid();
    let before = cpu_ticks(host);
    tokio::time::sleep(Duration::from_secs(10)).await;
    eprintln!(
        "host with {many} idle environments: {} kB PSS, {} ticks of CPU in 10 s",
        pss(host),
        cpu_ticks(host) - before
    );
    let begun = Instant::now();
    for id in &environments {
        runtime.remove(id, Generation(1)).await.unwrap();
    }
    eprintln!(
        "removed in {:.1} ms each",
        begun.elapsed().as_secs_f64() * 1e3 / f64::from(many)
    );
}
