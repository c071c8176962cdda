//! Which images a Dockerfile names: they are fetched before it is built, because a build reaches no registry.
//!
//! This reads no more of the language than that takes. What it misses the builder does not find, and says so by its name.

use std::collections::{BTreeMap, BTreeSet};

/// An image that a Dockerfile starts from or copies files of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileImage {
    /// Its name, variables replaced.
    pub reference: String,
    /// How the Dockerfile writes it; builders look for the one or the other.
    pub written: BTreeSet<String>,
}

/// The images that a Dockerfile names, in order and each once. `arguments` are those of the build; `contexts` are names that stand
/// for something else.
#[must_use]
pub fn dockerfile_images(
    text: &str,
    arguments: &BTreeMap<String, String>,
    contexts: &BTreeSet<String>,
) -> Vec<DockerfileImage> {
    let mut reader = Reader {
        variables: platform(),
        stages: contexts.iter().map(|name| name.to_lowercase()).collect(),
        found: Vec::new(),
    };
    reader.stages.insert("scratch".to_owned());
    let mut before_stages = true;
    for line in instructions(text) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        match word.to_ascii_uppercase().as_str() {
            "ARG" if before_stages => reader.argument(rest, arguments),
            "FROM" => {
                before_stages = false;
                reader.from(rest);
            }
            "COPY" | "ADD" => reader.flags(rest, "--from="),
            "RUN" => reader.mounts(rest),
            _ => {}
        }
    }
    reader.found
}

struct Reader {
    variables: BTreeMap<String, String>,
    /// Names that are no images, in lower case.
    stages: BTreeSet<String>,
    found: Vec<DockerfileImage>,
}

impl Reader {
    fn argument(&mut self, rest: &str, given: &BTreeMap<String, String>) {
        for word in rest.split_whitespace() {
            let (name, default) = word.split_once('=').unwrap_or((word, ""));
            let value = given
                .get(name)
                .cloned()
                .unwrap_or_else(|| self.expanded(unquoted(default)));
            if given.contains_key(name) || word.contains('=') {
                self.variables.insert(name.to_owned(), value);
            }
        }
    }

    fn from(&mut self, rest: &str) {
        let mut words = rest.split_whitespace().filter(|word| !word.starts_with("--"));
        let Some(name) = words.next() else { return };
        self.image(name);
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"))
            && let Some(stage) = words.next()
        {
            self.stages.insert(stage.to_lowercase());
        }
    }

    fn flags(&mut self, rest: &str, flag: &str) {
        for word in rest.split_whitespace().take_while(|word| word.starts_with("--")) {
            if let Some(name) = word.strip_prefix(flag) {
                self.image(name);
            }
        }
    }

    fn mounts(&mut self, rest: &str) {
        for word in rest.split_whitespace().take_while(|word| word.starts_with("--")) {
            let parts = word
                .strip_prefix("--mount=")
                .into_iter()
                .flat_map(|mount| mount.split(','));
            for name in parts.filter_map(|part| part.strip_prefix("from=")) {
                self.image(name);
            }
        }
    }

    fn image(&mut self, written: &str) {
        let reference = self.expanded(unquoted(written));
        let is_stage = self.stages.contains(&reference.to_lowercase()) || reference.parse::<u32>().is_ok();
        if is_stage || reference.is_empty() {
            return;
        }
        let names = [written, unquoted(written), &reference].map(str::to_owned);
        match self.found.iter_mut().find(|image| image.reference == reference) {
            Some(image) => image.written.extend(names),
            None => self.found.push(DockerfileImage {
                reference,
                written: names.into(),
            }),
        }
    }

