//! The tables of images and of builds.

use super::verdict;
use crate::{builds::BuildsResult, images::ImagesResult, stats::Spread};
use anyhow::Result;
use std::fmt::Write as _;

/// Pulling and unpacking, through `skopeo copy` and `tar`.
const PULL_RATIO: f64 = 1.2;
/// Milliseconds that a second environment pays for an image.
const AGAIN_MS: f64 = 20.0;
/// Milliseconds of a container from an image over one from the host's root.
const CONTAINER_MS: f64 = 10.0;
/// A Dockerfile, through buildah alone.
const BUILD_RATIO: f64 = 1.1;
/// Milliseconds of a native build that has nothing to do.
const NATIVE_MS: f64 = 50.0;
/// The 95th percentile of a page beside a build, through that without.
const LATENCY_RATIO: f64 = 1.2;

fn row(text: &mut String, what: &str, times: &Spread) -> std::fmt::Result {
    writeln!(text, "| {what} | {} |", times.text_fine())
}

fn goals(text: &mut String, goals: &[(&str, f64, f64)]) -> std::fmt::Result {
    text.push_str("\n| goal | measured | |\n|---|---|---|\n");
    for (goal, measured, limit) in goals {
        writeln!(text, "| {goal} | {measured:.2} | {} |", verdict(*measured, *limit))?;
    }
    text.push('\n');
    Ok(())
}

pub(super) fn images(text: &mut String, result: &ImagesResult) -> Result<()> {
    writeln!(
        text,
        "## Images\n\nOne of {} MiB in {} layers ({:.0} MiB packed), from a registry on this machine.\n\n| | ms |\n|---|---|",
        result.mib, result.layers, result.packed_mib
    )?;
    row(text, "pulled, verified, unpacked", &result.ours)?;
    row(text, "of that, until all layers are here", &result.ours_pull)?;
    row(
        text,
        "`skopeo copy` into a directory, `tar` of each layer",
        &result.skopeo,
    )?;
    row(text, "an image that is there, for a second environment", &result.again)?;
    row(text, "a container from the image", &result.from_image)?;
    row(text, "a container from the host's root", &result.from_host)?;
    let over = result.from_image.median - result.from_host.median;
    goals(
        text,
        &[
            (
                "pulled and unpacked in at most 1.2 times skopeo and tar",
                result.ratio.median,
                PULL_RATIO,
            ),
            ("a second environment in at most 20 ms", result.again.median, AGAIN_MS),
            (
                "a container at most 10 ms over one from the host's root",
                over,
                CONTAINER_MS,
            ),
        ],
    )?;
    Ok(())
}

pub(super) fn builds(text: &mut String, result: &BuildsResult) -> Result<()> {
    text.push_str("## Builds\n\n| | ms |\n|---|---|\n");
    row(text, "a Dockerfile, until its image can be used", &result.ours)?;
    row(
        text,
        "the same by buildah alone, until it has its image",
        &result.buildah,
    )?;
    row(
        text,
        "a native build of 2,000 files, the first time",
        &result.native_first,
    )?;
    row(text, "the same for another environment", &result.native_again)?;
    row(
        text,
        "a page of another environment, nothing being built: p50",
        &result.quiet.p50,
    )?;
    row(text, "the same: p95", &result.quiet.p95)?;
    row(text, "beside a build that takes every core: p50", &result.loaded.p50)?;
    row(text, "the same: p95", &result.loaded.p95)?;
    goals(
        text,
        &[
            (
                "a Dockerfile in at most 1.1 times buildah alone",
                result.ratio.median,
                BUILD_RATIO,
            ),
            (
                "an unchanged native build in at most 50 ms",
                result.native_again.median,
                NATIVE_MS,
            ),
            (
                "latency beside a build at most 1.2 times that without, p95",
                result.p95_ratio.median,
                LATENCY_RATIO,
            ),
        ],
    )?;
    Ok(())
}
