//! What a request is, as far as that decides how the gateway answers.

use http::{HeaderMap, Method, header, request::Parts};

/// Who reads an answer of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A person, in a tab: HTML.
    Page,
    /// A program: `application/problem+json`.
    Program,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Tells a navigation from everything else. Browsers say it; where they do not, a wish for HTML has to do.
pub(crate) fn audience(parts: &Parts) -> Audience {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let page = match text(&parts.headers, "sec-fetch-mode") {
        "navigate" => true,
        "" => reads && text(&parts.headers, header::ACCEPT.as_str()).contains("text/html"),
        _ => false,
    };
    if page && !crate::websocket::is_upgrade(&parts.headers) {
        Audience::Page
    } else {
        Audience::Program
    }
}

/// A request that nobody is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passive {
    /// Fetched ahead of a click that may never come.
    Prefetch,
    /// The tab's icon.
    Icon,
    /// A crawler's question.
    Robots,
    /// A monitor.
    Probe,
}

/// Programs that look whether something is up. The list decides about waking only, never about sign-in.
const PROBES: [&str; 11] = [
    "kube-probe",
    "googlehc",
    "elb-healthchecker",
    "uptimerobot",
    "pingdom",
    "betteruptime",
    "better uptime",
    "statuscake",
    "blackbox",
    "uptime-kuma",
    "site24x7",
];

/// Recognises what must not wake an environment.
pub(crate) fn passive(parts: &Parts) -> Option<Passive> {
    let purpose = [text(&parts.headers, "sec-purpose"), text(&parts.headers, "purpose")];
    if purpose.iter().any(|value| value.contains("prefetch")) {
        return Some(Passive::Prefetch);
    }
    match parts.uri.path() {
        "/favicon.ico" | "/apple-touch-icon.png" | "/apple-touch-icon-precomposed.png" => return Some(Passive::Icon),
        "/robots.txt" => return Some(Passive::Robots),
        _ => {}
    }
    let agent = text(&parts.headers, header::USER_AGENT.as_str()).to_ascii_lowercase();
    PROBES
        .iter()
        .any(|probe| agent.contains(probe))
        .then_some(Passive::Probe)
}
