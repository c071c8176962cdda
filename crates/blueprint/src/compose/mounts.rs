//! `volumes` and `tmpfs` of a service. A mount comes from a volume of the environment, from the checkout, or is memory;
//! nothing of the host can be named.

use super::{Body, Scene};
use crate::{
    escape::quoted,
    problem::At,
    read, tree, units,
    yaml::{Node, NodeKind},
};
use model::{Digest, Mount, MountKind, ServiceName, VolumeName};

/// The most mounts of one service.
const MOUNTS_MAX: usize = 100;

/// A path in a container, normalised; `None` if it is not absolute or leads out of its root.
pub(crate) fn target(text: &str) -> Option<String> {
    let path = text.strip_prefix('/')?.trim_start_matches('/');
    if path.is_empty() {
        return Some("/".to_owned());
    }
    tree::join("", path).ok().map(|path| format!("/{path}"))
}

/// Adds a mount whose target may be mounted over.
fn push(scene: &Scene<'_>, body: &mut Body, at: At, to: &str, kind: MountKind, read_only: bool) {
    let Some(target) = target(to) else {
        scene.report.error(
            at,
            format!(
                "a mount needs an absolute path in the container, and this is {}",
                quoted(to)
            ),
        );
        return;
    };
    let reserved = |folder: &str| target == folder || target.starts_with(&format!("{folder}/"));
    if target == "/" || reserved("/proc") || reserved("/sys") || target == "/dev" {
        scene
            .report
            .error(at, format!("nothing can be mounted over {}", quoted(&target)));
    } else if body.mounts.len() >= MOUNTS_MAX {
        scene
            .report
            .error(at, format!("a service has at most {MOUNTS_MAX} mounts"));
    } else if body.mounts.iter().any(|(_, mount)| mount.target == target) {
        scene
            .report
            .error(at, format!("two mounts have the path {}", quoted(&target)));
    } else {
        body.mounts.push((
            at,
            Mount {
                target,
                kind,
                read_only,
            },
        ));
    }
}

pub(super) fn volumes(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    for item in read::list(scene.report, node, &format!("`volumes` of service `{name}`")).unwrap_or_default() {
        match &item.kind {
            NodeKind::Map(_) => long(scene, name, item, body),
            _ => short(scene, name, item, body),
        }
    }
}

/// `[source:]target[:options]`
fn short(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let Some(text) = read::text(report, node, "a mount") else {
        return;
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, to, options) = match parts[..] {
        [to] => (None, to, ""),
        [source, to] => (Some(source), to, ""),
        [source, to, options] => (Some(source), to, options),
        _ => {
            report.error_hint(
                node.at,
                format!("{} is no mount", quoted(text)),
                "written `source:/path/in/container[:ro]`",
            );
            return;
        }
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => report.error_hint(
                node.at,
                format!("unknown option {} of a mount", quoted(option)),
                "known are `ro` and `rw`",
            ),
        }
    }
    let Some(source) = source else {
        return anonymous(scene, name, node.at, to, body);
    };
    let kind = if source.contains('/') || source.starts_with(['.', '~']) {
        checkout(scene, node.at, source)
    } else {
        read::name(report, node.at, source).map(|volume| MountKind::Volume { volume })
    };
    if let Some(kind) = kind {
        push(scene, body, node.at, to, kind, read_only);
    }
}

fn anonymous(scene: &Scene<'_>, name: &ServiceName, at: At, to: &str, body: &mut Body) {
    if let Some(volume) = implicit_volume(name, to) {
        push(scene, body, at, to, MountKind::Volume { volume }, false);
    }
}

/// The name of a volume that nobody has named.
pub(crate) fn implicit_volume(service: &ServiceName, path: &str) -> Option<VolumeName> {
    let readable = format!("{service}-{}", model::slug(path));
    let hashed = || format!("{:.40}-{:.8}", service.as_str(), Digest::of(path.as_bytes()).as_str());
    readable.parse().or_else(|_| hashed().parse()).ok()
}

