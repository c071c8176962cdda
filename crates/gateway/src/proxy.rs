//! Passing a request on to a live environment, and its response back.

use crate::{
    activity::Flight,
    answer::Answer,
    body::{Relayed, Reply},
    gateway::{Gateway, Visit, can_upgrade},
    headers,
    pool::Lease,
    ports::Route,
    tunnel,
    visitor_kind::Audience,
    websocket,
};
use http::{HeaderValue, Method, Response, StatusCode, Uri, Version, header, uri::PathAndQuery};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use std::sync::Arc;

impl Gateway {
    /// Passes it on.
    pub(crate) async fn forward(&self, visit: Visit, route: &Arc<Route>, flight: Flight) -> Response<Reply> {
        let Visit {
            site,
            mut parts,
            body,
            audience,
            peer,
        } = visit;
        let upgrade = can_upgrade(&parts);
        let visitor_upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| upgrade);
        parts.extensions.clear();
        let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
        headers::prepare_request(&mut parts.headers, &site, peer.ip, parts.version);
        if !upgrade {
            parts.headers.remove(header::UPGRADE);
        }
        if chunked && !body.is_end_stream() {
            // Said aloud, because the body of a GET would otherwise be left out.
            parts
                .headers
                .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
        parts.version = Version::HTTP_11;

        let head_only = parts.method == Method::HEAD;
        let sent = self.shared.upstream.send(&site.key, route, parts, body, upgrade).await;
        let (mut response, lease) = match sent {
            Ok(answered) => answered,
            Err(error) => {
                tracing::info!(error = &error as &dyn std::error::Error, "a request was not answered");
                return Answer::from(&error).response(audience);
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match visitor_upgrade {
                Some(visitor) if websocket::is_upgrade(response.headers()) => {
                    self.switch(&site, visitor, response, flight)
                }
                _ => unasked_upgrade(audience),
            };
        }
        let version = response.version();
        *response.version_mut() = Version::HTTP_11;
        headers::prepare_response(response.headers_mut(), &site, version);
        if head_only {
            // The connection is free again at once; nothing follows the head.
            let (head, _) = response.into_parts();
            lease.give_back();
            return Response::from_parts(head, Reply::empty());
        }
        relay(response, flight, lease)
    }

    /// Both sides have agreed to speak WebSocket.
    fn switch(
        &self,
        site: &crate::host::Site,
        visitor: OnUpgrade,
        mut response: Response<Incoming>,
        flight: Flight,
    ) -> Response<Reply> {
        let service = hyper::upgrade::on(&mut response);
        let end = self.tunnels().end.clone();
        self.tunnels()
            .tasks
            .spawn(tunnel::run(visitor, service, flight.into_tunnel(), end));
        let (mut head, _) = response.into_parts();
        headers::prepare_response(&mut head.headers, site, head.version);
        head.version = Version::HTTP_11;
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Response::from_parts(head, Reply::empty())
    }
}

fn relay(response: Response<Incoming>, flight: Flight, lease: Lease) -> Response<Reply> {
    response.map(|body| Reply::Relayed(Box::new(Relayed::new(body, flight, lease))))
}

fn unasked_upgrade(audience: Audience) -> Response<Reply> {
    let detail = "The service switched to a protocol that the request did not ask for.";
    Answer::new(StatusCode::BAD_GATEWAY, "Bad answer from the service", detail).response(audience)
}
