//! What an operator says of images: which registries may be asked how, how large images may be, and how much of them is kept.

use crate::start::StartError;
use images::{Blobs, Client, Credentials, Limits, Platform, Registries, Registry};
use reconciler::ImageSource;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest file of credentials, in bytes.
const CREDENTIALS_MAX: u64 = 64 << 10;

/// Images that services run from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// What is particular about registries, by host and port as images name them: `docker.io`, `registry.example:5000`. Public
    /// registries need no entry.
    #[serde(default)]
    pub registries: BTreeMap<String, RegistryConfig>,
    /// How often it is asked whether a tag stands for another image, in seconds; 300 unless given.
    #[serde(default = "default_poll")]
    pub poll_seconds: u64,
    /// The largest image as it is fetched, all layers together, in GiB; 8 unless given.
    #[serde(default = "default_download")]
    pub download_gib: u64,
    /// The largest image once it is unpacked, in GiB; 16 unless given.
    #[serde(default = "default_unpacked")]
    pub unpacked_gib: u64,
    /// How much of what was fetched is kept for images that share layers, in GiB; 10 unless given.
    #[serde(default = "default_blobs")]
    pub keep_layers_gib: u64,
}

/// What is particular about a registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Registries that hold copies, asked first, in this order. What is particular about them stands in entries of their own.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// A file with `user:password` in its first line, that nobody but its owner may read.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// Whether it may have an address that is not public.
    #[serde(default)]
    pub private: bool,
    /// Whether it is spoken to without TLS. Images are verified by their digests nevertheless; credentials go in clear.
    #[serde(default)]
    pub insecure: bool,
}

fn default_poll() -> u64 {
    300
}

fn default_download() -> u64 {
    8
}

fn default_unpacked() -> u64 {
    16
}

fn default_blobs() -> u64 {
    10
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            registries: BTreeMap::new(),
            poll_seconds: default_poll(),
            download_gib: default_download(),
            unpacked_gib: default_unpacked(),
            keep_layers_gib: default_blobs(),
        }
    }
}

/// A file of credentials can not be used.
#[derive(Debug, thiserror::Error)]
#[error("the credentials of the registry {registry} can not be read from {}", path.display())]
pub struct CredentialsError {
    /// For which registry.
    pub registry: String,
    /// Where they should be.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl ImagesConfig {
    /// The same for the reconciler; blobs are kept in this directory.
    ///
    /// # Errors
    /// [`StartError::Credentials`], [`StartError::Images`].
    pub fn source(&self, directory: &Path) -> Result<ImageSource, StartError> {
        let mut registries = BTreeMap::new();
        for (name, config) in &self.registries {
            let credentials = config.credentials_file.as_deref().map(|path| {
                credentials(path).map_err(|source| CredentialsError {
                    registry: name.clone(),
                    path: path.to_owned(),
                    source,
                })
            });
            let registry = Registry {
                mirrors: config.mirrors.clone(),
                credentials: credentials.transpose().map_err(StartError::Credentials)?,
                plain_http: config.insecure,
                private: config.private,
            };
            registries.insert(name.clone(), registry);
        }
        Ok(ImageSource {
            client: Client::new(Registries(registries)).map_err(StartError::Images)?,
            blobs: Blobs::open(directory).map_err(StartError::Images)?,
            limits: Limits {
                compressed_bytes: gib(self.download_gib),
                ..Limits::default()
            },
            platform: Platform::here(),
            blobs_max: gib(self.keep_layers_gib),
            poll: Duration::from_secs(self.poll_seconds.max(1)),
        })
    }

    /// The largest image once it is unpacked, in bytes.
    #[must_use]
    pub fn unpacked_bytes(&self) -> u64 {
        gib(self.unpacked_gib)
    }
}

fn gib(count: u64) -> u64 {
    count.saturating_mul(1 << 30)
}

fn credentials(path: &Path) -> io::Result<Credentials> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if found.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others than its owner may read it; give it the mode 0600",
        ));
    }
    let mut text = String::new();
    file.take(CREDENTIALS_MAX).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    let (user, password) = line
        .split_once(':')
        .ok_or_else(|| io::Error::other("its first line is not `user:password`"))?;
    Ok(Credentials::new(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn parse(text: &str) -> Result<ServerConfig, crate::config::ConfigError> {
        ServerConfig::parse(text, Path::new("maquette-server.yaml"))
    }

    #[test]
    fn credentials_are_read_from_a_file_that_only_its_owner_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hub");
        fs::write(&file, "robot:canary-password\n").unwrap();
        let text = format!(
            "images: {{ registries: {{ docker.io: {{ mirrors: [\"mirror:5000\"], credentials_file: {} }}, \"mirror:5000\": {{ private: true, insecure: true }} }} }}\n",
            file.display()
        );
        let config = parse(&text).unwrap().images;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = config.source(&directory.path().join("blobs")).unwrap_err();
        let mut said = refused.to_string();
        let mut cause = std::error::Error::source(&refused);
        while let Some(error) = cause {
            said.push_str(&format!(": {error}"));
            cause = error.source();
        }
        assert!(said.contains("docker.io") && said.contains("0600"), "{said}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let source = config.source(&directory.path().join("blobs")).unwrap();
        let shown = format!("{source:?}");
        assert!(shown.contains("robot") && !shown.contains("canary-password"), "{shown}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_a_hint() {
        let refused = parse("images: { registries: { \"r:5000\": { insecur: true } } }\n").unwrap_err();
        assert_eq!(refused.hint(), Some("did you mean `insecure`?"));
        assert_eq!(parse("{}\n").unwrap().images.poll_seconds, 300);
    }
}
