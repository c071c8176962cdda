//! The image of a container.

use super::super::Order;
use crate::finding::{Decision, Findings, Place};
use model::{Build, Engine, Root};

/// The image that a root is made from, by digest where one is known.
pub(super) fn of(order: &Order<'_>, place: &Place, root: &Root, findings: &mut Findings) -> Option<String> {
    match root {
        Root::Host => {
            findings.note(place, Decision::HostRoot, "");
            None
        }
        Root::Image { reference, pinned } => match pinned {
            Some(digest) => Some(format!("{}@{digest}", without_digest(reference))),
            None => {
                findings.note(place, Decision::NotPinned, reference);
                Some(reference.clone())
            }
        },
        // An engine is recognised by its tag, which its author chose for the versions that it stands for.
        Root::Engine(Engine {
            kind: _,
            image,
            versions: _,
        }) => Some(image.clone()),
        Root::Build(build) => built(order, place, build, findings),
    }
}

fn without_digest(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(name, _)| name)
}

/// What a Dockerfile was built to. How it is built is the builder's matter, and so is all of it but the result.
fn built(order: &Order<'_>, place: &Place, build: &Build, findings: &mut Findings) -> Option<String> {
    let Some(repository) = &order.cluster.built_images else {
        findings.note(place, Decision::NoRegistry, "");
        return None;
    };
    let Some(digest) = &build.made else {
        findings.note(place, Decision::NotBuilt, "");
        return None;
    };
    Some(format!("{repository}/{}@{digest}", order.spec.project))
}
