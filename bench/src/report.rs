//! Turns what the parts have written into `RESULTS.md` and `results.json`.

mod containers;

use crate::{
    builds::BuildsResult,
    door::{DoorResult, DoorWay},
    idle::IdleResult,
    images::ImagesResult,
    machine::Machine,
    proxy::{GatewayResult, WayResult},
    shop::{ShopResult, SpareResult, StepTimes, VariantResult},
};
use anyhow::{Context, Result};
use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Where to read and write.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// What the parts have written
    #[arg(long = "in")]
    from: PathBuf,
    /// Where the tables go
    #[arg(long)]
    to: PathBuf,
    /// The commit that was measured
    #[arg(long)]
    commit: String,
}

/// Milliseconds over the floor that one service may cost.
const PER_SERVICE: f64 = 25.0;
/// Milliseconds over the floor in all.
const IN_ALL: f64 = 150.0;
/// Milliseconds until the shop without RabbitMQ is live.
const SMALL_LIVE: f64 = 1000.0;
/// Milliseconds until the whole shop is live when its engines wait for it.
const SPARE_LIVE: f64 = 1500.0;
const RSS_MIB: f64 = 100.0;
const CPU_PERCENT: f64 = 0.5;
const PSS_SERVICE_MIB: f64 = 1.5;
const PSS_ENVIRONMENT_MIB: f64 = 1.0;
const DOOR_SHARE_PERCENT: f64 = 80.0;
const DOOR_SETUP_MS: f64 = 1.0;

/// Writes a part's result.
pub(crate) fn write(directory: &Path, name: &str, result: &impl Serialize) -> Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(name);
    fs::write(&path, serde_json::to_vec_pretty(result)?)
        .with_context(|| format!("{} can not be written", path.display()))
}

fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>> {
    match fs::read(directory.join(name)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| name.to_owned())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| name.to_owned()),
    }
}

/// Makes the tables. A part that failed is missing, and that is said.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let shop: Option<ShopResult> = read(&args.from, "shop.json")?;
    let idle: Option<IdleResult> = read(&args.from, "idle.json")?;
    let gateway: Option<GatewayResult> = read(&args.from, "gateway.json")?;
    let door: Option<DoorResult> = read(&args.from, "door.json")?;
    let images: Option<ImagesResult> = read(&args.from, "images.json")?;
    let builds: Option<BuildsResult> = read(&args.from, "builds.json")?;
    let mut text = String::from(
        "# What Maquette costs\n\nMade by `make bench`; [README.md](README.md) says what is measured and how to read it. Numbers are medians \
         with the least and the largest in brackets. A goal that is not met stands here like one that is.\n\n",
    );
    let machines = [
        shop.as_ref().map(|r| &r.machine),
        idle.as_ref().map(|r| &r.machine),
        gateway.as_ref().map(|r| &r.machine),
        door.as_ref().map(|r| &r.machine),
        images.as_ref().map(|r| &r.machine),
        builds.as_ref().map(|r| &r.machine),
    ];
    machine(&mut text, &machines, &args.commit)?;
    match &shop {
        Some(result) => shop_tables(&mut text, result)?,
        None => text.push_str("## From a pull request to a live shop\n\nThis part failed; see the run's output.\n\n"),
    }
    match &idle {
        Some(result) => idle_tables(&mut text, result)?,
        None => text.push_str("## At rest\n\nThis part failed; see the run's output.\n\n"),
    }
    match &gateway {
        Some(result) => gateway_tables(&mut text, result)?,
        None => text.push_str("## The gateway's share of a request\n\nThis part failed; see the run's output.\n\n"),
    }
    match &door {
        Some(result) => door_tables(&mut text, result)?,
        None => text.push_str(
            "## The door's share of a connection\n\nThis part failed, or did not run; see the run's output.\n\n",
        ),
    }
    match &images {
        Some(result) => containers::images(&mut text, result)?,
        None => text.push_str("## Images\n\nThis part failed, or did not run; see the run's output.\n\n"),
    }
    match &builds {
        Some(result) => containers::builds(&mut text, result)?,
        None => text.push_str("## Builds\n\nThis part failed, or did not run; see the run's output.\n\n"),
    }
    fs::write(args.to.join("RESULTS.md"), format!("{}\n", text.trim_end()))?;
    let json = serde_json::json!({
        "commit": args.commit, "shop": shop, "idle": idle, "gateway": gateway, "door": door, "images": images, "builds": builds,
    });
    fs::write(args.to.join("results.json"), format!("{json:#}\n"))?;
    Ok(())
}

