//! Which page a request comes from, and whether that page may send it.

use crate::{
    config::Base,
    host::{self, Site},
};
use http::{HeaderMap, Method, header::ORIGIN, request::Parts};

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A page of the same host.
    Same,
    /// No page: an address typed, a program.
    Nowhere,
    /// A page of another of our hosts.
    Sibling(Site),
    /// Any other page, or one that hides where it is.
    Elsewhere,
}

/// Finds out.
pub(crate) fn of(headers: &HeaderMap, site: &Site, bases: &[Base], ports: &[u16]) -> From {
    let fetch_site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (Some(origin), None) => origin.to_str().unwrap_or("null"),
        (None, _) => {
            return match fetch_site {
                None | Some(b"none") => From::Nowhere,
                Some(b"same-origin") => From::Same,
                Some(_) => From::Elsewhere,
            };
        }
        (Some(_), Some(_)) => return From::Elsewhere,
    };
    if origin.eq_ignore_ascii_case(&site.origin()) {
        // A browser that says both says the same.
        return if matches!(fetch_site, None | Some(b"same-origin")) {
            From::Same
        } else {
            From::Elsewhere
        };
    }
    // A page with `Referrer-Policy: no-referrer` sends `null` with its own forms; a sandboxed frame is "cross-site".
    if origin == "null" && fetch_site == Some(b"same-origin") {
        return From::Same;
    }
    let sibling = origin.split_once("://").and_then(|(scheme, authority)| {
        let sibling = host::place(authority, bases, ports).ok()?;
        (sibling.scheme.as_str() == scheme).then_some(sibling)
    });
    sibling.map_or(From::Elsewhere, From::Sibling)
}

/// Whether the method only reads, so that any page may send it.
pub(crate) fn only_reads(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
}
