//! `build` of a service.

use super::{Scene, keys, merge, paths};
use crate::{
    escape::quoted,
    problem::At,
    read, tree,
    yaml::{Node, NodeKind},
};
use model::{Build, BuildContext, BuildSecret, Dockerfile, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// The most build arguments, contexts and the like.
const ITEMS_MAX: usize = 200;
/// The largest text of a Dockerfile, in bytes.
const INLINE_MAX: usize = 256 * 1024;

/// What is to be built; `None` with a problem if that can't be told.
pub(super) fn read(scene: &Scene<'_>, name: &ServiceName, node: &Node) -> Option<Build> {
    let report = scene.report;
    let of = format!("in `build` of service `{name}`");
    let mut build = Build {
        source: scene.source.clone(),
        context: String::new(),
        dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
        args: BTreeMap::new(),
        target: None,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        no_health: false,
        made: None,
        private_to: None,
        tags: BTreeSet::new(),
    };
    let (mut context, mut dockerfile, mut inline) = (None, None, None);
    if let NodeKind::Scalar { text, .. } = &node.kind {
        context = Some((node.at, text.as_str()));
    } else {
        for (key, value) in read::map(report, node, &format!("`build` of service `{name}`"))? {
            let harmless = key.text == "privileged" && keys::says(value, &["false"]);
            if harmless || !keys::admit(report, "services.*.build", key, &of) {
                continue;
            }
            let what = format!("`{}` {of}", key.text);
            match key.text.as_str() {
                "context" => context = read::text(report, value, &what).map(|text| (value.at, text)),
                "dockerfile" => dockerfile = read::text(report, value, &what).map(|text| (value.at, text)),
                "dockerfile_inline" => inline = read::text(report, value, &what).map(|text| (value.at, text)),
                "target" => build.target = read::text(report, value, &what).map(str::to_owned),
                "args" => build.args = texts(scene, value, &what, true),
                "labels" => build.labels = texts(scene, value, &what, false),
                "no_cache" => build.no_cache = read::flag(report, value, &what).unwrap_or_default(),
                "tags" => {
                    let tags = read::texts(report, value, &what, false).unwrap_or_default();
                    build.tags = tags.into_iter().take(ITEMS_MAX).map(|(_, tag)| tag).collect();
                }
                "additional_contexts" => build.contexts = contexts(scene, value, &what),
                _ => build.secrets = secrets(scene, value, &what),
            }
        }
    }
    let (at, path) = context.unwrap_or((node.at, "."));
    build.context = folder(scene, at, path)?;
    build.dockerfile = text_of(scene, &build.context, dockerfile, inline, node.at)?;
    Some(build)
}

/// A folder of the repository, which must be there.
fn folder(scene: &Scene<'_>, at: At, path: &str) -> Option<String> {
    let found =
        tree::join(scene.folder, path).and_then(|path| tree::resolve(scene.tree, &path).map(|kind| (path, kind)));
    match found {
        _ if paths::is_address(path) => {
            scene.report.error_hint(
                at,
                format!("{} is no folder of this repository", quoted(path)),
                "only what is in the repository is built",
            );
            None
        }
        Ok((path, tree::Kind::Directory)) => Some(path),
        _ if scene.unseen => tree::join(scene.folder, path).ok(),
        Ok(_) => {
            scene.report.error(at, format!("{} is no folder", quoted(path)));
            None
        }
        Err(error) => {
            scene.report.error(at, format!("{} {error}", quoted(path)));
            None
        }
    }
}

fn text_of(
    scene: &Scene<'_>,
    context: &str,
    dockerfile: Option<(At, &str)>,
    inline: Option<(At, &str)>,
    whole: At,
) -> Option<Dockerfile> {
    if let Some((at, text)) = inline {
        if dockerfile.is_some() {
            scene.report.error_hint(
                at,
                "there are `dockerfile` and `dockerfile_inline`",
                "keep one of the two",
            );
        } else if text.len() > INLINE_MAX {
            scene
                .report
                .error(at, format!("`dockerfile_inline` has more than {INLINE_MAX} bytes"));
        }
        return Some(Dockerfile::Inline(text.to_owned()));
    }
    let (at, path) = dockerfile.unwrap_or((whole, "Dockerfile"));
    let found = tree::join(context, path).and_then(|path| tree::resolve(scene.tree, &path).map(|kind| (path, kind)));
    match found {
        Ok((path, tree::Kind::File { .. })) => Some(Dockerfile::Path(path)),
        _ if scene.unseen => tree::join(context, path).ok().map(Dockerfile::Path),
        Ok(_) => {
            scene.report.error(at, format!("{} is no file", quoted(path)));
            None
        }
        Err(error) => {
            scene.report.error_hint(
                at,
                format!("{} {error}", quoted(path)),
                "`dockerfile` starts from the folder that `context` names",
            );
            None
        }
    }
}

/// `name: text`, or a list of `name=text`.
fn texts(scene: &Scene<'_>, node: &Node, what: &str, inherit: bool) -> BTreeMap<String, String> {
    let report = scene.report;
    let Some(entries) = merge::pairs(node) else {
        report.error(node.at, format!("{what} must be a mapping, or a list of `name=value`"));
        return BTreeMap::new();
    };
    let mut out = BTreeMap::new();
    for (key, value) in entries.into_iter().take(ITEMS_MAX) {
        let text = match &value.kind {
            NodeKind::Null if inherit => scene.scope.get(&key.text),
            NodeKind::Null => Some(""),
            _ => read::text(report, &value, what),
        };
        match text {
            Some(text) if text.contains('\0') => report.error_hint(
                key.at,
                format!(
                    "{} in {what} is a secret, and arguments stay in layers",
                    quoted(&key.text)
                ),
                "use `secrets` of `build`",
            ),
            Some(text) => {
                out.insert(key.text.clone(), text.to_owned());
            }
            None => {}
        }
    }
    out
}

fn contexts(scene: &Scene<'_>, node: &Node, what: &str) -> BTreeMap<String, BuildContext> {
    let mut out = BTreeMap::new();
    let Some(entries) = merge::pairs(node) else {
        scene
            .report
            .error(node.at, format!("{what} must be a mapping, or a list of `name=value`"));
        return out;
    };
    for (key, value) in entries.into_iter().take(ITEMS_MAX) {
        let Some(text) = read::text(scene.report, &value, what) else {
            continue;
        };
        let context = if let Some(image) = text.strip_prefix("docker-image://") {
            Some(BuildContext::Image(image.to_owned()))
        } else if let Some(service) = text.strip_prefix("service:") {
            Some(BuildContext::Service(service.to_owned()))
        } else {
            folder(scene, value.at, text).map(BuildContext::Folder)
        };
        out.extend(context.map(|context| (key.text.clone(), context)));
    }
    out
}

/// Files that are there while it is built.
fn secrets(scene: &Scene<'_>, node: &Node, what: &str) -> BTreeMap<String, BuildSecret> {
    let report = scene.report;
    let mut out = BTreeMap::new();
    for item in read::list(report, node, what)
        .unwrap_or_default()
        .iter()
        .take(ITEMS_MAX)
    {
        let (mut source, mut target) = (None, None);
        if let NodeKind::Map(entries) = &item.kind {
            for (key, value) in entries {
                if keys::admit(report, "services.*.build.secrets[]", key, &format!("in {what}")) {
                    let text = read::text(report, value, &format!("`{}` in {what}", key.text));
                    if key.text == "source" {
                        source = text;
                    } else {
                        target = text;
                    }
                }
            }
        } else {
            source = read::text(report, item, &format!("each entry of {what}"));
        }
        let Some(source) = source else { continue };
        if let Some(secret) = super::files::build_secret(scene, item.at, source) {
            let id = target.and_then(|target| target.rsplit('/').next()).unwrap_or(source);
            out.insert(id.to_owned(), secret);
        }
    }
    out
}
