//! The session cookie, byte by byte.
//!
//! A browser, an application and a gateway that read the same `Cookie` line differently are a way in. So our cookie is
//! recognised in one exact form, a second one makes both worthless, and what is passed on loses everything that any
//! reader could take for it.

use crate::secret::Secret;
use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use std::time::Duration;

/// Where browsers enforce it: host-only, `Secure`, the whole path, and no sibling host can set it.
const PREFIXED: &str = "__Host-maquette";
/// Where browsers drop `Secure` cookies: a base without TLS that is not `localhost`.
const PLAIN: &str = "maquette-session";

/// What a request's cookies say.
#[derive(Debug)]
pub(crate) enum Found {
    /// No session.
    None,
    /// This one.
    One(Secret),
    /// Several cookies of that name, or one that is no secret: nobody is signed in.
    Unusable,
}

fn name_for(secure: bool) -> &'static str {
    if secure { PREFIXED } else { PLAIN }
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The name of a `name=value` pair as the most lenient reader would have it.
fn name_of(pair: &[u8]) -> &[u8] {
    trim(pair.split(|b| *b == b'=').next().unwrap_or_default())
}

fn is_ours(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(PREFIXED.as_bytes()) || name.eq_ignore_ascii_case(PLAIN.as_bytes())
}

/// Reads the session cookie.
pub(crate) fn read(headers: &HeaderMap, secure: bool) -> Found {
    let mut found = Found::None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|b| *b == b';') {
            let name = name_of(pair);
            if !name.eq_ignore_ascii_case(name_for(secure).as_bytes()) {
                continue;
            }
            if !matches!(found, Found::None) {
                return Found::Unusable;
            }
            let pair = trim(pair);
            let value = pair
                .strip_prefix(name_for(secure).as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="));
            found = value.and_then(Secret::parse).map_or(Found::Unusable, Found::One);
        }
    }
    found
}

/// Takes our cookies out of what is passed on. A line that has none of them stays as it is, byte for byte.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let ours = |line: &HeaderValue| line.as_bytes().split(|b| *b == b';').any(|pair| is_ours(name_of(pair)));
    if !headers.get_all(COOKIE).iter().any(ours) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let kept: Vec<&[u8]> = line
            .as_bytes()
            .split(|b| *b == b';')
            .filter(|pair| !is_ours(name_of(pair)))
            .map(trim)
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            && !value.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

/// Takes out of an application's response the cookies that it must not set: ours, and those for a parent domain, which
/// every other preview would receive.
pub(crate) fn strip_set(headers: &mut HeaderMap, host: &str) {
    if headers
        .get_all(SET_COOKIE)
        .iter()
        .all(|line| may_set(line.as_bytes(), host))
    {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|line| may_set(line.as_bytes(), host))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for line in kept {
        headers.append(SET_COOKIE, line);
    }
}

fn may_set(line: &[u8], host: &str) -> bool {
    let mut parts = line.split(|b| *b == b';');
    if is_ours(name_of(parts.next().unwrap_or_default())) {
        return false;
    }
    parts.all(|attribute| {
        if !name_of(attribute).eq_ignore_ascii_case(b"domain") {
            return true;
        }
        let value = attribute.splitn(2, |b| *b == b'=').nth(1).map(trim).unwrap_or_default();
        let value = value.strip_prefix(b".").unwrap_or(value).to_ascii_lowercase();
        let parent = host
            .as_bytes()
            .strip_suffix(value.as_slice())
            .is_some_and(|rest| rest.ends_with(b"."));
        value.is_empty() || !parent
    })
}

/// The line that sets the session cookie.
pub(crate) fn set(secret: &Secret, lifetime: Duration, secure: bool) -> Option<HeaderValue> {
    let (name, flag) = (name_for(secure), if secure { " Secure;" } else { "" });
    let seconds = lifetime.as_secs();
    let line = format!(
        "{name}={}; Max-Age={seconds}; Path=/;{flag} HttpOnly; SameSite=Lax",
        secret.expose()
    );
    let mut value = HeaderValue::from_str(&line).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The line that removes it.
pub(crate) fn clear(secure: bool) -> HeaderValue {
    HeaderValue::from_static(if secure {
        "__Host-maquette=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
    } else {
        "maquette-session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        map
    }

    fn is_signed_in(lines: &[&str]) -> bool {
        let lines: Vec<&[u8]> = lines.iter().map(|l| l.as_bytes()).collect();
        matches!(read(&headers(&lines), true), Found::One(_))
    }

    #[test]
    fn one_exact_cookie_signs_in_and_nothing_else_does() {
        assert!(is_signed_in(&[&format!("a=b; __Host-maquette={A}; c=d")]));
        for bad in [
            format!("__Host-maquette={A}; __Host-maquette={A}"),
            format!("__Host-maquette={A}; __host-maquette={A}"),
            format!("__host-maquette={A}"),
            format!("__Host-maquette ={A}"),
            format!("__Host-maquette= {A}"),
            format!("__Host-maquette=\"{A}\""),
            format!("maquette-session={A}"),
            format!("x=__Host-maquette={A}"),
            "__Host-maquette=".to_owned(),
            "__Host-maquette".to_owned(),
        ] {
            assert!(!is_signed_in(&[&bad]), "{bad}");
        }
        let line = format!("__Host-maquette={A}");
        assert!(!is_signed_in(&[&line, &line]), "two lines are two cookies");
    }

    #[test]
    fn other_cookies_pass_unchanged() {
        let mut map = headers(&[b"a=1;b=\"x y\";  c=\xff\xfe"]);
        strip(&mut map);
        assert_eq!(map[COOKIE].as_bytes(), b"a=1;b=\"x y\";  c=\xff\xfe");
        let ours = format!("a=1; __Host-maquette={A}; b=2;__HOST-Maquette =x; maquette-session=y; c==;");
        let mut map = headers(&[ours.as_bytes(), format!("__Host-maquette={A}").as_bytes()]);
        strip(&mut map);
        let left: Vec<_> = map.get_all(COOKIE).iter().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].as_bytes(), b"a=1; b=2; c==; ");
    }

    #[test]
    fn an_application_sets_neither_our_cookie_nor_one_for_its_siblings() {
        for bad in [
            "__Host-maquette=x",
            " __host-MAQUETTE =x; Path=/",
            "maquette-session=",
            "a=b; Domain=localhost",
            "a=b; domain=.LocalHost",
            "a=b; Path=/; DOMAIN = localhost ; Secure",
        ] {
            assert!(!may_set(bad.as_bytes(), "pr-7.localhost"), "{bad}");
        }
        for good in [
            "a=b",
            "a=__Host-maquette",
            "a=b; Domain=pr-7.localhost",
            "a=b; Domain=",
            "a=b; Path=/localhost",
        ] {
            assert!(may_set(good.as_bytes(), "pr-7.localhost"), "{good}");
        }
    }
}