/// A directory or file of the checkout.
fn checkout(scene: &Scene<'_>, at: At, path: &str) -> Option<MountKind> {
    let found = tree::join(scene.folder, path)
        .and_then(|subpath| tree::resolve(scene.tree, &subpath).map(|kind| (subpath, kind)))
        .and_then(|(subpath, kind)| match kind {
            tree::Kind::File { bytes } if bytes <= 512 => tree::bytes(scene.tree, &subpath).map(|_| subpath),
            _ => Ok(subpath),
        });
    match found {
        Ok(subpath) => Some(MountKind::Source {
            source: scene.source.clone(),
            subpath,
        }),
        Err(error) => {
            let hint = match error {
                tree::PathError::Missing => "commit it, or use a named volume for what is made while running",
                tree::PathError::Absolute => {
                    "files of the host can't be seen: use a path of the repository or a named volume"
                }
                _ => "use a path of the repository or a named volume",
            };
            scene.report.error_hint(at, format!("{} {error}", quoted(path)), hint);
            None
        }
    }
}

fn long(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let (mut kind, mut source, mut to, mut read_only, mut size_bytes) = ("", None, None, false, None);
    for (key, value) in read::map(report, node, "a mount").unwrap_or_default() {
        let what = format!("`{}` of a mount", key.text);
        match key.text.as_str() {
            "type" => kind = read::text(report, value, &what).unwrap_or_default(),
            "source" => source = read::text(report, value, &what).map(|text| (value.at, text)),
            "target" => to = read::text(report, value, &what),
            "read_only" => read_only = read::flag(report, value, &what).unwrap_or_default(),
            "tmpfs" => {
                size_bytes = value
                    .get("size")
                    .and_then(|size| read::bytes(report, size, "`size` of a tmpfs"))
            }
            "bind" | "volume" => options(scene, value, &what),
            "consistency" => {}
            _ => read::unknown_key(
                report,
                key,
                "in a mount",
                &["type", "source", "target", "read_only", "tmpfs", "bind", "volume"],
            ),
        }
    }
    let Some(to) = to else {
        report.error(node.at, "a mount needs `target`, the path in the container");
        return;
    };
    let mount = match (kind, source) {
        ("bind", Some((at, path))) => checkout(scene, at, path),
        ("volume", Some((at, volume))) => read::name(report, at, volume).map(|volume| MountKind::Volume { volume }),
        ("volume", None) => return anonymous(scene, name, node.at, to, body),
        ("tmpfs", None) => Some(MountKind::Tmpfs { size_bytes }),
        ("bind", None) => {
            report.error(
                node.at,
                "a mount of type `bind` needs `source`, a path of the repository",
            );
            None
        }
        _ => {
            let hint = "known are `volume`, `bind` (inside the repository) and `tmpfs`";
            report.error_hint(
                node.at,
                format!("a mount of type {} is not supported", quoted(kind)),
                hint,
            );
            None
        }
    };
    if let Some(kind) = mount {
        push(scene, body, node.at, to, kind, read_only);
    }
}

/// `bind:` and `volume:` of the long form: nothing in there has an effect, which is said.
fn options(scene: &Scene<'_>, node: &Node, what: &str) {
    for (key, _) in read::map(scene.report, node, what).unwrap_or_default() {
        match key.text.as_str() {
            "create_host_path" | "selinux" | "nocopy" => {}
            "subpath" | "propagation" => {
                scene
                    .report
                    .error(key.at, format!("`{}` in {what} is not supported", key.text));
            }
            _ => read::unknown_key(
                scene.report,
                key,
                &format!("in {what}"),
                &["nocopy", "create_host_path"],
            ),
        }
    }
}

/// `tmpfs`: paths, each with options of which the size counts.
pub(super) fn tmpfs(scene: &Scene<'_>, node: &Node, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, "`tmpfs`", true).unwrap_or_default() {
        let (to, options) = text.split_once(':').unwrap_or((&text, ""));
        let mut size_bytes = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => match units::bytes(size) {
                    Some(bytes) => size_bytes = Some(bytes),
                    None => scene.report.error(at, format!("{} is not a size", quoted(size))),
                },
                _ => scene
                    .report
                    .warn(at, format!("the option {} of `tmpfs` has no effect", quoted(option))),
            }
        }
        push(scene, body, at, to, MountKind::Tmpfs { size_bytes }, false);
    }
}
