//! Waiting until an environment is live.

use crate::ports::{Route, RouteKey, RouteState, Routes};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Whether waiting can still lead to a live environment.
pub(crate) fn is_on_its_way(state: &RouteState) -> bool {
    matches!(state, RouteState::Starting { .. } | RouteState::Sleeping)
}

/// Waits until the route is no longer on its way, at most so long; gives the route as it is then. `seen` is told of the route
/// before every wait, and again after each `again` in which nothing changed: it may fall asleep, too, while somebody waits.
pub(crate) async fn wait(
    routes: &dyn Routes,
    key: &RouteKey,
    patience: Duration,
    again: Duration,
    seen: impl Fn(&Route),
) -> Option<Arc<Route>> {
    let deadline = Instant::now() + patience;
    // Subscribed before the look-up, so that no change falls between the two.
    let mut changes = routes.changes();
    loop {
        changes.mark_unchanged();
        let route = routes.route(key)?;
        if !is_on_its_way(&route.state) {
            return Some(route);
        }
        seen(&route);
        let until = deadline.min(Instant::now() + again);
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            Err(_) if until < deadline => {}
            // Too long, or nobody feeds the routes any more.
            Ok(Err(_)) | Err(_) => return Some(route),
        }
    }
}
