//! Recognises values that look like production's or staging's, which a preview must not get.
//!
//! A guess by shape: it can not know, so whoever sets the secret may insist. What it says never repeats the value; at most it
//! names a host, which is what a person needs to see to judge.

use crate::value::SecretValue;

/// What looked wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key of a provider that marks its live keys.
    LiveKey,
    /// An address whose host, user or database is called like production or staging.
    Endpoint,
    /// The secret itself is called so.
    Name,
}

/// Why a value looks like one that a preview must not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Which rule found it.
    pub kind: Kind,
    /// For people, without the value: "it begins with `sk_live_`, as …".
    pub reason: String,
}

/// How providers mark the keys that move real money or real data. From their documentation: Stripe, Paystack, Clerk, Razorpay,
/// Braintree, Plaid, Mollie and GoCardless, Flutterwave.
const LIVE: [(&str, &str); 9] = [
    ("sk_live_", "as live secret keys do"),
    ("rk_live_", "as live restricted keys do"),
    ("pk_live_", "as live publishable keys do"),
    ("rzp_live_", "as live keys of Razorpay do"),
    ("access_token$production$", "as production tokens of Braintree do"),
    ("access-production-", "as production tokens of Plaid do"),
    ("live_", "as live keys of several payment providers do"),
    ("FLWSECK-", "as live keys of Flutterwave do"),
    ("FLWPUBK-", "as live keys of Flutterwave do"),
];

/// Words that mark what a preview must stay away from. Whole words only: `product` and `livestream` are neither.
const WORDS: [&str; 7] = ["prod", "production", "prd", "live", "staging", "stage", "stg"];

/// The keys of connection strings (`host=… dbname=…`) and of JSON credentials whose values are names of places.
const PLACES: [&str; 9] = [
    "host",
    "hostname",
    "server",
    "data source",
    "dbname",
    "database",
    "initial catalog",
    "project_id",
    "accountname",
];

/// Text beyond this is not looked at: addresses and keys are short.
const LOOKED_AT: usize = 64 * 1024;

/// Whether a value, or the name that it is to have, looks like production's or staging's.
#[must_use]
pub fn suspicion(name: &str, value: &SecretValue) -> Option<Suspicion> {
    let bytes = value.expose();
    let text = std::str::from_utf8(&bytes[..bytes.len().min(LOOKED_AT)]).unwrap_or_default();
    live_key(text).or_else(|| endpoint(text)).or_else(|| called_so(name))
}

fn live_key(text: &str) -> Option<Suspicion> {
    let found = text
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '='))
        .find_map(|word| LIVE.iter().find(|(prefix, _)| word.starts_with(prefix)))?;
    Some(Suspicion {
        kind: Kind::LiveKey,
        reason: format!("it begins with `{}`, {}", found.0, found.1),
    })
}

fn endpoint(text: &str) -> Option<Suspicion> {
    let place = urls(text).chain(settings(text)).find(|place| marked(place).is_some())?;
    let word = marked(place)?;
    Some(Suspicion {
        kind: Kind::Endpoint,
        reason: format!("it leads to `{}`, and `{word}` is not for previews", printable(place)),
    })
}

fn called_so(name: &str) -> Option<Suspicion> {
    let word = marked(name)?;
    Some(Suspicion {
        kind: Kind::Name,
        reason: format!("its name holds `{word}`"),
    })
}

/// The hosts and paths of URLs; not the user and password, which are the secret.
fn urls(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("://").flat_map(move |(at, _)| {
        let rest = &text[at + 3..];
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '?' | '#'))
            .unwrap_or(rest.len());
        let address = &rest[..end];
        let authority_end = address.find('/').unwrap_or(address.len());
        let (authority, path) = address.split_at(authority_end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // Of a path, the first part only: it names a database or a bucket. What follows may be a token.
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        [host, first]
    })
}

/// The values of settings that name a place: `host=a dbname=b`, `Data Source=a;Database=b`, `"project_id": "a"`.
fn settings(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', '\n', ',', '{', '}']).flat_map(|part| {
        let whole = part.split_once('=').or_else(|| part.split_once(':'));
        let words = part.split_whitespace().filter_map(|word| word.split_once('='));
        whole.into_iter().chain(words).filter_map(|(key, value)| {
            let is_place = PLACES.iter().any(|place| place.eq_ignore_ascii_case(bare(key)));
            is_place.then(|| bare(value).split_whitespace().next().unwrap_or_default())
        })
    })
}

fn bare(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'', ' '])
}

/// The marking word that stands in a name as a word of its own, digits at its end aside: `db-prod2.example.com`.
fn marked(name: &str) -> Option<&'static str> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()))
        .find_map(|word| WORDS.into_iter().find(|marker| marker.eq_ignore_ascii_case(word)))
}

fn printable(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<Suspicion> {
        suspicion(name, &SecretValue::new(value.as_bytes().to_vec()).unwrap())
    }

    fn kind(name: &str, value: &str) -> Option<Kind> {
        of(name, value).map(|suspicion| suspicion.kind)
    }

    #[test]
    fn live_keys_are_recognised_and_test_keys_are_not() {
        assert_eq!(kind("STRIPE_KEY", &format!("sk_{}_51Hx", "live")), Some(Kind::LiveKey));
        assert_eq!(kind("KEYS", &format!("A=1\nB=rzp_{}_abc", "live")), Some(Kind::LiveKey));
        assert_eq!(kind("STRIPE_KEY", "sk_test_51Hx"), None);
        assert_eq!(kind("KEY", "FLWSECK_TEST-abc"), None);
    }

    #[test]
    fn addresses_of_production_and_staging_are_recognised() {
        for address in [
            "postgres://app:pw@db.prod.example.com:5432/app",
            "postgres://app:pw@db-prod2.example.com/app",
            "mysql://app@db.example.com/shop_production",
            "jdbc:postgresql://staging-db.internal/app?user=a",
            "host=db.stg.internal port=5432 dbname=app",
            "Server=tcp:sql-prod.example.com,1433;Database=shop",
            "{\"project_id\": \"acme-prod\", \"type\": \"service_account\"}",
        ] {
            assert_eq!(kind("DATABASE_URL", address), Some(Kind::Endpoint), "{address}");
        }
        for address in [
            "postgres://prod:prod@db.example.com/app",
            "https://api.product.example.com/livestream",
            "https://hooks.example.com/services/prod/T0",
            "redis://cache:6379/0",
            "no address at all, not even in production",
        ] {
            assert_eq!(kind("URL", address), None, "{address}");
        }
    }

    #[test]
    fn names_are_recognised() {
        assert_eq!(kind("PROD_TOKEN", "x"), Some(Kind::Name));
        assert_eq!(kind("TOKEN_STAGING", "x"), Some(Kind::Name));
        assert_eq!(kind("PRODUCT_TOKEN", "x"), None);
    }

    #[test]
    fn the_reason_names_the_place_and_never_the_password() {
        let found = of(
            "DATABASE_URL",
            "postgres://app:hunter2@db.prod.example.com/app?key=canary",
        )
        .unwrap();
        assert_eq!(
            found.reason,
            "it leads to `db.prod.example.com`, and `prod` is not for previews"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_looked_over() {
        assert_eq!(suspicion("CERT", &SecretValue::new(vec![0xff; 100]).unwrap()), None);
    }
}
