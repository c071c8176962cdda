//! Which services people can visit, and which of them the environment's own address leads to.

use crate::{
    compose, engine,
    settings::{Public, Stack},
    yaml::{Node, NodeKind},
};
use model::ServiceName;

/// The name that is preferred for the main service.
const MAIN: &str = "web";

/// The public services, the main one first. This is known before anything is interpolated, as the addresses may be
/// interpolated.
///
/// Where `maquette.yaml` says `public` of any service, those are it. Otherwise it is every service that publishes ports and
/// is no engine.
pub(crate) fn services(compose: &Node, stack: &Stack) -> Vec<ServiceName> {
    let said = |name: &str| {
        stack
            .services
            .get(name)
            .and_then(|service| service.public)
            .map(|(_, public)| public)
    };
    let all = compose::publishing(compose);
    let chosen = all
        .iter()
        .any(|(name, _)| said(name).is_some_and(|public| public != Public::No));
    let mut public: Vec<ServiceName> = all
        .iter()
        .filter(|(name, publishes)| match said(name) {
            Some(public) => public != Public::No,
            None => !chosen && *publishes && !is_engine(compose, name),
        })
        .filter_map(|(name, _)| name.parse().ok())
        .collect();
    if let Some(main) = public.iter().position(|name| name.as_str() == MAIN) {
        let main = public.remove(main);
        public.insert(0, main);
    }
    public
}

fn is_engine(compose: &Node, name: &str) -> bool {
    let image = compose
        .get("services")
        .and_then(|services| services.get(name))
        .and_then(|service| service.get("image"));
    matches!(image.map(|node| &node.kind), Some(NodeKind::Scalar { text, .. }) if engine::recognise(text).is_some())
}

/// The services that catch mail.
pub(crate) fn mail(compose: &Node) -> Vec<ServiceName> {
    let Some(NodeKind::Map(services)) = compose.get("services").map(|node| &node.kind) else {
        return Vec::new();
    };
    let catches = |service: &Node| match service.get("image").map(|node| &node.kind) {
        Some(NodeKind::Scalar { text, .. }) => engine::catches_mail(text) && service.get("build").is_none(),
        _ => false,
    };
    let found = services.iter().filter(|(_, service)| catches(service));
    found.filter_map(|(key, _)| key.text.parse().ok()).collect()
}
