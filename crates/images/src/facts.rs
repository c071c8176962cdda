//! An image's configuration in the words of stacks.

use crate::{config::ImageConfig, config::ImageHealth, digest::BlobDigest};
use model::{HealthCheck, HealthTest, ImageFacts};
use std::time::Duration;

/// Docker's times of a health check that says none.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// Of a hostile configuration no more than this is believed.
const VARIABLES_MAX: usize = 1000;
const PORTS_MAX: usize = 64;
const VOLUMES_MAX: usize = 64;
const TEXT_MAX: usize = 100 * 1024;

impl ImageConfig {
    /// The same for a stack. What can not be passed to a process is left out, so that the service that needs it fails by itself.
    #[must_use]
    pub fn facts(&self, digest: &BlobDigest) -> Option<ImageFacts> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= TEXT_MAX);
        let plain = |(name, value): &&(String, String)| {
            !name.is_empty() && !name.contains('\0') && !value.contains('\0') && name.len() + value.len() <= TEXT_MAX
        };
        Some(ImageFacts {
            digest: digest.to_string().parse().ok()?,
            entrypoint: self.entrypoint.clone(),
            command: self.cmd.clone(),
            environment: self.env.iter().filter(plain).take(VARIABLES_MAX).cloned().collect(),
            working_dir: some(&self.working_dir),
            user: some(&self.user),
            ports: self.ports.iter().copied().take(PORTS_MAX).collect(),
            volumes: self.volumes.iter().take(VOLUMES_MAX).cloned().collect(),
            stop_signal: self.stop_signal.as_deref().and_then(some),
            health: self.health.as_ref().and_then(health),
        })
    }
}

fn health(health: &ImageHealth) -> Option<HealthCheck> {
    let argv = match health.test.split_first() {
        Some((kind, words)) if kind == "CMD" => words.to_vec(),
        Some((kind, words)) if kind == "CMD-SHELL" => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), words.join(" ")]
        }
        _ => return None,
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    (!argv.is_empty()).then(|| HealthCheck {
        test: HealthTest::Exec(argv),
        interval_ms: millis(health.interval.unwrap_or(INTERVAL)),
        timeout_ms: millis(health.timeout.unwrap_or(TIMEOUT)),
        retries: health.retries.unwrap_or(RETRIES),
        start_period_ms: millis(health.start_period.unwrap_or_default()),
        start_interval_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_is_told_in_the_words_of_stacks() {
        let of = |test: &[&str]| {
            let test = test.iter().map(|word| (*word).to_owned()).collect();
            let config = ImageConfig {
                health: Some(ImageHealth {
                    test,
                    interval: Some(Duration::from_secs(5)),
                    timeout: None,
                    start_period: None,
                    retries: None,
                }),
                ..ImageConfig::default()
            };
            config.facts(&BlobDigest::of(b"x")).unwrap().health
        };
        let words = |check: HealthCheck| match check.test {
            HealthTest::Exec(words) => words.join("|"),
            HealthTest::Tcp(_) => String::new(),
        };
        assert_eq!(of(&["CMD", "curl", "-f"]).map(words).unwrap(), "curl|-f");
        assert_eq!(
            of(&["CMD-SHELL", "curl x || exit 1"]).map(words).unwrap(),
            "/bin/sh|-c|curl x || exit 1"
        );
        assert_eq!(of(&["CMD", "x"]).unwrap().interval_ms, 5_000);
        assert!(of(&["NONE"]).is_none() && of(&["CMD"]).is_none() && of(&[]).is_none());
    }
}
