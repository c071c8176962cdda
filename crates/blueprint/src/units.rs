//! Durations, sizes and shares of CPUs as people write them.

/// No duration is longer than a hundred years.
const DURATION_MAX_MS: u64 = 100 * 366 * 86_400_000;

/// A duration as Compose and Go write it (`1m30s`, `500ms`, `1.5h`), and days and weeks; in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: f64 = 0.0;
    if rest.is_empty() || rest.len() > 40 {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = decimal(&rest[..digits])?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 0.000_001,
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "w" => 604_800_000.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    whole(total).filter(|ms| *ms <= DURATION_MAX_MS)
}

/// A number of bytes as Compose writes it: `512m`, `2gb`, `1GiB`. Units are powers of 1024, whatever their spelling.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = decimal(&text[..digits])?;
    let power = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    whole(number * 1024f64.powi(power))
}

/// A number of CPUs (`0.5`, `2`), in thousandths.
pub(crate) fn cpu_millis(text: &str) -> Option<u64> {
    whole(decimal(text)? * 1000.0).filter(|millis| *millis <= 1_000_000)
}

/// A number of bytes for people.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let units = [
        (1u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units
        .iter()
        .find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size))
    {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// A duration for people.
pub(crate) fn show_ms(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(size, _)| ms >= *size && ms.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// Thousandths of a CPU as CPUs.
pub(crate) fn show_millis(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn decimal(text: &str) -> Option<f64> {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    if before.is_empty()
        || before.len() > 16
        || after.is_empty()
        || after.len() > 16
        || !digits(before)
        || !digits(after)
    {
        return None;
    }
    text.parse().ok()
}

/// The nearest whole number, if it is exactly representable.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> Option<u64> {
    // 2^53: above it, not every whole number has a representation.
    (number.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&number)).then(|| number.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_compose_writes_is_read() {
        let durations = [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("2d", 172_800_000),
            ("100us", 0),
            ("0s", 0),
        ];
        for (text, ms) in durations {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1 s",
            "1y",
            "1e9s",
            "99999999999w",
            "1..5s",
            ".s",
            "1s2",
        ] {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
        for (text, size) in [
            ("512m", 512 << 20),
            ("2gb", 2 << 30),
            ("1GiB", 1 << 30),
            ("100", 100),
            ("1.5k", 1536),
            ("2 GB", 2 << 30),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1m",
            "1x",
            "1e3",
            "99999999999999999999",
            "9999999999999t",
            "inf",
            "nan",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        assert_eq!(cpu_millis("0.5"), Some(500));
        assert_eq!(cpu_millis("two"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = (duration_ms(&text), bytes(&text), cpu_millis(&text));
        }

        #[test]
        fn what_is_shown_is_read_back(number in 0u64..1 << 50) {
            prop_assert_eq!(bytes(&show_bytes(number)), Some(number));
        }

        #[test]
        fn durations_are_read_back(number in 0u64..DURATION_MAX_MS) {
            prop_assert_eq!(duration_ms(&show_ms(number)), Some(number));
        }
    }
}
