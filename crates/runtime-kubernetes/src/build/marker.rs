//! The marker: which generation the objects of a namespace are. It is written last, and a delivery refuses what is older than it says.

use super::{Object, Order, labels};
use k8s_openapi::api::core::v1::ConfigMap;
use model::Digest;

/// Its name. Config maps of services and jobs have a `--` in theirs.
pub(crate) const NAME: &str = "marker";

/// The key of the generation.
pub(crate) const GENERATION: &str = "generation";

pub(super) fn object(order: &Order<'_>) -> Object {
    // A generation holds names and versions of secrets, no values.
    let digest = Digest::of(&serde_json::to_vec(order.spec).unwrap_or_default());
    let generation = order.spec.generation.to_string();
    let mut metadata = labels::meta(order, NAME);
    metadata
        .labels
        .get_or_insert_default()
        .extend(labels::map([labels::MARKER]));
    Object::Marker(ConfigMap {
        metadata,
        data: Some(labels::map([
            ("digest", digest.as_str()),
            (GENERATION, generation.as_str()),
        ])),
        ..ConfigMap::default()
    })
}
