//! The gateway's own pages. They load nothing from anywhere: one style sheet and two small scripts stand in them, and the
//! content security policy allows exactly these by their hashes. (A nonce would make every answer to a stranger different.)

mod escape;

use crate::{
    answer::{self, Answer},
    body::Reply,
    ports::{About, Route, RouteState, Step, StepState},
    status,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use escape::Escaped;
use http::{HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, sync::LazyLock};

const STYLE: &str = include_str!("pages/style.css");
const SIGN_IN_SCRIPT: &str = include_str!("pages/sign-in.js");
const PROGRESS_SCRIPT: &str = include_str!("pages/progress.js");
const MARK: &str = include_str!("pages/mark.svg");

static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {} {}; connect-src 'self'; form-action 'self'; img-src data:; \
         base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SIGN_IN_SCRIPT),
        hash(PROGRESS_SCRIPT)
    );
    HeaderValue::from_str(&policy).ok()
});

static ICON: LazyLock<String> = LazyLock::new(|| format!("data:image/svg+xml;base64,{}", BASE64_STANDARD.encode(MARK)));

static SIGN_IN: LazyLock<Bytes> = LazyLock::new(|| sign_in_html(false).into());
static SIGN_IN_BAD_LINK: LazyLock<Bytes> = LazyLock::new(|| sign_in_html(true).into());

/// A whole document around what stands in its middle.
fn document(title: &str, head: &str, main: &str, script: &str) -> String {
    let script = if script.is_empty() {
        String::new()
    } else {
        format!("<script>{script}</script>\n")
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         {head}<title>{title}</title>\n<link rel=\"icon\" href=\"{icon}\">\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<header>{MARK}<span>Maquette</span></header>\n{main}</main>\n{script}</body>\n</html>\n",
        title = Escaped(title),
        icon = *ICON,
    )
}

