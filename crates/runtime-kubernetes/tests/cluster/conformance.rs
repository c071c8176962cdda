//! The suite that every runtime must pass, unchanged, on a real cluster.

use crate::rig::Rig;
use runtime::conformance::cases;

/// Cases that this cluster can not pass, and why. Everything else must.
const NOT_HERE: &[(&str, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes() {
    let rig = Rig::new().await;
    let only = std::env::var("CASE").unwrap_or_default();
    let mut failures = Vec::new();
    for case in cases().into_iter().filter(|case| case.name.contains(&only)) {
        if let Some((_, why)) = NOT_HERE.iter().find(|(name, _)| *name == case.name) {
            eprintln!("left out: {}: {why}", case.name);
            continue;
        }
        let from = std::time::Instant::now();
        let result = case.run(&rig).await;
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        eprintln!("{word} after {:.1} s: {}", from.elapsed().as_secs_f32(), case.name);
        if let Err(failure) = result {
            eprintln!("    {failure}");
            failures.push(failure.to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
