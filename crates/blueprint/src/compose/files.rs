//! `secrets` and `configs`: files that a service is given, from the repository, from text, or from a granted secret.

use super::{Scene, keys, mounts, service::Body};
use crate::{
    escape::quoted,
    interpolate,
    problem::At,
    read, suggest, tree,
    yaml::{Node, NodeKind},
};
use model::{BuildSecret, Feature, MountKind, ServiceName};
use std::collections::BTreeSet;

/// Permission bits of a file that says nothing else: everyone may read it.
const MODE: u32 = 0o444;
/// The largest text of one file, in bytes; Docker's own bound is of this size.
const CONTENT_MAX: usize = 512 * 1024;
/// The most files of one service.
const FILES_MAX: usize = 100;

/// `secrets` of a service.
pub(super) fn secrets(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    read(scene, name, node, body, "secrets");
}

/// `configs` of a service.
pub(super) fn configs(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    read(scene, name, node, body, "configs");
}

/// How a service wants a file.
struct Wanted<'a> {
    at: At,
    source: &'a str,
    target: Option<&'a str>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

fn read(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body, section: &str) {
    let what = format!("`{section}` of service `{name}`");
    let items = read::list(scene.report, node, &what).unwrap_or_default();
    if let Some(item) = items.get(FILES_MAX) {
        scene
            .report
            .error(item.at, format!("{what} has more than {FILES_MAX} entries"));
        return;
    }
    let mut targets = BTreeSet::new();
    for item in items {
        let Some(wanted) = wanted(scene, item, &what, section) else {
            continue;
        };
        let folder = if section == "secrets" { "/run/secrets/" } else { "/" };
        let target = match wanted.target {
            Some(target) if target.starts_with('/') => target.to_owned(),
            Some(target) => format!("{folder}{target}"),
            None => format!("{folder}{}", wanted.source),
        };
        let Some(kind) = given(scene, &wanted, section) else {
            continue;
        };
        let of_repository = matches!(kind, MountKind::Source { .. });
        if !of_repository {
            body.wish(
                wanted.at,
                Feature::Content,
                &format!("the file {} of service `{name}`", quoted(&target)),
            );
        } else if wanted.mode.is_some() || wanted.uid.is_some() || wanted.gid.is_some() {
            scene.report.warn(
                wanted.at,
                format!(
                    "owner and mode of {} have no effect: files of the repository are as they are",
                    quoted(&target)
                ),
            );
        }
        // What says the same path in two ways is there once, as the last one says.
        if !targets.insert(target.clone()) {
            body.mounts.retain(|(_, mount)| mount.target != target);
        }
        mounts::push(scene, body, wanted.at, &target, kind, true);
    }
}

fn wanted<'a>(scene: &Scene<'_>, item: &'a Node, what: &str, section: &str) -> Option<Wanted<'a>> {
    let report = scene.report;
    let mut wanted = Wanted {
        at: item.at,
        source: "",
        target: None,
        uid: None,
        gid: None,
        mode: None,
    };
    if !matches!(item.kind, NodeKind::Map(_)) {
        wanted.source = read::text(report, item, &format!("each entry of {what}"))?;
        return Some(wanted);
    }
    let number = |node: &Node, what: &str| read::number(report, node, what).and_then(|n| u32::try_from(n).ok());
    for (key, value) in read::map(report, item, what)? {
        if !keys::admit(report, &format!("services.*.{section}[]"), key, &format!("in {what}")) {
            continue;
        }
        let what = format!("`{}` in {what}", key.text);
        match key.text.as_str() {
            "source" => wanted.source = read::text(report, value, &what)?,
            "target" => wanted.target = Some(read::text(report, value, &what)?),
            "uid" => wanted.uid = number(value, &what),
            "gid" => wanted.gid = number(value, &what),
            _ => wanted.mode = mode(scene, value, &what),
        }
    }
    if wanted.source.is_empty() {
        report.error(item.at, format!("an entry of {what} has no `source`"));
        return None;
    }
    Some(wanted)
}

/// Permission bits as people write them: in octal digits, with `0`, `0o` or nothing before them.
pub(super) fn mode(scene: &Scene<'_>, node: &Node, what: &str) -> Option<u32> {
    permissions(scene, node.at, read::text(scene.report, node, what)?, what)
}

/// The same, of a text.
pub(super) fn permissions(scene: &Scene<'_>, at: At, text: &str, what: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        scene.report.error_hint(
            at,
            format!("{what} must be permission bits, and this is {}", quoted(text)),
            "written in octal digits, such as 0440",
        );
    }
    mode
}