fn html(status: StatusCode, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = answer::own("text/html; charset=utf-8", body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(policy) = &*POLICY {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    // Not `no-referrer`: a form of such a page would come with `Origin: null`.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// Which sign-in page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignIn {
    /// The one that everybody sees first.
    Plain,
    /// After a link that does not sign in.
    BadLink,
}

/// The sign-in page: the same bytes for every host and every path.
pub(crate) fn sign_in(status: StatusCode, which: SignIn) -> Response<Reply> {
    let body = match which {
        SignIn::Plain => &*SIGN_IN,
        SignIn::BadLink => &*SIGN_IN_BAD_LINK,
    };
    let mut response = html(status, body.clone());
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Maquette"));
    }
    response
}

fn sign_in_html(bad_link: bool) -> String {
    let head = "<meta property=\"og:title\" content=\"Private preview\">\n\
                <meta property=\"og:description\" content=\"Sign in to see this page.\">\n";
    let note = if bad_link {
        "<p class=\"note bad\" role=\"alert\">This link does not sign in: it has expired, was revoked, or is incomplete.</p>\n"
    } else {
        ""
    };
    let main = format!(
        "<h1>Private preview</h1>\n{note}\
         <p id=\"lead\">Open the sign-in link that you were given, or paste it here.</p>\n\
         <form id=\"form\" method=\"post\" action=\"/.maquette/session\" autocomplete=\"off\">\n\
         <input type=\"hidden\" name=\"next\" id=\"next\" value=\"/\">\n\
         <label id=\"paste\"><span>Sign-in link</span>\
         <input name=\"token\" id=\"token\" type=\"password\" required spellcheck=\"false\" autofocus></label>\n\
         <button id=\"continue\">Continue</button>\n</form>\n\
         <p class=\"small\">A link comes from whoever shares the preview. Signing in keeps one cookie, for this address only.</p>\n"
    );
    document("Private preview", head, &main, SIGN_IN_SCRIPT)
}

/// Whose environment it is: for visitors who may see it.
fn about(route: &Route) -> String {
    let About {
        title,
        pull_request,
        commit,
        link,
    } = &route.about;
    let mut out = String::from("<p class=\"about\">");
    let _ = write!(out, "<span>{}</span>", Escaped(route.project.as_str()));
    let number = pull_request.map(|number| format!("#{number} ")).unwrap_or_default();
    let name = format!("{number}{title}");
    let web = link
        .as_deref()
        .filter(|link| link.starts_with("https://") || link.starts_with("http://"));
    match web {
        Some(link) => {
            let _ = write!(
                out,
                "<a href=\"{}\" rel=\"noreferrer\">{}</a>",
                Escaped(link),
                Escaped(&name)
            );
        }
        None => {
            let _ = write!(out, "<strong>{}</strong>", Escaped(&name));
        }
    }
    let short: String = commit.chars().take(8).collect();
    if !short.is_empty() {
        let _ = write!(out, "<code>{}</code>", Escaped(&short));
    }
    out.push_str("</p>\n");
    out
}

fn step(step: &Step) -> String {
    let state = match step.state {
        StepState::Waiting => "waiting",
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "failed",
    };
    let time = match (step.state, status::seconds(step)) {
        (StepState::Running, Some(seconds)) => format!("{seconds} s"),
        _ => String::new(),
    };
    format!(
        "<li class=\"{state}\"><span class=\"name\">{}</span><span class=\"time\">{time}</span><span class=\"detail\">{}</span></li>\n",
        Escaped(&step.name),
        Escaped(&step.detail)
    )
}

/// What is being done until the environment is live.
pub(crate) fn progress(route: &Route) -> Response<Reply> {
    let (title, lead, steps) = match &route.state {
        RouteState::Starting { steps } => (
            "Starting",
            "This page opens by itself as soon as it is live.",
            steps.as_slice(),
        ),
        _ => (
            "Waking up",
            "Nobody was here for a while, so it sleeps. This page opens by itself in a moment.",
            [].as_slice(),
        ),
    };
    let steps: String = steps.iter().map(step).collect();
    let main = format!(
        "{}<h1><span class=\"spinner\" aria-hidden=\"true\"></span><span id=\"headline\">{title}</span></h1>\n<p>{lead}</p>\n\
         <ol id=\"steps\" aria-live=\"polite\">{steps}</ol>\n<p class=\"note bad\" id=\"lost\" hidden>The gateway does not answer. \
         Trying again …</p>\n",
        about(route)
    );
    let head = "<noscript><meta http-equiv=\"refresh\" content=\"3\"></noscript>\n";
    let mut response = html(
        StatusCode::SERVICE_UNAVAILABLE,
        document(title, head, &main, PROGRESS_SCRIPT),
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// Lines of log, as they are.
fn log(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = String::from("<pre tabindex=\"0\">");
    for line in lines {
        let _ = writeln!(out, "{}", Escaped(line));
    }
    out.push_str("</pre>\n");
    out
}

/// Why the environment did not start.
pub(crate) fn failed(route: &Route) -> Response<Reply> {
    let reason = match &route.state {
        RouteState::Failed { reason } => reason.as_slice(),
        _ => &[],
    };
    let main = format!(
        "{}<h1 class=\"bad\">It did not start</h1>\n<p>The next push tries again. This is what was said last:</p>\n{}",
        about(route),
        log(reason)
    );
    html(
        StatusCode::SERVICE_UNAVAILABLE,
        document("It did not start", "", &main, ""),
    )
}

/// Why the environment does not run although nothing is wrong with it.
pub(crate) fn held(route: &Route) -> Response<Reply> {
    let mut main = format!("{}<h1>It does not run now</h1>\n", about(route));
    if let RouteState::Held { reason } = &route.state {
        for line in reason {
            let _ = writeln!(main, "<p>{}</p>", Escaped(line));
        }
    }
    html(
        StatusCode::SERVICE_UNAVAILABLE,
        document("It does not run now", "", &main, ""),
    )
}

/// An answer in words.
pub(crate) fn message(answer: &Answer) -> Response<Reply> {
    let main = format!(
        "<h1>{}</h1>\n<p>{}</p>\n{}<p class=\"small\">{} {}</p>\n",
        Escaped(answer.title),
        Escaped(&answer.detail),
        log(&answer.lines),
        answer.status.as_u16(),
        Escaped(answer.status.canonical_reason().unwrap_or_default())
    );
    html(answer.status, document(answer.title, "", &main, ""))
}