fn machine(text: &mut String, machines: &[Option<&Machine>], commit: &str) -> Result<()> {
    let Some(first) = machines.iter().flatten().next() else {
        return Ok(());
    };
    writeln!(
        text,
        "Commit {commit} on {} cores ({}), {} MiB, {}, kernel {}.",
        first.cores, first.processor, first.memory_mib, first.system, first.kernel
    )?;
    let mut busy: Vec<&str> = machines
        .iter()
        .flatten()
        .flat_map(|m| m.busy.iter().map(String::as_str))
        .collect();
    busy.sort_unstable();
    busy.dedup();
    let load = machines.iter().flatten().map(|m| m.load).fold(0.0, f64::max);
    if busy.is_empty() {
        writeln!(
            text,
            "Nothing else used more than a twentieth of a core in the second before any part (load before: at most {load:.1}).\n"
        )?;
    } else {
        writeln!(
            text,
            "**The machine was not idle**: in the second before a part, this ran too: {} (load before: at most {load:.1}). Times are \
             too high, on both sides.\n",
            busy.join(", ")
        )?;
    }
    Ok(())
}

fn verdict(measured: f64, goal: f64) -> &'static str {
    if measured <= goal { "met" } else { "**missed**" }
}

fn shop_tables(text: &mut String, result: &ShopResult) -> Result<()> {
    text.push_str("## From a pull request to a live shop\n\nMilliseconds, with a warm golden.\n\n");
    text.push_str("| | ");
    text.push_str(
        &result
            .variants
            .iter()
            .map(|v| v.title.as_str())
            .collect::<Vec<_>>()
            .join(" | "),
    );
    text.push_str(" |\n|---|");
    text.push_str(&"---|".repeat(result.variants.len()));
    text.push('\n');
    let mut row = |name: &str, cell: &dyn Fn(&VariantResult) -> String| {
        let cells: Vec<String> = result.variants.iter().map(cell).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))
    };
    row("news received → live", &|v| v.open_live.text())?;
    row("news received → everything answers", &|v| v.open_answers.text())?;
    row("the floor: bare processes → everything answers", &|v| v.floor.text())?;
    row("of that, the clone of the database", &|v| v.floor_clone.text())?;
    row("**over the floor**", &|v| format!("**{}**", v.overhead.text()))?;
    row("times the floor", &|v| {
        format!("{:.2} ({:.2}–{:.2})", v.ratio.median, v.ratio.min, v.ratio.max)
    })?;
    row("over the floor, per service", &|v| {
        format!("{:.1}", v.overhead.median / v.services as f64)
    })?;
    row("push → live, everything answers", &|v| v.push_answers.text())?;
    row("close → receipt complete", &|v| v.close_receipt.text())?;
    let spare =
        |of: &dyn Fn(&SpareResult) -> String, v: &VariantResult| v.spare.as_ref().map_or_else(|| "–".to_owned(), of);
    row("with a spare: news received → live", &|v| {
        spare(&|s| s.open_live.text(), v)
    })?;
    row("with a spare: → everything answers", &|v| {
        spare(&|s| s.open_answers.text(), v)
    })?;
    row("**with a spare: over the floor**", &|v| {
        format!("**{}**", spare(&|s| s.overhead.text(), v))
    })?;
    row("with a spare: times the floor", &|v| spare(&|s| s.ratio.text_fine(), v))?;
    row("with a spare: close → receipt complete", &|v| {
        spare(&|s| s.close_receipt.text(), v)
    })?;
    row("an idle spare: PSS, MiB", &|v| {
        spare(&|s| format!("{:.0}", s.pss_kib.median / 1024.0), v)
    })?;
    row("an idle spare: CPU, percent of a core", &|v| {
        spare(&|s| s.cpu_percent.text_fine(), v)
    })?;
    row("rounds", &|v| v.open_live.rounds.to_string())?;
    text.push_str("\n| goal | measured | |\n|---|---|---|\n");
    for v in &result.variants {
        let over = v.overhead.median;
        let each = over / v.services as f64;
        let name = &v.name;
        writeln!(
            text,
            "| {name}: at most {PER_SERVICE} ms a service over the floor | {each:.1} ms | {} |",
            verdict(each, PER_SERVICE)
        )?;
        writeln!(
            text,
            "| {name}: at most {IN_ALL} ms in all over the floor | {over:.0} ms | {} |",
            verdict(over, IN_ALL)
        )?;
        if let Some(spare) = v.spare.as_ref().filter(|_| v.name == "shop") {
            let live = spare.open_answers.median;
            writeln!(
                text,
                "| {name}: live in at most {SPARE_LIVE} ms with a spare | {live:.0} ms | {} |",
                verdict(live, SPARE_LIVE)
            )?;
        }
        if v.name == "shop-small" {
            let live = v.open_answers.median;
            writeln!(
                text,
                "| {name}: live in at most {SMALL_LIVE} ms | {live:.0} ms | {} |",
                verdict(live, SMALL_LIVE)
            )?;
        }
    }
    writeln!(
        text,
        "\nThe golden was built in {:.0} ms, before anything was measured.\n",
        result.goldens_ms
    )?;
    for v in &result.variants {
        steps(text, &format!("{}: opening, step by step", v.name), &v.open_steps)?;
        if let Some(spare) = &v.spare {
            let title = format!("{}: opening with a spare, step by step", v.name);
            steps(text, &title, &spare.open_steps)?;
        }
        steps(text, &format!("{}: pushing, step by step", v.name), &v.push_steps)?;
        writeln!(
            text,
            "<details><summary>{}: the bare services, until each answered</summary>\n\n| service | ms |\n|---|---|",
            v.name
        )?;
        for (name, spread) in &v.floor_services {
            writeln!(text, "| {name} | {} |", spread.text())?;
        }
        text.push_str("\n</details>\n\n");
    }
    Ok(())
}

