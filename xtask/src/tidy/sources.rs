//! Rules about the text of files.

use super::{Finding, Report, lexer};
use lexer::{Lexed, has_word};

/// A longer file has more than one purpose.
const LINES_MAX: usize = 800;

/// A file that is worth a look.
const LINES_NOTED: usize = 400;

/// Where there is no I/O and no clock: crates, and the part of one that builds objects.
const PURE: [(&str, &str); 4] = [
    ("model", "crates/model/src/"),
    ("blueprint", "crates/blueprint/src/"),
    ("planner", "crates/planner/src/"),
    ("runtime-kubernetes", "crates/runtime-kubernetes/src/build"),
];

/// What the pure crates must not name, and why.
const IMPURE: [(&str, &str); 9] = [
    ("std::env", "interpolation sees documented values only"),
    ("std::fs", "files come through the given `Tree`"),
    ("std::net", "nothing here talks to a network"),
    ("std::process", "nothing here starts a program"),
    ("std::thread", "nothing here waits"),
    ("tokio", "nothing here waits"),
    ("SystemTime", "`now` is an argument"),
    ("Instant", "`now` is an argument"),
    ("env::var", "interpolation sees documented values only"),
];

/// Programs that read a command line as a program of its own.
const SHELLS: [&str; 8] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "/bin/sh",
    "/bin/bash",
    "/usr/bin/sh",
    "/usr/bin/bash",
];

/// Files in which a shell is started on purpose, and why.
const SHELL_ALLOWED: [(&str, &str); 2] = [
    (
        "crates/blueprint/",
        "the Compose Specification defines CMD-SHELL and commands written as one string by `/bin/sh -c`",
    ),
    (
        "crates/images/src/facts.rs",
        "CMD-SHELL of an image's health check is run by the shell of the image",
    ),
];

/// Kinds of file that people write.
const WRITTEN: [&str; 12] = [
    ".rs", ".toml", ".md", ".sh", ".py", ".yaml", ".yml", ".sql", ".js", ".css", ".html", ".service",
];

/// Applies all rules to one file. `private` are paths of this machine.
pub(super) fn check(path: &str, text: &str, private: &[String], report: &mut Report) {
    let rust = path.ends_with(".rs");
    let named = WRITTEN.iter().any(|end| path.ends_with(end)) || !path.rsplit('/').next().unwrap_or(path).contains('.');
    let mut file = File { path, report };
    if named {
        for (number, line) in text.lines().enumerate() {
            if let Some(found) = private.iter().find(|private| line.contains(private.as_str())) {
                let message = format!("`{found}` is a path of the machine on which this runs");
                file.finding(
                    number,
                    "machine-path",
                    message,
                    "take the path as an argument, or write it relative to the repository",
                );
            }
        }
    }
    if !rust {
        return;
    }
    let lexed = lexer::lex(text);
    if !text.starts_with("//!") {
        let hint = "begin with `//! ` and one sentence that says what the file is for";
        file.finding(0, "purpose", "the file does not say what it is for".to_owned(), hint);
    }
    length(&mut file, text.lines().count());
    leftovers(&mut file, &lexed);
    dangerous(&mut file, &lexed);
    if !is_test(path) {
        pure(&mut file, &lexed);
        shells(&mut file, &lexed);
    }
}

struct File<'a> {
    path: &'a str,
    report: &'a mut Report,
}

impl File<'_> {
    /// `line` is counted from 0.
    fn finding(&mut self, line: usize, rule: &'static str, message: String, hint: &'static str) {
        let finding = Finding {
            file: self.path.to_owned(),
            line: line + 1,
            rule,
            message,
            hint,
        };
        self.report.findings.push(finding);
    }
}

/// Whether a whole file exists in tests only.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.starts_with("crates/test-support/")
        || path.starts_with("xtask/")
}

fn length(file: &mut File<'_>, lines: usize) {
    if lines > LINES_MAX {
        let message = format!("{lines} lines; more than {LINES_MAX} are too many");
        file.finding(
            LINES_MAX,
            "length",
            message,
            "find its second purpose and give that a file of its own",
        );
    } else if lines > LINES_NOTED {
        file.report.notes.push(format!("{}: {lines} lines", file.path));
    }
}

fn leftovers(file: &mut File<'_>, lexed: &Lexed) {
    for (line, code) in lexed.code.iter().enumerate() {
        for name in ["todo!", "unimplemented!", "dbg!"] {
            if has_word(code, name.trim_end_matches('!')) && code.contains(name) {
                file.finding(
                    line,
                    "leftover",
                    format!("`{name}` is left"),
                    "finish it, or take it out",
                );
            }
        }
    }
    for (line, comment) in &lexed.comments {
        if let Some(word) = ["FIXME", "TODO", "XXX"]
            .into_iter()
            .find(|word| has_word(comment, word))
        {
            file.finding(
                *line,
                "leftover",
                format!("{word} is left"),
                "mend it, or open an issue and say here what holds until then",
            );
        }
    }
}