/// What the file holds.
fn given(scene: &Scene<'_>, wanted: &Wanted<'_>, section: &str) -> Option<MountKind> {
    let report = scene.report;
    let declared = scene.root.get(section);
    let Some(node) = declared.and_then(|declared| declared.get(wanted.source)) else {
        let names: Vec<&str> = match declared.map(|declared| &declared.kind) {
            Some(NodeKind::Map(entries)) => entries.iter().map(|(key, _)| key.text.as_str()).collect(),
            _ => Vec::new(),
        };
        let hint = match suggest::nearest(wanted.source, names.iter().copied()) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => format!("declare it under `{section}` at the top level"),
        };
        report.error_hint(
            wanted.at,
            format!("{} is not declared in `{section}`", quoted(wanted.source)),
            hint,
        );
        return None;
    };
    let content = |text: &str| {
        if text.len() > CONTENT_MAX {
            report.error(node.at, format!("the text has more than {CONTENT_MAX} bytes"));
        }
        Some(MountKind::Content {
            content: interpolate::value(text),
            mode: wanted.mode.unwrap_or(MODE),
            uid: wanted.uid,
            gid: wanted.gid,
        })
    };
    let said = |key: &str| {
        node.get(key)
            .and_then(|node| read::text(report, node, &format!("`{key}`")))
    };
    if let Some(text) = said("content").filter(|_| section == "configs") {
        return content(text);
    }
    if let Some(variable) = said("environment") {
        return match scene.scope.get(variable) {
            Some(text) => content(text),
            None => ungranted(scene, node.at, section, wanted.source, variable),
        };
    }
    if let Some(path) = said("file") {
        return file(scene, node, section, wanted, path, &content);
    }
    if section == "secrets" && node.get("external").is_some() {
        let named = node
            .get("external")
            .and_then(|external| external.get("name"))
            .or_else(|| node.get("name"));
        let name = named
            .and_then(|node| read::text(report, node, "`name`"))
            .unwrap_or(wanted.source);
        return match scene.secret(name) {
            Some(text) => content(&text),
            None => ungranted(scene, node.at, section, wanted.source, name),
        };
    }
    if section == "secrets" || node.get("external").is_none() {
        report.error_hint(
            node.at,
            format!("nothing says what {} in `{section}` holds", quoted(wanted.source)),
            "give it a `file`, or the name of a variable as `environment`",
        );
    }
    None
}

fn file(
    scene: &Scene<'_>,
    node: &Node,
    section: &str,
    wanted: &Wanted<'_>,
    path: &str,
    content: &dyn Fn(&str) -> Option<MountKind>,
) -> Option<MountKind> {
    // What belongs into no repository is rarely in one: then the granted secret of that name stands for it.
    let granted = scene.secret(wanted.source).filter(|_| section == "secrets");
    match (mounts::find(scene, path), granted) {
        (Ok(subpath), _) => Some(MountKind::Source {
            source: scene.source.clone(),
            subpath,
        }),
        (Err(_), Some(text)) => content(&text),
        (Err(error), None) => {
            let hint = match (section, &error) {
                ("secrets", tree::PathError::Missing) => format!(
                    "a granted secret of the name {} would stand for it: `policy: {{ secrets: [{}] }}`",
                    quoted(wanted.source),
                    wanted.source
                ),
                _ => "use a file of the repository".to_owned(),
            };
            let at = node.get("file").map_or(node.at, |node| node.at);
            scene.report.error_hint(at, format!("{} {error}", quoted(path)), hint);
            None
        }
    }
}

fn ungranted(scene: &Scene<'_>, at: At, section: &str, name: &str, variable: &str) -> Option<MountKind> {
    scene.report.error_hint(
        at,
        format!(
            "{} in `{section}` is made from {}, which has no value",
            quoted(name),
            quoted(variable)
        ),
        "grant a secret of that name under `policy.secrets`, or give it a line in the file `.env` beside the Compose file",
    );
    None
}

/// What a secret of a build holds.
pub(super) fn build_secret(scene: &Scene<'_>, at: At, source: &str) -> Option<BuildSecret> {
    let wanted = Wanted {
        at,
        source,
        target: None,
        uid: None,
        gid: None,
        mode: None,
    };
    match given(scene, &wanted, "secrets")? {
        MountKind::Source { subpath, .. } => Some(BuildSecret::File(subpath)),
        MountKind::Content { content, .. } => Some(BuildSecret::Value(content)),
        _ => None,
    }
}

/// Checks the keys of a top-level section.
pub(super) fn section(scene: &Scene<'_>, node: &Node, section: &str) {
    let report = scene.report;
    for (key, node) in read::map(report, node, &format!("`{section}`")).unwrap_or_default() {
        if key.text.starts_with("x-") {
            continue;
        }
        let of = format!("of {} in `{section}`", quoted(&key.text));
        for (option, value) in
            read::map(report, node, &format!("{} in `{section}`", quoted(&key.text))).unwrap_or_default()
        {
            let harmless = option.text == "external" && keys::says(value, &["false"]);
            let named = option.text == "name" && node.get("external").is_some();
            if !harmless && !named {
                keys::admit(report, &format!("{section}.*"), option, &of);
            }
        }
    }
}
