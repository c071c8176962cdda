//! Which files of a build's context a `.dockerignore` leaves out, as far as that is certain.
//!
//! It is asked to know what a build sees, so that what it does not see does not count. A file that is wrongly thought to be left
//! out would be missing in what is kept for "the same" build; one that is wrongly thought to be seen costs a build. So whatever is
//! not plainly understood leaves nothing out.

/// More lines than anybody writes.
const LINES_MAX: usize = 10_000;

/// The lines of such a file.
#[derive(Clone, Debug, Default)]
pub struct DockerIgnore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Takes files in again.
    again: bool,
    parts: Vec<String>,
}

impl DockerIgnore {
    /// Reads one. One with too many lines, or with a line that takes something in again in a way that is not understood, leaves out
    /// nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut rules = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (again, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let plain = !pattern.contains(['[', ']', '\\']) && number < LINES_MAX;
            let parts = parts(pattern).filter(|parts| plain && !parts.is_empty());
            match parts {
                Some(parts) => rules.push(Rule { again, parts }),
                None if again || number >= LINES_MAX => return Self::default(),
                None => {}
            }
        }
        Self { rules }
    }

    /// Whether a file of the context is left out, by its path from there. The last line that fits it or a folder that it is in counts.
    #[must_use]
    pub fn leaves_out(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        let fits =
            |rule: &&Rule| (1..=path.len()).any(|end| path.get(..end).is_some_and(|above| fit(&rule.parts, above)));
        self.rules.iter().rev().find(fits).is_some_and(|rule| !rule.again)
    }
}

/// The parts of a pattern's path without what means nothing; `None` if it climbs.
fn parts(pattern: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part.to_owned()),
        }
    }
    Some(parts)
}

fn fit(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        // Any number of folders; at the end everything below.
        Some((first, rest)) if first == "**" => {
            if rest.is_empty() {
                return true;
            }
            (0..=path.len()).any(|skipped| path.get(skipped..).is_some_and(|left| fit(rest, left)))
        }
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(name, below)| part_fits(first.as_bytes(), name.as_bytes()) && fit(rest, below)),
    }
}

/// One part: `*` is any number of characters, `?` is one.
fn part_fits(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on if what follows the last star does not fit.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if name.get(n) == Some(byte) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(text: &str, path: &str) -> bool {
        DockerIgnore::read(text).leaves_out(path)
    }

    #[test]
    fn what_is_left_out() {
        for (text, path, wanted) in [
            ("node_modules", "node_modules/a/b.js", true),
            ("node_modules", "web/node_modules/a", false),
            ("**/node_modules", "web/node_modules/a", true),
            ("**/node_modules", "node_modules/a", true),
            ("/dist/\n", "dist/a", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("docs/**", "docs/a/b", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xayc", false),
            ("*", "a/b", true),
            ("*\n!src", "src/a", false),
            ("*\n!src\nsrc/tmp", "src/tmp/x", true),
            ("*.md\n!README.md", "README.md", false),
            ("# a\n\n  .git  ", ".git/config", true),
            ("./a/../b", "b", true),
            ("", "a", false),
        ] {
            assert_eq!(left_out(text, path), wanted, "{text:?} {path}");
        }
    }

    #[test]
    fn what_is_not_understood_leaves_nothing_out() {
        assert!(!left_out("[ab]", "a"));
        assert!(!left_out("a\\*", "a*"));
        assert!(!left_out("../a", "a"));
        assert!(!left_out("*\n![s]rc", "anything"));
        assert!(left_out("[ab]\nb", "b"));
    }
}
