//! The keys of the Compose Specification, each with what becomes of it. The reader asks here, and the reference in the
//! documentation is made from here.

mod table;

pub(crate) use table::KEYS;

use crate::{
    escape::quoted,
    problem::Report,
    suggest,
    yaml::{Key, Node, NodeKind},
};
use Fate::{AsParent, Honoured, Ignored, Refused, Wish};
use model::Feature;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does what it says.
    Honoured,
    /// It does where the runtime has the feature.
    Wish(Feature),
    /// The stack would not be what its authors meant. The text says what to do instead.
    Refused,
    /// Nothing is lost without it. The text says why.
    Ignored,
    /// Its parent is refused or ignored as a whole.
    AsParent,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it stands: `*` is a name that the author chooses, `[]` an item of a list.
    pub(crate) path: &'static str,
    pub(crate) fate: Fate,
    pub(crate) text: &'static str,
}

/// What a runtime without the feature does, and whether that is refused.
pub(crate) fn lack(feature: Feature) -> (bool, &'static str) {
    match feature {
        Feature::NativeBuilds => (true, "the runtime builds nothing in a checkout"),
        Feature::Builds => (true, "the runtime builds no images"),
        Feature::Content => (true, "the runtime mounts no files but those of the checkout"),
        Feature::VolumePaths => (true, "the runtime mounts whole volumes: mount it without `subpath`"),
        Feature::Networks => (false, "all services of the environment share one network"),
        Feature::Users => (false, "the runtime chooses the user that a service runs as"),
        Feature::Init => (false, "the program is the first process of its container"),
        Feature::Hostname => (false, "a service is called by its own name"),
        Feature::Hosts => (false, "names are answered by the environment's own name server"),
        Feature::Ulimits => (false, "the runtime's own bounds apply"),
        Feature::Sysctls => (false, "the settings of the machine apply"),
        Feature::DropCapabilities => (false, "services have no capabilities beyond the runtime's default"),
        Feature::SharedMemory => (false, "shared memory is bounded by the memory limit"),
        Feature::Terminal => (false, "no terminal is attached"),
        Feature::RestartLimit => (false, "restarts are bounded by a growing pause"),
        Feature::StartInterval => (false, "until it is ready, a service is probed often"),
        // No key of a Compose file asks for it.
        Feature::Program => (false, "images that catch mail run as they are"),
        Feature::BroughtImages => (false, "the runtime fetches images itself"),
    }
}

/// What becomes of a key of a section, such as `services.*`; `None` if the specification does not know it.
pub(crate) fn find(section: &str, key: &str) -> Option<&'static Entry> {
    KEYS.iter().find(|entry| parts(entry.path) == (section, key))
}

/// The section and the last part of a path.
pub(crate) fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The keys of a section.
pub(crate) fn of(section: &str) -> Vec<&'static str> {
    KEYS.iter()
        .map(|entry| parts(entry.path))
        .filter(|(of, _)| *of == section)
        .map(|(_, key)| key)
        .collect()
}

/// Those of them that have an effect.
fn honoured(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter(move |entry| parts(entry.path).0 == section && matches!(entry.fate, Honoured | Wish(_)))
        .map(|entry| parts(entry.path).1)
}

/// Whether a key is to be read. If not, that is told: `of` continues "`key` …", as in "of service `web`".
pub(crate) fn admit(report: &Report, section: &str, key: &Key, of: &str) -> bool {
    if key.text.starts_with("x-") {
        return false;
    }
    let Some(entry) = find(section, &key.text) else {
        // Looking for the nearest of all keys takes time, and nobody would read it.
        if report.is_full() {
            return false;
        }
        let place = match of.strip_prefix("of ") {
            Some(place) => format!("in {place}"),
            None => of.to_owned(),
        };
        let known = self::of(section);
        let hint = match suggest::nearest(&key.text, known) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => format!("known here: {}", suggest::listed(honoured(section))),
        };
        report.error_hint(key.at, format!("unknown key {} {place}", quoted(&key.text)), hint);
        return false;
    };
    match entry.fate {
        Honoured | Wish(_) => true,
        Refused => {
            report.error_hint(key.at, format!("`{}` {of} is not supported", key.text), entry.text);
            false
        }
        Ignored | AsParent => {
            report.warn(key.at, format!("`{}` {of} has no effect: {}", key.text, entry.text));
            false
        }
    }
}

/// Whether a value says what is the case anyway.
pub(crate) fn says(node: &Node, wanted: &[&str]) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, .. } if wanted.contains(&text.as_str()))
        || matches!(node.kind, NodeKind::Null)
}
