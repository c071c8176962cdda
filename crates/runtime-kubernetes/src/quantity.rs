//! Amounts as Kubernetes writes them, and what they are worth: the API server writes an amount in a form of its own.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes of powers of two and of ten, in thousandths.
const SUFFIXES: [(&str, i128); 14] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

/// So many bytes, in the largest unit that says them exactly.
pub(crate) fn bytes(number: u64) -> Quantity {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units
        .iter()
        .find(|(_, bits)| number > 0 && number.trailing_zeros() >= *bits);
    Quantity(unit.map_or_else(
        || number.to_string(),
        |(suffix, bits)| format!("{}{suffix}", number >> bits),
    ))
}

/// So many thousandths of a processor.
pub(crate) fn millis(number: u64) -> Quantity {
    if number.is_multiple_of(1000) {
        return count(number / 1000);
    }
    Quantity(format!("{number}m"))
}

/// So many.
pub(crate) fn count(number: u64) -> Quantity {
    Quantity(number.to_string())
}

/// What an amount is worth in thousandths; `None` if it can not be read or has no such form here (`1e3`, `5n`).
pub(crate) fn worth(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let (suffix, unit) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = &text[..text.len() - suffix.len()];
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    let worth = all.checked_mul(*unit)?;
    (worth % scale == 0).then_some(worth / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_by_what_they_are_worth() {
        let of = |text: &str| worth(&Quantity(text.into()));
        assert_eq!(of("1024Mi"), of("1Gi"));
        assert_eq!(of("1.5Gi"), of("1536Mi"));
        assert_eq!(of("500m"), of("0.5"));
        assert_eq!(of("1000m"), of("1"));
        assert_eq!(of("1k"), of("1000"));
        assert_ne!(of("1G"), of("1Gi"));
        for unreadable in ["", "Mi", "-1", "1e3", "5n", "a", "0.0001"] {
            assert_eq!(of(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_unit_that_is_exact() {
        assert_eq!(bytes(512 << 20).0, "512Mi");
        assert_eq!(bytes(3 << 30).0, "3Gi");
        assert_eq!(bytes(1_000_000).0, "1000000");
        assert_eq!(bytes(0).0, "0");
        assert_eq!(millis(1500).0, "1500m");
        assert_eq!(millis(2000).0, "2");
    }
}
