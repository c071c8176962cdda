//! The control plane's question whether a service answers behind its host. It takes the way of a visitor, through the gateway's
//! own listener, but for the sign-in: in its place it has a word that only the control plane and the gateway know.
//!
//! It is no visit: it wakes nothing, is not counted, and sees nothing but the status of the answer. Without the word this path is
//! like any other under `/.maquette/`.

use crate::{
    answer::{self, Answer},
    body::Reply,
    gateway::{Gateway, Visit},
    headers,
    ports::{DialError, Target},
    secret::Secret,
    upstream::UpstreamError,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, request::Parts};
use serde::{Deserialize, Serialize};

/// Where the control plane asks.
pub const PROBE_PATH: &str = "/.maquette/probe";
/// Carries its word.
pub const PROBE_HEADER: &str = "maquette-probe";
/// Says what is expected behind the host: environment, service and port, with a space between them.
pub const PROBE_TARGET_HEADER: &str = "maquette-probe-target";

/// What the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum ProbeAnswer {
    /// The service has answered.
    Answered {
        /// With this status.
        status: u16,
    },
    /// The host leads nowhere, or to something else than what was expected.
    NoRoute,
    /// The service has not answered.
    Silent {
        /// As a visitor would read it.
        why: String,
    },
    /// No connection to the service could be asked for.
    Unreachable {
        /// Why.
        why: String,
    },
}

/// As it stands in the header.
#[must_use]
pub fn probe_target(target: &Target) -> String {
    format!("{} {} {}", target.environment, target.service, target.port)
}

impl Gateway {
    /// Whether it is the control plane that asks.
    pub(crate) fn is_probe(&self, name: &str, parts: &Parts) -> bool {
        let mut words = parts.headers.get_all(PROBE_HEADER).iter();
        let (Some(word), None) = (words.next(), words.next()) else {
            return false;
        };
        name == "probe"
            && parts.method == Method::GET
            && Secret::parse(word.as_bytes()).is_some_and(|word| self.shared.auth.is_control_plane(&word.hash()))
    }

    /// Asks the service behind the host for `/`.
    pub(crate) async fn probe(&self, visit: &Visit) -> Response<Reply> {
        let answer = self.probed(visit).await;
        let document = serde_json::to_value(&answer).unwrap_or_default();
        answer::json(&document, "application/json")
    }

    async fn probed(&self, visit: &Visit) -> ProbeAnswer {
        let routes = self.routes();
        let route = routes.route(&visit.site.key);
        let leads_to = routes
            .awaited(&visit.site.key)
            .or_else(|| route.as_ref().map(|route| route.target.clone()));
        let expected = visit.parts.headers.get(PROBE_TARGET_HEADER);
        let target =
            leads_to.filter(|target| expected.is_some_and(|given| given.as_bytes() == probe_target(target).as_bytes()));
        let Some(target) = target else {
            return ProbeAnswer::NoRoute;
        };
        let epoch = route.map_or(0, |route| route.epoch);
        let mut lines = HeaderMap::new();
        lines.insert(header::USER_AGENT, HeaderValue::from_static("Maquette"));
        lines.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers::prepare_request(&mut lines, &visit.site, visit.peer.ip, Version::HTTP_11);
        let (mut head, ()) = Request::new(()).into_parts();
        head.headers = lines;
        match self.shared.upstream.ask(&target, epoch, head).await {
            Ok(status) => ProbeAnswer::Answered {
                status: status.as_u16(),
            },
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a probe was not answered");
                let why = Answer::from(&error).detail;
                match error {
                    UpstreamError::Connect {
                        source: DialError::Unavailable { .. } | DialError::Stale { .. },
                        ..
                    } => ProbeAnswer::Unreachable { why },
                    _ => ProbeAnswer::Silent { why },
                }
            }
        }
    }
}
