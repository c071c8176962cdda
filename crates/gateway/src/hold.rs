//! Waiting until an environment is live.

use crate::ports::{Route, RouteKey, RouteState, Routes};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Whether waiting can still lead to a live environment.
pub(crate) fn is_on_its_way(state: &RouteState) -> bool {
    matches!(state, RouteState::Starting { .. } | RouteState::Sleeping)
}

/// Waits until the route is no longer on its way, at most so long; gives the route as it is then.
pub(crate) async fn wait(routes: &dyn Routes, key: &RouteKey, patience: Duration) -> Option<Arc<Route>> {
    let deadline = Instant::now() + patience;
    // Subscribed before the look-up, so that no change falls between the two.
    let mut changes = routes.changes();
    loop {
        changes.mark_unchanged();
        let route = routes.route(key)?;
        if !is_on_its_way(&route.state) {
            return Some(route);
        }
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            // Too long, or nobody feeds the routes any more.
            Ok(Err(_)) | Err(_) => return Some(route),
        }
    }
}
