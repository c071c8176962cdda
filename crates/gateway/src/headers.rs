//! Which header lines pass, and which the gateway sets itself.

use crate::{cookie, host::Site};
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, CONNECTION},
};
use std::net::IpAddr;

/// Carries the token of a program. It ends here.
pub const TOKEN_HEADER: &str = "maquette-token";

/// Lines between two neighbours (RFC 9110, section 7.6.1), and some that never were standardised.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Lines by which a proxy in front tells an application who and where the visitor is. From outside they are lies.
const CLAIMS: [&str; 24] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "proxy",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "true-client-ip",
    "x-client-cert",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-email",
    "x-goog-iap-jwt-assertion",
    "x-groups",
    "x-real-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-url-scheme",
    "x-user",
    "x-userinfo",
];
const CLAIM_PREFIXES: [&str; 19] = [
    "maquette-",
    "x-maquette-",
    "x-forwarded-",
    "x-original-",
    "x-auth-request-",
    "x-authenticated-",
    "x-remote-",
    "x-webauth-",
    "x-goog-authenticated-user-",
    "x-amzn-oidc-",
    "x-ms-client-principal",
    "x-pomerium-",
    "x-vouch-",
    "x-ssl-client",
    "ssl-client",
    "cf-access-",
    "tailscale-user-",
    "x-authentik-",
    "x-token-user",
];

/// Whether a line from outside claims something that only the gateway may say. CGI and WSGI read `_` as `-`.
fn is_claim(name: &str) -> bool {
    let matches = |name: &str| CLAIMS.contains(&name) || CLAIM_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if name.contains('_') {
        matches(&name.replace('_', "-"))
    } else {
        matches(name)
    }
}

/// The names that `Connection` lists. Host and length are never hop-by-hop, whatever it says.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let listed = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','));
    listed
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect()
}

fn strip_hops(headers: &mut HeaderMap) {
    // A length beside a transfer coding is a lie that somebody behind us may believe; two equal ones become one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = headers.get(header::CONTENT_LENGTH).cloned() {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Prepares the head of a request for the application: what the visitor may not say is taken out, then ours is added.
pub(crate) fn prepare_request(headers: &mut HeaderMap, site: &Site, peer: IpAddr, version: Version) {
    let wants_trailers = headers.get_all(header::TE).iter().any(|line| {
        line.as_bytes()
            .split(|b| *b == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    let websocket = crate::websocket::is_upgrade(headers);
    strip_hops(headers);
    // The gateway answers `Expect` by reading the body when the application takes it.
    headers.remove(header::EXPECT);
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    keep_harmless_trailers(headers);
    cookie::strip(headers);

    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let by = match peer {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    set("host", &site.authority);
    set("x-forwarded-for", &peer.to_string());
    set("x-forwarded-host", &site.authority);
    set("x-forwarded-proto", site.scheme.as_str());
    set(
        "forwarded",
        &format!("for={by};host=\"{}\";proto={}", site.authority, site.scheme.as_str()),
    );
    if wants_trailers {
        set("te", "trailers");
        set("connection", "te");
    }
    if websocket {
        set("upgrade", "websocket");
        set("connection", "upgrade");
    }
    add_via(headers, version);
}

/// A trailer may not say what a head may not.
fn keep_harmless_trailers(headers: &mut HeaderMap) {
    let listed = headers
        .get_all(header::TRAILER)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let harmless = |name: &HeaderName| !is_claim(name.as_str()) && !HOP_BY_HOP.contains(&name.as_str());
    let kept: Vec<String> = listed
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| harmless(name) && *name != header::COOKIE)
        .map(|name| name.as_str().to_owned())
        .collect();
    headers.remove(header::TRAILER);
    if let Ok(value) = HeaderValue::from_str(&kept.join(", "))
        && !kept.is_empty()
    {
        headers.insert(header::TRAILER, value);
    }
}

/// Prepares the head of an application's response for the visitor.
pub(crate) fn prepare_response(headers: &mut HeaderMap, site: &Site, version: Version) {
    strip_hops(headers);
    cookie::strip_set(headers, &site.name);
    // Both reach beyond this one host: to other ports, and to the cookies of every sibling.
    headers.remove(header::ALT_SVC);
    headers.remove("clear-site-data");
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex"));
    add_via(headers, version);
}

fn add_via(headers: &mut HeaderMap, version: Version) {
    let ours = if version == Version::HTTP_10 {
        "1.0 maquette"
    } else {
        "1.1 maquette"
    };
    headers.append(header::VIA, HeaderValue::from_static(ours));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Base, Scheme};

    fn prepared(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let site = crate::host::place("pr-7.localhost", &[Base::new("localhost", Scheme::Http).unwrap()], &[]).unwrap();
        prepare_request(&mut headers, &site, [192, 0, 2, 1].into(), Version::HTTP_11);
        headers
    }

    #[test]
    fn claims_are_stripped_with_dashes_and_with_underscores() {
        let headers = prepared(&[
            ("X-Forwarded-User", "root"),
            ("x_forwarded_for", "::1"),
            ("X-Original-URL", "/admin"),
            ("Remote_User", "root"),
            ("X-Real-IP", "::1"),
            ("Maquette-Token", "t"),
            ("Maquette_Token", "t"),
            ("Forwarded", "for=::1"),
            ("X-Auth-Request-Email", "a@b"),
            ("SSL_CLIENT_S_DN", "x"),
            ("Proxy", "http://x"),
            ("X-My_Header", "kept"),
            ("Authorization", "Bearer kept"),
        ]);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "authorization",
            "forwarded",
            "host",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-my_header",
        ];
        assert_eq!(names, expected);
        assert_eq!(headers["forwarded"], "for=192.0.2.1;host=\"pr-7.localhost\";proto=http");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
    }

    #[test]
    fn connection_takes_what_it_names_but_never_ours() {
        let headers = prepared(&[
            ("Connection", "close, X-Secret, X-Forwarded-For, Host, Content-Length"),
            ("Connection", "Cookie"),
            ("X-Secret", "1"),
            ("Cookie", "a=b"),
            ("Content-Length", "5"),
            ("Keep-Alive", "timeout=5"),
        ]);
        assert!(!headers.contains_key("x-secret") && !headers.contains_key("cookie"));
        assert!(!headers.contains_key("connection") && !headers.contains_key("keep-alive"));
        assert_eq!(headers["content-length"], "5");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
    }

    #[test]
    fn only_a_websocket_upgrade_passes_and_te_only_for_trailers() {
        let headers = prepared(&[
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAA"),
        ]);
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
        let headers = prepared(&[("Connection", "TE"), ("TE", "gzip;q=0.5, Trailers")]);
        assert_eq!(
            (headers["te"].as_bytes(), headers["connection"].as_bytes()),
            (&b"trailers"[..], &b"te"[..])
        );
        assert_eq!(
            prepared(&[("Trailer", "X-Sum, X-Forwarded-For, Cookie")])["trailer"],
            "x-sum"
        );
    }
}
