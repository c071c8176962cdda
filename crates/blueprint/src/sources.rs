//! Further sources: repositories beside the one that carries the blueprint, from which services take their files.

use crate::{
    escape::quoted,
    problem::{At, Report},
    settings::Stack,
    suggest,
    tree::Tree,
};
use model::{CommitId, SourceName};
use std::collections::BTreeMap;

/// A commit of a further source.
#[derive(Clone, Copy)]
pub struct FurtherCommit<'a> {
    /// Which one; `None` where it is a directory.
    pub commit: Option<&'a CommitId>,
    /// Its files.
    pub tree: &'a dyn Tree,
}

/// The sources of a project beside the one that carries the blueprint.
#[derive(Default)]
pub struct Further<'a> {
    /// By name: the commit, or why there is none, in words that continue "source `api` …".
    pub sources: BTreeMap<SourceName, Result<FurtherCommit<'a>, String>>,
    /// Whether there may be others: then nothing is said against a name that is not here, and files of that source are not
    /// looked at.
    pub open: bool,
}

impl Further<'_> {
    /// What can be said where nobody has looked at further sources.
    #[must_use]
    pub fn unseen() -> Self {
        Self {
            sources: BTreeMap::new(),
            open: true,
        }
    }
}

/// Where a service takes its files from that are not those of the blueprint's own source.
#[derive(Clone)]
pub(crate) struct Elsewhere<'a> {
    pub(crate) at: At,
    pub(crate) source: SourceName,
    /// The commit; without one, its files are not looked at.
    pub(crate) found: Option<FurtherCommit<'a>>,
}

/// The services that name another source than the blueprint's own, by name. Sources that are not there are problems.
pub(crate) fn elsewhere<'a>(
    report: &Report,
    stack: &Stack,
    own: &SourceName,
    further: &Further<'a>,
) -> BTreeMap<String, Elsewhere<'a>> {
    let mut all = BTreeMap::new();
    for (service, said) in &stack.services {
        let Some((at, name)) = &said.source else { continue };
        if name == own.as_str() {
            continue;
        }
        let known = further.sources.iter().find(|(known, _)| known.as_str() == name);
        let found = match (known, name.parse::<SourceName>()) {
            (Some((source, Ok(found))), _) => Some((source.clone(), Some(*found))),
            (Some((_, Err(why))), _) => {
                report.error(*at, format!("source {} {why}", quoted(name)));
                None
            }
            (None, Ok(source)) if further.open => {
                report.warn_hint(
                    *at,
                    format!(
                        "source {} is not here: what service {} takes from it is not looked at",
                        quoted(name),
                        quoted(service)
                    ),
                    format!("`--source {source}=DIRECTORY` names a checkout of it"),
                );
                Some((source, None))
            }
            (None, _) => {
                let mut names: Vec<&str> = further.sources.keys().map(SourceName::as_str).collect();
                names.push(own.as_str());
                report.error_hint(
                    *at,
                    format!("the project has no source {}", quoted(name)),
                    suggest::hint(name, &names),
                );
                None
            }
        };
        if let Some((source, found)) = found {
            let elsewhere = Elsewhere { at: *at, source, found };
            all.insert(service.clone(), elsewhere);
        }
    }
    all
}
