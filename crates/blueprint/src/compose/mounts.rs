//! `volumes` and `tmpfs` of a service. A mount comes from a volume of the environment, from the checkout, or is memory;
//! nothing of the host can be named.

use super::{Backing, Scene, keys, service::Body};
use crate::{
    escape::quoted,
    problem::At,
    read, tree, units,
    yaml::{Node, NodeKind},
};
use model::{Digest, Feature, Mount, MountKind, ServiceName, VolumeName};

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
pub(super) fn push(scene: &Scene<'_>, body: &mut Body, at: At, to: &str, kind: MountKind, read_only: bool) {
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

/// Source, target and options of the short form.
pub(super) fn parts(text: &str) -> (Option<&str>, &str, &str) {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    match parts[..] {
        [source, to, options] => (Some(source), to, options),
        [source, to] => (Some(source), to, ""),
        _ => (None, text, ""),
    }
}

/// Whether the source of a mount is a path and not the name of a volume.
pub(super) fn is_path(source: &str) -> bool {
    source.contains('/') || source.starts_with(['.', '~'])
}

/// `[source:]target[:options]`
fn short(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let Some(text) = read::text(report, node, "a mount") else {
        return;
    };
    let (source, to, options) = parts(text);
    if options.contains(':') || to.is_empty() || source == Some("") {
        report.error_hint(
            node.at,
            format!("{} is no mount", quoted(text)),
            "written `source:/path/in/container[:ro]`",
        );
        return;
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "nocopy" => body.options.empty_volumes.extend(target(to)),
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => report.warn(
                node.at,
                format!(
                    "the option {} of a mount has no effect: nothing is mounted later",
                    quoted(option)
                ),
            ),
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
    if of_machine(scene, node.at, source) {
        return;
    }
    let kind = if is_path(source) {
        folder(scene, node.at, source, body)
    } else {
        named(scene, node.at, source)
    };
    if let Some(kind) = kind {
        push(scene, body, node.at, to, kind, read_only);
    }
}

/// Whether it is a file of the machine without which a service does as well; that is told.
fn of_machine(scene: &Scene<'_>, at: At, path: &str) -> bool {
    let clock = matches!(path, "/etc/localtime" | "/etc/timezone");
    if clock {
        scene.report.warn_hint(
            at,
            format!("{} of the machine is not mounted", quoted(path)),
            "the variable `TZ` says in which time zone a service is",
        );
    }
    clock
}

/// A volume by its name: of the environment, or what `driver_opts` makes of it.
fn named(scene: &Scene<'_>, at: At, name: &str) -> Option<MountKind> {
    let volume = read::name::<VolumeName>(scene.report, at, name)?;
    match scene.backing(name) {
        Some(Backing::Folder(at, path)) => checkout(scene, at, &path),
        Some(Backing::Memory(options)) => Some(memory(scene, at, &options)),
        Some(Backing::Volume) | None => Some(MountKind::Volume { volume }),
    }
}

fn anonymous(scene: &Scene<'_>, name: &ServiceName, at: At, to: &str, body: &mut Body) {
    if let Some(volume) = implicit_volume(name, to) {
        body.made.insert(volume.clone());
        push(scene, body, at, to, MountKind::Volume { volume }, false);
    }
}

/// The name of a volume that nobody has named.
fn implicit_volume(service: &ServiceName, path: &str) -> Option<VolumeName> {
    let readable = format!("{service}-{}", model::slug(path));
    let hashed = || format!("{:.40}-{:.8}", service.as_str(), Digest::of(path.as_bytes()).as_str());
    readable.parse().or_else(|_| hashed().parse()).ok()
}

/// Where something lies in the checkout; what is no file that can be mounted is an error.
pub(super) fn find(scene: &Scene<'_>, path: &str) -> Result<String, tree::PathError> {
    let subpath = tree::join(scene.folder, path)?;
    if scene.unseen {
        return Ok(subpath);
    }
    if let tree::Kind::File { bytes } = tree::resolve(scene.tree, &subpath)?
        && bytes <= 512
    {
        // It may be a pointer to a file that was not fetched.
        tree::bytes(scene.tree, &subpath)?;
    }
    Ok(subpath)
}

/// A directory or file of the checkout. A folder that is not in the repository, where the file asks for one to be made, is a
/// volume of the environment: what is written there is kept, and services that name the same folder share it.
fn folder(scene: &Scene<'_>, at: At, path: &str, body: &mut Body) -> Option<MountKind> {
    let Ok(subpath) = tree::join(scene.folder, path) else {
        return checkout(scene, at, path);
    };
    let last = subpath.rsplit('/').next().unwrap_or_default();
    // A name with an ending was most likely meant to be a file, of which an empty folder is no replacement.
    let like_file = last.trim_start_matches('.').contains('.');
    if find(scene, path) != Err(tree::PathError::Missing) || like_file {
        return checkout(scene, at, path);
    }
    let hashed = || format!("folder-{:.12}", Digest::of(subpath.as_bytes()).as_str());
    let readable = format!("folder-{}", model::slug(&subpath));
    let volume: VolumeName = readable.parse().or_else(|_| hashed().parse()).ok()?;
    scene.report.warn_hint(
        at,
        format!(
            "{} does not exist in this commit: an empty volume of the environment stands for it",
            quoted(path)
        ),
        "name a volume, to say so yourself",
    );
    body.made.insert(volume.clone());
    Some(MountKind::Volume { volume })
}

/// A directory or file of the checkout.
fn checkout(scene: &Scene<'_>, at: At, path: &str) -> Option<MountKind> {
    let found = find(scene, path);
    match found {
        Ok(subpath) => Some(MountKind::Source {
            source: scene.source.clone(),
            subpath,
        }),
        Err(error) => {
            let hint = match error {
                tree::PathError::Missing => "commit it, or use a named volume for what is made while running",
                tree::PathError::Absolute if path.ends_with("/docker.sock") => {
                    "no service gets hold of the machine's containers: leave it out with `stack.without` of maquette.yaml"
                }
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
    let (mut kind, mut source, mut to, mut read_only) = ("", None, None, false);
    let (mut size_bytes, mut mode, mut subpath, mut create, mut empty) = (None, None, None, true, false);
    for (key, value) in read::map(report, node, "a mount").unwrap_or_default() {
        if !keys::admit(report, "services.*.volumes[]", key, "of a mount") {
            continue;
        }
        let what = format!("`{}` of a mount", key.text);
        match key.text.as_str() {
            "type" => kind = read::text(report, value, &what).unwrap_or_default(),
            "source" => source = read::text(report, value, &what).map(|text| (value.at, text)),
            "target" => to = read::text(report, value, &what),
            "read_only" => read_only = read::flag(report, value, &what).unwrap_or_default(),
            // `tmpfs`, `bind`, `volume`
            section => {
                let section = format!("services.*.volumes[].{section}");
                for (option, value) in read::map(report, value, &what).unwrap_or_default() {
                    if !keys::admit(report, &section, option, &format!("in {what}")) {
                        continue;
                    }
                    match option.text.as_str() {
                        "nocopy" => empty = read::flag(report, value, "`nocopy` of a mount").unwrap_or_default(),
                        "create_host_path" => {
                            create = read::flag(report, value, "`create_host_path` of a mount").unwrap_or(true);
                        }
                        "mode" => mode = super::files::mode(scene, value, "`mode` of a tmpfs"),
                        "size" => size_bytes = read::bytes(report, value, "`size` of a tmpfs"),
                        "subpath" => {
                            subpath = read::text(report, value, "`subpath` of a mount").map(|text| (value.at, text));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    let Some(to) = to else {
        report.error(node.at, "a mount needs `target`, the path in the container");
        return;
    };
    if empty {
        body.options.empty_volumes.extend(target(to));
    }
    if kind == "bind" && source.is_some_and(|(at, path)| of_machine(scene, at, path)) {
        return;
    }
    let mount = match (kind, source) {
        ("bind", Some((at, path))) if create => folder(scene, at, path, body),
        ("bind", Some((at, path))) => checkout(scene, at, path),
        ("volume", Some((at, volume))) => named(scene, at, volume),
        ("volume", None) => return anonymous(scene, name, node.at, to, body),
        ("tmpfs", _) => Some(MountKind::Tmpfs {
            size_bytes,
            mode,
            uid: None,
            gid: None,
        }),
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
    let mount = match (mount, subpath) {
        (Some(MountKind::Volume { volume }), Some((at, path))) => {
            body.wish(
                at,
                Feature::VolumePaths,
                &format!("`subpath` of a mount of service `{name}`"),
            );
            inside(scene, at, volume, path)
        }
        (mount, _) => mount,
    };
    if let Some(kind) = mount {
        push(scene, body, node.at, to, kind, read_only);
    }
}

fn inside(scene: &Scene<'_>, at: At, volume: VolumeName, path: &str) -> Option<MountKind> {
    match tree::join("", path) {
        Ok(subpath) => Some(MountKind::VolumePath { volume, subpath }),
        Err(_) => {
            scene
                .report
                .error(at, format!("{} is no path inside of a volume", quoted(path)));
            None
        }
    }
}

/// `tmpfs`: paths, each with options.
pub(super) fn tmpfs(scene: &Scene<'_>, node: &Node, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, "`tmpfs`", true).unwrap_or_default() {
        let (to, options) = text.split_once(':').unwrap_or((&text, ""));
        let kind = memory(scene, at, options);
        push(
            scene,
            body,
            at,
            to,
            kind,
            options.split(',').any(|option| option == "ro"),
        );
    }
}

/// Memory with options as `mount` has them.
fn memory(scene: &Scene<'_>, at: At, options: &str) -> MountKind {
    let report = scene.report;
    let (mut size_bytes, mut mode, mut uid, mut gid) = (None, None, None, None);
    let number = |text: &str| {
        let found = text.parse::<u32>().ok();
        if found.is_none() {
            report.error(at, format!("{} is not the number of a user or group", quoted(text)));
        }
        found
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => match units::bytes(size) {
                Some(bytes) => size_bytes = Some(bytes),
                None => report.error(at, format!("{} is not a size", quoted(size))),
            },
            Some(("mode", text)) => mode = super::files::permissions(scene, at, text, "`mode` of `tmpfs`"),
            Some(("uid", text)) => uid = number(text),
            Some(("gid", text)) => gid = number(text),
            // So anyway: programs run from it, and none gains rights by that or finds a device in it.
            None if matches!(
                option,
                "rw" | "ro" | "exec" | "nosuid" | "nodev" | "noatime" | "relatime"
            ) => {}
            _ => report.warn(at, format!("the option {} of `tmpfs` has no effect", quoted(option))),
        }
    }
    MountKind::Tmpfs {
        size_bytes,
        mode,
        uid,
        gid,
    }
}

/// Mounts of other services, as they have them: `service`, `service:ro`.
pub(super) fn from(scene: &Scene<'_>, node: &Node, what: &str, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, what, false).unwrap_or_default() {
        let (service, read_only) = match text.split_once(':') {
            Some((service, "ro")) => (service, true),
            None | Some((_, "rw")) => (text.split(':').next().unwrap_or_default(), false),
            Some(_) => {
                scene.report.error_hint(
                    at,
                    format!("{} in {what} is not supported", quoted(&text)),
                    "name a service of the file: `service` or `service:ro`",
                );
                continue;
            }
        };
        body.volumes_from.push((at, service.to_owned(), read_only));
        body.depends_on.push(super::depend::Need::plain(at, service.to_owned()));
    }
}

/// Adds the mounts of the services that this one names, which have theirs already.
pub(super) fn take_over(scene: &Scene<'_>, file: &mut super::File, index: usize) {
    let Some(named) = file
        .services
        .get(index)
        .map(|service| service.body.volumes_from.clone())
    else {
        return;
    };
    for (at, from, read_only) in named {
        // A service that does not exist is told of with the other dependencies.
        let other = file.services.iter().find(|service| service.name.as_str() == from);
        let theirs = other.map(|other| (other.body.mounts.clone(), other.body.made.clone()));
        let (theirs, made) = theirs.unwrap_or_default();
        let Some(service) = file.services.get_mut(index) else {
            return;
        };
        service.body.made.extend(made);
        for (_, mount) in theirs {
            let shared = matches!(
                mount.kind,
                MountKind::Volume { .. } | MountKind::VolumePath { .. } | MountKind::Source { .. }
            );
            if shared && service.body.mounts.iter().all(|(_, own)| own.target != mount.target) {
                let to = mount.target.clone();
                push(
                    scene,
                    &mut service.body,
                    at,
                    &to,
                    mount.kind,
                    mount.read_only || read_only,
                );
            }
        }
    }
}
