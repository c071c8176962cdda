//! Patterns for paths: `*` and `?` within a part of a path, `**` for any number of parts.

/// Whether a text contains a wildcard.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether a path matches. The time is bounded by the product of the lengths.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    wild(
        &pattern,
        &path,
        |part| *part == "**",
        |part, text| part_matches(part, text),
    )
}

fn part_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    wild(&pattern, &text, |c| *c == '*', |p, t| *p == '?' || p == t)
}

/// Matching with one kind of wildcard that stands for any number of items: only the last one is ever gone back to.
fn wild<P, T>(pattern: &[P], text: &[T], any: impl Fn(&P) -> bool, one: impl Fn(&P, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && any(&pattern[p]) {
            back = Some((p, t));
            p += 1;
        } else if p < pattern.len() && one(&pattern[p], &text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = back {
            back = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_part() {
        for (pattern, path, expected) in [
            ("db/*.sql", "db/1.sql", true),
            ("db/*.sql", "db/a/1.sql", false),
            ("db/**/*.sql", "db/a/b/1.sql", true),
            ("db/**/*.sql", "db/1.sql", true),
            ("**", "a/b", true),
            ("db/?.sql", "db/10.sql", false),
            ("db/*", "db", false),
            ("db/1.sql", "db/1.sql", true),
            ("release/*", "release/1.0", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(!matches(&"*a".repeat(500), &"a".repeat(5000).replace("aa", "ab")));
    }
}