fn dangerous(file: &mut File<'_>, lexed: &Lexed) {
    if file.path.starts_with("crates/runtime-cell/") {
        return;
    }
    for (line, code) in lexed.code.iter().enumerate() {
        if has_word(code, "unsafe") {
            let message = "`unsafe` outside of runtime-cell".to_owned();
            file.finding(
                line,
                "unsafe",
                message,
                "use a safe interface (rustix), or move it into crates/runtime-cell",
            );
        }
    }
}

fn pure(file: &mut File<'_>, lexed: &Lexed) {
    let inside = PURE.iter().find(|(_, path)| file.path.starts_with(path));
    let Some((name, _)) = inside else { return };
    // `use std::{…}`, usually over several lines, names modules without `std::` in front.
    let mut group = false;
    for (line, code) in lexed.code.iter().enumerate().filter(|(line, _)| !lexed.test[*line]) {
        group |= code.trim_start().starts_with("use std::{");
        let named = |word: &str| {
            let module = word.strip_prefix("std::").filter(|_| group);
            has_word(code, word) || module.is_some_and(|module| has_word(code, module))
        };
        if let Some((word, why)) = IMPURE.iter().find(|(word, _)| named(word)) {
            let message = format!("`{word}` in {name}, which does no I/O and reads no clock: {why}");
            file.finding(line, "pure", message, "let the caller pass it in");
        }
        group &= !code.contains(';');
    }
}

fn shells(file: &mut File<'_>, lexed: &Lexed) {
    if SHELL_ALLOWED.iter().any(|(path, _)| file.path.starts_with(path)) {
        return;
    }
    for pair in lexed.literals.windows(2) {
        let [(line, program), (next, argument)] = pair else {
            continue;
        };
        let option = argument.starts_with('-') && argument.ends_with('c') && argument.len() <= 4;
        if SHELLS.contains(&program.as_str()) && option && next - line <= 2 && !lexed.test[*line] {
            let message = format!("`{program} {argument}` runs text as a program");
            file.finding(
                *line,
                "shell",
                message,
                "start the program itself with an argument list",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let mut report = Report::default();
        check(path, text, &["/some/home/".to_owned()], &mut report);
        report
            .findings
            .iter()
            .map(|finding| (finding.rule, finding.line))
            .collect()
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        let text =
            "//! Purpose. Speaks of unsafe, tokio and sh -c.\nfn f() -> &'static str { \"unsafe todo!() std::fs\" }\n";
        assert_eq!(rules("crates/model/src/a.rs", text), []);
    }

    #[test]
    fn every_rule_finds_what_it_is_for() {
        let long = format!("//! x\n{}", "\n".repeat(800));
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, usize)]);
        let cases: [Case<'_>; 15] = [
            ("crates/a/src/a.rs", "fn f() {}\n", &[("purpose", 1)]),
            ("crates/a/src/a.rs", &long, &[("length", 801)]),
            ("crates/a/src/a.rs", "//! x\nfn f() { unsafe {} }\n", &[("unsafe", 2)]),
            ("crates/runtime-cell/src/a.rs", "//! x\nfn f() { unsafe {} }\n", &[]),
            (
                "crates/a/src/a.rs",
                "//! x\nfn f() { todo!() }\n// FIXME: later\n",
                &[("leftover", 2), ("leftover", 3)],
            ),
            (
                "crates/model/src/a.rs",
                "//! x\nuse std::{\n    fs,\n};\nuse std::fs::File;\n",
                &[("pure", 3), ("pure", 5)],
            ),
            ("crates/model/src/a.rs", "//! x\nuse std::{fs, fmt};\n", &[("pure", 2)]),
            (
                "crates/planner/src/a.rs",
                "//! x\nfn f() { Instant::now(); }\n",
                &[("pure", 2)],
            ),
            (
                "crates/planner/src/a.rs",
                "//! x\n#[cfg(test)]\nmod t {\n fn f() { tokio::spawn(x); }\n}\n",
                &[],
            ),
            ("crates/planner/src/a/tests.rs", "//! x\nuse std::fs;\n", &[]),
            (
                "crates/blueprint/src/a.rs",
                "//! x\nfn f() { env::var(\"HOME\"); }\n",
                &[("pure", 2)],
            ),
            (
                "crates/a/src/a.rs",
                "//! x\nfn f() { Command::new(\"sh\").arg(\"-c\"); }\n",
                &[("shell", 2)],
            ),
            (
                "crates/a/src/a.rs",
                "//! x\nfn f() { [\"/bin/bash\",\n \"-lc\"]; }\n",
                &[("shell", 2)],
            ),
            (
                "crates/blueprint/src/a.rs",
                "//! x\nfn f() { [\"/bin/sh\", \"-c\"]; }\n",
                &[],
            ),
            ("docs/a.md", "see /some/home/x\n", &[("machine-path", 1)]),
        ];
        for (path, text, expected) in cases {
            assert_eq!(rules(path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let mut report = Report::default();
        check("crates/a/src/a.rs", "//! x\nfn f() { unsafe {} }\n", &[], &mut report);
        assert_eq!(
            report.findings[0].to_string(),
            "crates/a/src/a.rs:2: [unsafe] `unsafe` outside of runtime-cell\n  hint: use a safe interface (rustix), or move it into \
             crates/runtime-cell"
        );
    }
}
