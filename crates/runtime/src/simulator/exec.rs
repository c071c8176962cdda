//! The handful of commands that a simulated container knows, and the files that they see.

use super::world::{Cell, Container, Given, World};
use crate::{Exec, ExecExit};
use bytes::Bytes;
use model::{EnvironmentId, MountKind, NetworkMode, ServiceName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, oneshot};

/// What a file belongs to, seen from a container.
enum Place<'a> {
    Volume(&'a model::VolumeName, String),
    Source(std::path::PathBuf),
    Built(Option<&'a Vec<u8>>),
    Given(&'a Given),
    Private,
}

/// The part of an absolute path below a mount's target.
fn below<'a>(path: &'a str, target: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(target.trim_end_matches('/'))?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// Where a path of a container lies, and whether it may be written.
fn place<'a>(container: &'a Container, path: &str) -> (Place<'a>, bool) {
    let mounts = container.service.workload.mounts.iter();
    let nearest = mounts
        .filter(|mount| below(path, &mount.target).is_some())
        .max_by_key(|mount| mount.target.len());
    let Some(mount) = nearest else {
        return (Place::Private, true);
    };
    let rest = below(path, &mount.target).unwrap_or_default().to_owned();
    match &mount.kind {
        MountKind::Volume { volume } => (Place::Volume(volume, rest), !mount.read_only),
        MountKind::Source { .. } if !container.private.contains_key(path) => {
            let root = container.sources.get(&mount.target).cloned().unwrap_or_default();
            (Place::Source(root.join(rest)), !mount.read_only)
        }
        MountKind::VolumePath { volume, subpath } => {
            let path = format!("{subpath}/{rest}");
            (
                Place::Volume(volume, path.trim_end_matches('/').to_owned()),
                !mount.read_only,
            )
        }
        MountKind::Built { subpath, .. } if !container.private.contains_key(path) => {
            let inside = format!("{subpath}/{rest}");
            let built = container.built.get(&mount.target);
            (
                Place::Built(built.and_then(|content| content.get(inside.trim_matches('/')))),
                !mount.read_only,
            )
        }
        MountKind::Content { .. } => match container.given.get(&mount.target) {
            Some(given) => (Place::Given(given), false),
            None => (Place::Private, false),
        },
        MountKind::Program => (Place::Private, false),
        MountKind::Built { .. } | MountKind::Source { .. } | MountKind::Tmpfs { .. } => {
            (Place::Private, !mount.read_only)
        }
    }
}

fn read(cell: &Cell, service: &ServiceName, path: &str) -> Option<Vec<u8>> {
    let container = cell.services.get(service)?;
    match place(container, path).0 {
        Place::Volume(volume, rest) => cell.volumes.get(volume)?.content.get(&rest).cloned(),
        Place::Source(path) => std::fs::read(path).ok(),
        Place::Built(bytes) => bytes.cloned(),
        Place::Given(given) => Some(given.bytes.clone()),
        Place::Private => container.private.get(path).cloned(),
    }
}

fn write(cell: &mut Cell, service: &ServiceName, path: &str, bytes: &[u8]) -> Result<(), &'static str> {
    let container = cell.services.get_mut(service).ok_or("no such container")?;
    let (place, writable) = place(container, path);
    if !writable {
        return Err("read-only file system");
    }
    match place {
        Place::Volume(volume, rest) => {
            let disk = cell.volumes.get_mut(volume).ok_or("no such volume")?;
            disk.content.insert(rest, bytes.to_vec());
        }
        // The checkout itself is never written: a private layer lies over it.
        Place::Source(_) | Place::Built(_) | Place::Given(_) | Place::Private => {
            container.private.insert(path.to_owned(), bytes.to_vec());
        }
    }
    Ok(())
}

