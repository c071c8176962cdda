//! Environments that are not live: who waits, who gets the progress page, and who wakes nothing.

use crate::{
    answer::Answer,
    body::Reply,
    gateway::{Gateway, Visit},
    hold, origin, pages,
    ports::{Route, RouteState},
    visitor_kind::{Audience, Passive},
};
use http::{Response, StatusCode};
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// An environment is asked to wake at most so often.
pub(crate) const WAKE_PAUSE: Duration = Duration::from_secs(1);

impl Gateway {
    /// Waits for a live route, or answers why there is none.
    pub(crate) async fn when_live(&self, visit: &Visit, route: Arc<Route>) -> Result<Arc<Route>, Response<Reply>> {
        if route.state == RouteState::Live {
            return Ok(route);
        }
        let audience = visit.audience;
        if !hold::is_on_its_way(&route.state) {
            return Err(not_live(&route, audience));
        }
        // Whoever finds no place to wait wakes it, too.
        self.wake(&route);
        let (limits, timing) = (self.limits(), self.timing());
        // Only what can be asked for again by loading the page is let go early: a form that was sent would be lost.
        let navigation = audience == Audience::Page && origin::only_reads(&visit.parts);
        let patience = if navigation {
            timing.navigation_hold
        } else {
            timing.hold
        };
        let place = self
            .shared
            .book
            .hold(&route.target.environment, limits.held_per_environment, limits.held);
        let route = match place {
            None if navigation => route,
            None => {
                let busy = Answer::busy("As many requests as may wait for this environment do so already.");
                return Err(busy.response(audience));
            }
            Some(_place) => {
                let wake = |route: &Route| self.wake(route);
                match hold::wait(self.routes(), &visit.site.key, patience, WAKE_PAUSE, wake).await {
                    Some(route) if route.state == RouteState::Live => return Ok(route),
                    Some(route) => route,
                    None => return Err(Answer::not_found().response(audience)),
                }
            }
        };
        Err(match &route.state {
            state if !hold::is_on_its_way(state) => not_live(&route, audience),
            _ if navigation => pages::progress(&route),
            _ => {
                let detail = format!("The environment did not become live within {patience:?}.");
                Answer::new(StatusCode::GATEWAY_TIMEOUT, "Not live yet", detail)
                    .retry_after(5)
                    .response(audience)
            }
        })
    }

    /// Asks for a sleeping environment to be woken.
    pub(crate) fn wake(&self, route: &Route) {
        if route.state != RouteState::Sleeping {
            return;
        }
        let environment = route.target.environment.clone();
        {
            let mut woken = self.shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if woken
                .get(&environment)
                .is_some_and(|asked| asked.elapsed() < WAKE_PAUSE)
            {
                return;
            }
            woken.insert(environment.clone(), Instant::now());
        }
        let (wake, epoch) = (self.shared.wake.clone(), route.epoch);
        tokio::spawn(async move { wake.wake(&environment, epoch).await });
    }
}

fn not_live(route: &Route, audience: Audience) -> Response<Reply> {
    match (&route.state, audience) {
        (RouteState::Failed { .. }, Audience::Page) => pages::failed(route),
        (RouteState::Failed { reason }, Audience::Program) => {
            let detail = "The environment could not be started.";
            let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "Start failed", detail);
            answer.lines(reason.clone()).response(audience)
        }
        (RouteState::Held { .. }, Audience::Page) => pages::held(route),
        (RouteState::Held { reason }, Audience::Program) => {
            let detail = "The environment is kept from running.";
            let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "Not running", detail);
            answer.lines(reason.clone()).response(audience)
        }
        _ => {
            let detail = "The environment that was here has ended, and nothing of it is left.";
            Answer::new(StatusCode::GONE, "Ended", detail).response(audience)
        }
    }
}

/// The answer to a request that nobody is waiting for.
pub(crate) fn answer_passive(passive: Passive) -> Response<Reply> {
    match passive {
        Passive::Icon => {
            let mut response = crate::answer::own("text/plain", "");
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Passive::Robots => crate::answer::own("text/plain; charset=utf-8", "User-agent: *\nDisallow: /\n"),
        Passive::Prefetch | Passive::Probe => {
            let detail = "The environment is not live, and this kind of request does not start it.";
            let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "Not live", detail);
            answer.retry_after(30).response(Audience::Program)
        }
    }
}