fn steps(text: &mut String, title: &str, steps: &[StepTimes]) -> Result<()> {
    writeln!(
        text,
        "<details><summary>{title}</summary>\n\n| step | began after (ms) | took (ms) |\n|---|---|---|"
    )?;
    for step in steps {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            step.step,
            step.began.text(),
            step.took.text()
        )?;
    }
    text.push_str("\n</details>\n\n");
    Ok(())
}

fn idle_tables(text: &mut String, result: &IdleResult) -> Result<()> {
    let many = result.environments.max(1) as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    writeln!(
        text,
        "## At rest\n\n{} environments of one small service, watched for {} s. MiB; CPU in percent of a core.\n\n\
         | process | RSS, none | RSS, all | PSS, none | PSS, all | CPU |\n|---|---|---|---|---|---|",
        result.environments, result.seconds
    )?;
    let (mut rss, mut pss, mut empty, mut cpu) = (0.0, 0.0, 0.0, 0.0);
    for (name, process) in &result.processes {
        let (none, all) = (process.empty, process.full);
        writeln!(
            text,
            "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            mib(none.rss),
            mib(all.rss),
            mib(none.pss),
            mib(all.pss),
            process.cpu_percent
        )?;
        rss += mib(all.rss);
        pss += mib(all.pss);
        empty += mib(none.pss);
        cpu += process.cpu_percent;
    }
    writeln!(text, "| together | | {rss:.1} | {empty:.1} | {pss:.1} | {cpu:.2} |")?;
    let monitor = mib(result.monitors.pss) / result.monitor_count.max(1) as f64;
    writeln!(
        text,
        "| {} monitors (conmon) | | {:.1} | | {:.1} | {:.2} |\n",
        result.monitor_count,
        mib(result.monitors.rss),
        mib(result.monitors.pss),
        result.monitors_cpu_percent
    )?;
    let each = (pss - empty) / many;
    text.push_str("| goal | measured | |\n|---|---|---|\n");
    for (goal, measured, limit) in [
        ("RSS of Maquette's processes at most 100 MiB", rss, RSS_MIB),
        ("CPU at most 0.5 % of a core", cpu, CPU_PERCENT),
        (
            "PSS per service at most 1.5 MiB (its monitor)",
            monitor,
            PSS_SERVICE_MIB,
        ),
        (
            "PSS per environment at most 1 MiB (growth of Maquette's processes)",
            each,
            PSS_ENVIRONMENT_MIB,
        ),
    ] {
        writeln!(text, "| {goal} | {measured:.2} | {} |", verdict(measured, limit))?;
    }
    text.push_str("\nKernel memory that came with the environments, the services' own share included, in KiB per environment:\n\n");
    for (name, kib) in &result.kernel_growth {
        writeln!(text, "- {name}: {:.0}", *kib as f64 / many)?;
    }
    writeln!(
        text,
        "\nFrom the opening of all pull requests until all were live: {:.1} s. Nobody told the server of them: it had to look by itself, which \
         it does every minute.\n",
        result.all_live_ms / 1e3
    )?;
    Ok(())
}