/// What a service of that name says, if the one that asks can find it.
fn neighbour(cell: &Cell, asks: &ServiceName, name: &str) -> Option<Vec<u8>> {
    let own = &cell.services.get(asks)?.service;
    let mut services = cell.services.iter();
    let (_, found) = services.find(|(service, container)| {
        let other = &container.service;
        let shared = other
            .networks
            .iter()
            .filter(|(network, _)| own.networks.contains_key(*network));
        let connected = [own.net, other.net].iter().all(|net| *net == NetworkMode::Networks);
        let open = own.networks.is_empty() && other.networks.is_empty();
        let mut names = other
            .aliases
            .iter()
            .chain(shared.clone().flat_map(|(_, aliases)| aliases));
        connected
            && (open || shared.clone().next().is_some())
            && (service.as_str() == name || names.any(|alias| alias == name))
    })?;
    Some(format!("{}\n", found.text).into_bytes())
}

/// Where a command runs.
pub(super) struct Inside {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) environment: EnvironmentId,
    pub(super) service: ServiceName,
    pub(super) variables: BTreeMap<String, String>,
}

impl Inside {
    fn cell<T>(&self, look: impl FnOnce(&mut Cell) -> T) -> Option<T> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.environments.get_mut(&self.environment).map(look)
    }

    fn fetch(&self, name: &str, port: &str) -> Option<Vec<u8>> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = world.now;
        let cell = world.environments.get_mut(&self.environment)?;
        neighbour(cell, &self.service, name).or_else(|| cell.fetch(name, port, now))
    }

    /// Starts a command.
    pub(super) fn run(self, argv: Vec<String>) -> Exec {
        let (stdin, input) = mpsc::channel(16);
        let (output, stdout) = mpsc::channel(16);
        let (errors, stderr) = mpsc::channel(16);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let end = self.command(&argv, input, &output, &errors).await;
            // Whoever has dropped the command does not want to know.
            let _ = ended.send(end);
        });
        Exec {
            stdin,
            stdout,
            stderr,
            exit,
        }
    }

    async fn command(
        &self,
        argv: &[String],
        mut input: mpsc::Receiver<Bytes>,
        output: &mpsc::Sender<Bytes>,
        errors: &mpsc::Sender<Bytes>,
    ) -> ExecExit {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let result: Result<Vec<u8>, String> = match words.as_slice() {
            ["true"] => Ok(Vec::new()),
            ["false"] => Err(String::new()),
            ["echo", rest @ ..] => Ok(format!("{}\n", rest.join(" ")).into_bytes()),
            ["printenv", name] => self
                .variables
                .get(*name)
                .map(|value| format!("{value}\n").into_bytes())
                .ok_or_else(String::new),
            ["cat"] => {
                while let Some(bytes) = input.recv().await {
                    if output.send(bytes).await.is_err() {
                        break;
                    }
                }
                Ok(Vec::new())
            }
            ["fetch", name, port] => self
                .fetch(name, port)
                .ok_or_else(|| format!("fetch: {name}:{port}: not allowed\n")),
            ["cat", path] => self
                .cell(|cell| read(cell, &self.service, path))
                .flatten()
                .ok_or_else(|| format!("cat: {path}: No such file or directory\n")),
            ["stat", "-c", "%a %u %g", path] => self
                .cell(|cell| {
                    Some(
                        cell.services
                            .get(&self.service)?
                            .given
                            .get(*path)?
                            .stat
                            .clone()
                            .into_bytes(),
                    )
                })
                .flatten()
                .ok_or_else(|| format!("stat: {path}: nothing is known of it\n")),
            ["tee", path] => {
                let mut bytes = Vec::new();
                while let Some(more) = input.recv().await {
                    bytes.extend_from_slice(&more);
                }
                let written = self
                    .cell(|cell| write(cell, &self.service, path, &bytes))
                    .unwrap_or(Err("no such environment"));
                written
                    .map(|()| bytes)
                    .map_err(|reason| format!("tee: {path}: {reason}\n"))
            }
            _ => return ExecExit::Failed(format!("the command `{}` does not exist", words.first().unwrap_or(&""))),
        };
        let (sender, bytes, status) = match result {
            Ok(bytes) => (output, bytes, 0),
            Err(text) => (errors, text.into_bytes(), 1),
        };
        if !bytes.is_empty() {
            let _ = sender.send(Bytes::from(bytes)).await;
        }
        ExecExit::Status(status)
    }
}
