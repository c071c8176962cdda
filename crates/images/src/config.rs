//! The configuration of an image: what its container runs unless told otherwise.

use crate::{digest::BlobDigest, error::Result, manifest::unsupported, reference::Reference};
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What an image says of its containers. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Who it runs as: a name or number, perhaps with `:` and a group.
    pub user: String,
    /// `NAME=value`, in order.
    pub env: Vec<(String, String)>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments that follow; those of the service replace them.
    pub cmd: Vec<String>,
    /// Absolute path, empty for `/`.
    pub working_dir: String,
    /// TCP ports that it listens on, ascending.
    pub ports: Vec<u16>,
    /// Paths that hold data of their own.
    pub volumes: Vec<String>,
    /// Signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How it tells that it works.
    pub health: Option<ImageHealth>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// An image's own health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHealth {
    /// As Docker has it: `["CMD", …]`, `["CMD-SHELL", command]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between probes.
    pub interval: Option<Duration>,
    /// For one probe.
    pub timeout: Option<Duration>,
    /// In which failures do not count.
    pub start_period: Option<Duration>,
    /// Failures in a row.
    pub retries: Option<u32>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    config: Option<WireConfig>,
    rootfs: WireRoot,
}

#[derive(Deserialize)]
struct WireRoot {
    #[serde(default)]
    diff_ids: Vec<BlobDigest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireConfig {
    #[serde(deserialize_with = "null_is_empty")]
    user: String,
    #[serde(deserialize_with = "null_is_empty")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_empty")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    healthcheck: Option<WireHealth>,
}

/// Times are nanoseconds; zero means "not said".
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireHealth {
    #[serde(deserialize_with = "null_is_empty")]
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// Reads a configuration that was made here.
    ///
    /// # Errors
    /// In words, if it is none.
    pub fn read(text: &str) -> std::result::Result<Self, String> {
        let wire: Wire = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(wire.config.unwrap_or_default().into())
    }

    /// Reads a configuration and the digests of the uncompressed layers, lowest first.
    pub(crate) fn parse(image: &Reference, bytes: &[u8]) -> Result<(Self, Vec<BlobDigest>)> {
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| unsupported(image, format!("its configuration can not be read: {error}")))?;
        Ok((wire.config.unwrap_or_default().into(), wire.rootfs.diff_ids))
    }
}

impl From<WireConfig> for ImageConfig {
    fn from(wire: WireConfig) -> Self {
        let mut ports: Vec<u16> = wire
            .exposed_ports
            .keys()
            .filter_map(|port| match port.split_once('/') {
                Some((number, "tcp")) => number.parse().ok(),
                Some(_) => None,
                None => port.parse().ok(),
            })
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            user: wire.user,
            env: wire
                .env
                .into_iter()
                .filter_map(|pair| {
                    pair.split_once('=')
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                })
                .collect(),
            entrypoint: wire.entrypoint,
            cmd: wire.cmd,
            working_dir: wire.working_dir,
            ports,
            volumes: wire.volumes.into_keys().filter(|path| path.starts_with('/')).collect(),
            stop_signal: wire.stop_signal.filter(|signal| !signal.is_empty()),
            health: wire
                .healthcheck
                .filter(|health| !health.test.is_empty())
                .map(Into::into),
            labels: wire.labels,
        }
    }
}

impl From<WireHealth> for ImageHealth {
    fn from(wire: WireHealth) -> Self {
        let time = |nanoseconds| (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds));
        Self {
            test: wire.test,
            interval: time(wire.interval),
            timeout: time(wire.timeout),
            start_period: time(wire.start_period),
            retries: (wire.retries > 0).then_some(wire.retries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let json = serde_json::json!({
            "architecture": "amd64",
            "config": {
                "User": "node",
                "ExposedPorts": { "8080/tcp": {}, "53/udp": {}, "80": {} },
                "Env": ["PATH=/usr/bin", "A=b=c", "BROKEN"],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": null,
                "Volumes": { "/data": {} },
                "WorkingDir": "/app",
                "Labels": null,
                "StopSignal": "SIGQUIT",
                "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5_000_000_000_u64 },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "a".repeat(64))] },
        });
        let image = "acme/web".parse().unwrap();
        let (config, diffs) = ImageConfig::parse(&image, json.to_string().as_bytes()).unwrap();
        assert_eq!(config.user, "node");
        assert_eq!(config.ports, [80, 8080]);
        assert_eq!(config.env[1], ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(config.env.len(), 2);
        assert_eq!((config.entrypoint.len(), config.cmd.len()), (1, 0));
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.health.unwrap().interval, Some(Duration::from_secs(5)));
        assert_eq!(diffs.len(), 1);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        let image = "acme/web".parse().unwrap();
        for json in ["", "[]", "{}", r#"{"rootfs":{"diff_ids":["md5:1"]}}"#] {
            let error = ImageConfig::parse(&image, json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("its configuration can not be read"), "{error}");
        }
    }
}