fn door_tables(text: &mut String, result: &DoorResult) -> Result<()> {
    text.push_str(
        "## The door's share of a connection\n\nOne connection at a time, both ends on loopback interfaces. Set-up is from the call of \
         connect until the first byte of the other side.\n\n\
         | way | MiB/s | of direct | of the plain forwarder | CPU between (ms per GiB) | set-up p50 (µs) | p99 (µs) | over direct, p50 |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let of = |name: &str| result.ways.iter().find(|way| way.way == name);
    let rate = |name: &str| of(name).map_or(0.0, |way| way.rate.median);
    let share = |way: &DoorWay, name: &str| match rate(name) {
        all if all > 0.0 => format!("{:.0} %", 100.0 * way.rate.median / all),
        _ => "–".to_owned(),
    };
    let direct = of("direct").map_or(0.0, |way| way.p50.median);
    for way in &result.ways {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            way.way,
            way.rate.text(),
            share(way, "direct"),
            share(way, "plain splice forwarder"),
            way.cpu_ms.text(),
            way.p50.text(),
            way.p99.text(),
            way.p50.median - direct
        )?;
    }
    if let (Some(door), Some(plain)) = (of("door"), of("plain splice forwarder")) {
        // The less time for each GiB, the more throughput of a core.
        let share = 100.0 * plain.cpu_ms.median / door.cpu_ms.median.max(f64::MIN_POSITIVE);
        let later = (door.p50.median - direct) / 1e3;
        text.push_str("\n| goal | measured | |\n|---|---|---|\n");
        writeln!(
            text,
            "| throughput per core used at least {DOOR_SHARE_PERCENT:.0} % of the plain forwarder's | {share:.0} % | {} |\n\
             | set-up at most {DOOR_SETUP_MS:.0} ms over direct, p50 | {later:.2} ms | {} |",
            verdict(DOOR_SHARE_PERCENT, share),
            verdict(later, DOOR_SETUP_MS)
        )?;
    }
    text.push('\n');
    Ok(())
}

fn gateway_tables(text: &mut String, result: &GatewayResult) -> Result<()> {
    text.push_str("## The gateway's share of a request\n\n");
    let pinned = if result.pinned {
        "Load and upstream on one core, the proxy on another."
    } else {
        "Everything on one core."
    };
    let other = match &result.nginx {
        Some(version) => format!("Beside it {version} with one worker, no log, kept connections to the upstream."),
        None => "No nginx was there to compare with.".to_owned(),
    };
    writeln!(
        text,
        "{pinned} {other} Latencies count from the time at which a request was due. The gateway also signs every request in, by a token.\n\n\
         | body | rate | way | p50 (µs) | p99 (µs) | over direct, p50 | proxy's CPU per request (µs) | late |\n|---|---|---|---|---|---|---|---|"
    )?;
    let direct = |way: &WayResult| {
        let same =
            |other: &&WayResult| other.way == "direct" && other.body_bytes == way.body_bytes && other.rate == way.rate;
        result.ways.iter().find(same).map_or(0.0, |direct| direct.p50.median)
    };
    for way in &result.ways {
        let (over, cpu) = if way.way == "direct" {
            ("–".to_owned(), "–".to_owned())
        } else {
            (format!("{:.0}", way.p50.median - direct(way)), way.cpu_us.text_fine())
        };
        writeln!(
            text,
            "| {} KiB | {}/s | {} | {} | {} | {over} | {cpu} | {} |",
            way.body_bytes >> 10,
            way.rate,
            way.way,
            way.p50.text(),
            way.p99.text(),
            way.late
        )?;
    }
    text.push('\n');
    Ok(())
}