    /// `$NAME`, `${NAME}`, `${NAME:-else}` and `${NAME:+then}`; what is not known is empty.
    fn expanded(&self, text: &str) -> String {
        let mut made = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            made.push_str(before);
            if let Some((inside, tail)) = after.strip_prefix('{').and_then(|a| a.split_once('}')) {
                made.push_str(&self.braced(inside));
                rest = tail;
            } else {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                made.push_str(self.variable(&after[..end]));
                rest = &after[end..];
            }
        }
        made + rest
    }

    fn braced(&self, inside: &str) -> String {
        if let Some((name, other)) = inside.split_once(":-") {
            match self.variable(name) {
                "" => self.expanded(other),
                value => value.to_owned(),
            }
        } else if let Some((name, then)) = inside.split_once(":+") {
            match self.variable(name) {
                "" => String::new(),
                _ => self.expanded(then),
            }
        } else {
            self.variable(inside).to_owned()
        }
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }
}

/// What every Dockerfile may use without declaring it.
fn platform() -> BTreeMap<String, String> {
    let here = crate::Platform::here();
    let whole = format!("{}/{}", here.os, here.architecture);
    let mut all = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        all.insert(format!("{side}PLATFORM"), whole.clone());
        all.insert(format!("{side}OS"), here.os.clone());
        all.insert(format!("{side}ARCH"), here.architecture.clone());
    }
    all
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Instructions in one line each, without comments and without the texts of here-documents.
fn instructions(text: &str) -> Vec<String> {
    let escape = match text.lines().find_map(|line| line.trim().strip_prefix("# escape=")) {
        Some("`") => '`',
        _ => '\\',
    };
    let mut all = Vec::new();
    let mut whole = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(part) = line.strip_suffix(escape) {
            whole.push_str(part);
            whole.push(' ');
            continue;
        }
        whole.push_str(line);
        for end in here_documents(&whole) {
            for line in lines.by_ref() {
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
        all.push(std::mem::take(&mut whole));
    }
    all.push(whole);
    all
}

/// The words that end the here-documents of an instruction.
fn here_documents(line: &str) -> Vec<String> {
    let takes = ["RUN", "COPY", "ADD"];
    let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !takes.contains(&word.as_str()) {
        return Vec::new();
    }
    let begins = line.split_whitespace().filter_map(|word| word.strip_prefix("<<"));
    let ends = begins.map(|end| unquoted(end.trim_start_matches('-')).to_owned());
    ends.filter(|end| !end.is_empty() && end.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let arguments = [("VERSION".to_owned(), "20".to_owned())].into();
        let found = dockerfile_images(text, &arguments, &["assets".to_owned()].into());
        found.into_iter().map(|image| image.reference).collect()
    }

    #[test]
    fn stages_numbers_contexts_and_nothing_are_no_images() {
        let text = "# syntax=docker/dockerfile:1\nFROM node:20 AS Build\nRUN npm ci\nFROM scratch\nCOPY --from=build /a /a\n\
                    COPY --from=0 /a /b\nCOPY --chown=1:1 --from=nginx:1 /c /c\nCOPY --from=assets / /d\nFROM BUILD\n\
                    RUN --mount=type=bind,from=golang:1.22,target=/go true\n";
        assert_eq!(names(text), ["node:20", "nginx:1", "golang:1.22"]);
    }

    #[test]
    fn arguments_before_the_first_stage_are_replaced() {
        let text = "ARG VERSION=18\nARG VARIANT=\"slim\"\nFROM --platform=$BUILDPLATFORM \"node:${VERSION}-${VARIANT}\" as a\n\
                    ARG VERSION=3\nFROM python:${NONE:-3.12}${VARIANT:+-x}\n";
        assert_eq!(names(text), ["node:20-slim", "python:3.12-x"]);
        let found = dockerfile_images("ARG B=x:1\nFROM $B\n", &BTreeMap::new(), &BTreeSet::new());
        assert_eq!(found[0].written, ["$B".to_owned(), "x:1".to_owned()].into());
    }

    #[test]
    fn lines_go_on_and_here_documents_are_text() {
        let text = "FROM \\\n # a comment\n  alpine:3\nRUN <<EOF cat\nFROM not:1\nEOF\nCOPY <<-'END' /f\n\tFROM not:2\n\tEND\nfrom busybox\n";
        assert_eq!(names(text), ["alpine:3", "busybox"]);
    }
}
