//! The marker: which generation was accepted last, whose envelope is complete, and whether the environment sleeps. It is the one thing
//! that says so, in the cluster itself: it survives any restart of ours, and two of us at once can not both win.

use crate::{
    Kind,
    api::{MANAGER, Objects, attempt, failed, told},
    build::marker::{GENERATION, NAME},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{PostParams, Resource},
};
use model::{EnvironmentId, Generation, Power};
use runtime::{Result, RuntimeError};
use std::collections::BTreeMap;

/// The key of the generation whose envelope is complete.
const ENVELOPE: &str = "envelope";
/// The key that is there while the environment is stopped.
const STOPPED: &str = "stopped";

/// How often somebody else may come first.
const RACES: u32 = 20;

/// What a marker says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The newest generation of which a mutation was accepted.
    pub(crate) generation: Generation,
    /// The generation whose envelope is complete.
    pub(crate) envelope: Option<Generation>,
    /// Whether it sleeps.
    pub(crate) power: Power,
}

impl Mark {
    /// Reads a marker.
    pub(crate) fn of(marker: &ConfigMap) -> Self {
        let number = |key: &str| marker.data.as_ref()?.get(key)?.parse().ok().map(Generation);
        let stopped = marker.data.as_ref().is_some_and(|data| data.contains_key(STOPPED));
        Self {
            generation: number(GENERATION).unwrap_or_default(),
            envelope: number(ENVELOPE),
            power: if stopped { Power::Stopped } else { Power::Running },
        }
    }

    fn write(self, data: &mut BTreeMap<String, String>) {
        data.insert(GENERATION.to_owned(), self.generation.to_string());
        if let Some(envelope) = self.envelope {
            data.insert(ENVELOPE.to_owned(), envelope.to_string());
        }
        match self.power {
            Power::Stopped => drop(data.insert(STOPPED.to_owned(), "yes".to_owned())),
            Power::Running | Power::Frozen => drop(data.remove(STOPPED)),
        }
    }
}

/// Where markers are read and written.
pub(crate) struct Marks {
    client: Client,
}

impl Marks {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn api(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes the marker of a new environment, unless it is there.
    pub(crate) async fn begin(&self, namespace: &str, marker: &ConfigMap) -> Result<()> {
        let action = format!("making the marker in {namespace}");
        let mut marker = marker.clone();
        // What was accepted is written by `accept` alone.
        marker.data = None;
        let api = self.api(namespace);
        let how = how();
        let made = attempt(&action, || async {
            match api.create(&how, &marker).await {
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
                other => other.map(drop),
            }
        });
        made.await
    }

    /// Accepts a mutation of a generation, and changes what the marker says with it. Returns the version of the marker.
    ///
    /// # Errors
    /// `Superseded` if a newer generation was accepted; `NotFound` if there is no marker.
    pub(crate) async fn accept(
        &self,
        namespace: &str,
        environment: &EnvironmentId,
        given: Generation,
        change: impl Fn(&mut Mark) + Send,
    ) -> Result<Option<String>> {
        let action = format!("writing the marker in {namespace}");
        let api = self.api(namespace);
        for _ in 0..RACES {
            let found = attempt(&action, || api.get_opt(NAME)).await?;
            let mut marker = found.ok_or_else(|| RuntimeError::NotFound {
                what: format!("environment {environment}"),
            })?;
            let mut mark = Mark::of(&marker);
            if given < mark.generation {
                return Err(RuntimeError::Superseded {
                    environment: environment.clone(),
                    given,
                    newest: mark.generation,
                });
            }
            let before = mark;
            mark.generation = given;
            change(&mut mark);
            if mark == before {
                return Ok(marker.meta_mut().resource_version.take());
            }
            mark.write(marker.data.get_or_insert_default());
            // The version that was read goes with it: who has written meanwhile wins, and is read again.
            match api.replace(NAME, &how(), &marker).await {
                Ok(written) => return Ok(written.metadata.resource_version),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(told(&action, error)),
            }
        }
        Err(failed(&action, "others changed it at the same time, again and again"))
    }
}

fn how() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Whether an environment's namespace is there and ours. One of somebody else's with its name is no environment.
///
/// # Errors
/// If a namespace of that name is not ours.
pub(crate) async fn has_namespace(objects: &Objects, namespace: &str, instance: &str) -> Result<Option<String>> {
    let Some(found) = objects.get(Kind::Namespace, namespace, namespace).await? else {
        return Ok(None);
    };
    match crate::build::labels::label(&found.metadata, crate::build::labels::INSTANCE) {
        Some(owner) if owner == instance => Ok(found.metadata.uid),
        _ => Err(RuntimeError::Failed {
            action: format!("using the namespace {namespace}"),
            reason: "somebody else has made a namespace of that name; it is left alone".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_says_what_was_written() {
        let mut marker = ConfigMap::default();
        assert_eq!(Mark::of(&marker), Mark::default());
        for power in [Power::Stopped, Power::Running] {
            let mark = Mark {
                generation: Generation(7),
                envelope: Some(Generation(6)),
                power,
            };
            mark.write(marker.data.get_or_insert_default());
            assert_eq!(Mark::of(&marker), mark);
        }
    }
}
