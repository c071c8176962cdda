//! A Dockerfile: it says itself how the application beside it is built and run.

use super::detect::{Application, Folder};
use crate::{
    tree::{self, Tree},
    yaml::{Node, NodeKind},
};
use std::{collections::BTreeSet, rc::Rc};

const FILE: &str = "Dockerfile";
/// Where images listen that do not say it.
const PORT: u16 = 8080;

/// The application of a folder that has a Dockerfile; `inside` is what the folder holds besides, if that is known.
pub(super) fn find(folder: &Folder<'_>, inside: Option<Application>) -> Option<Application> {
    let text = folder.text(FILE)?;
    let port = exposed(&text)
        .or(inside.as_ref().map(|inside| inside.port))
        .unwrap_or(PORT);
    let what = match &inside {
        Some(inside) => format!("{}, built by its Dockerfile", inside.what),
        None => "built by its Dockerfile".to_owned(),
    };
    let mut found = folder.application(&what, String::new(), port);
    found.dockerfile = true;
    found.environment = vec![("PORT", port.to_string())];
    if let Some(inside) = inside {
        (found.needs, found.dialect) = (inside.needs, inside.dialect);
    }
    found.packages = packages(&text);
    Some(found)
}

/// What is done in steps, one logical line each.
fn steps(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.trim().split_once([' ', '\t']));
    lines
        .map(|(word, rest)| (word.to_ascii_uppercase(), rest.trim().to_owned()))
        .collect()
}

/// The first port of the last stage.
fn exposed(text: &str) -> Option<u16> {
    let mut port = None;
    for (word, rest) in steps(text) {
        match word.as_str() {
            "FROM" => port = None,
            "EXPOSE" => {
                let mut listed = rest.split_whitespace();
                let number = |item: &str| item.split('/').next()?.parse().ok();
                port = port.or_else(|| listed.find_map(number));
            }
            _ => {}
        }
    }
    port
}

/// Tools that fetch packages, and the words for where.
const TOOLS: [(&str, &str); 18] = [
    ("apk", "alpine"),
    ("apt", "debian"),
    ("apt-get", "debian"),
    ("bundle", "rubygems"),
    ("cargo", "crates"),
    ("composer", "packagist"),
    ("gem", "rubygems"),
    ("go", "go"),
    ("gradle", "maven"),
    ("mvn", "maven"),
    ("mvnw", "maven"),
    ("npm", "npm"),
    ("pip", "pypi"),
    ("pip3", "pypi"),
    ("pnpm", "npm"),
    ("poetry", "pypi"),
    ("uv", "pypi"),
    ("yarn", "npm"),
];

/// The words for where the steps of a Dockerfile fetch packages.
pub(super) fn packages(text: &str) -> BTreeSet<&'static str> {
    let run = steps(text).into_iter().filter(|(word, _)| word == "RUN");
    let named = run.flat_map(|(_, rest)| {
        let words =
            rest.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | '"' | '[' | ',' | '/'));
        let known = words.filter_map(|word| TOOLS.iter().find(|(tool, _)| *tool == word));
        known.map(|(_, packages)| *packages).collect::<Vec<_>>()
    });
    named.collect()
}

/// The words for where the builds of a Compose file fetch packages, as far as it says in plain words which Dockerfiles they are.
pub(super) fn of_compose(tree: &dyn Tree, root: &Node) -> BTreeSet<&'static str> {
    let services = match root.get("services").map(|node| &node.kind) {
        Some(NodeKind::Map(services)) => services.as_slice(),
        _ => &[],
    };
    let mut found = BTreeSet::new();
    for (_, service) in services {
        let Some(build) = service.get("build") else { continue };
        let (context, file) = match &build.kind {
            NodeKind::Scalar { text, .. } => (Some(text.clone()), None),
            _ => (scalar(build.get("context")), scalar(build.get("dockerfile"))),
        };
        let context = context.unwrap_or_default();
        let file = file.unwrap_or_else(|| FILE.to_owned());
        let file = file.trim_start_matches("./");
        let path = match context.trim_start_matches("./").trim_matches('/') {
            "" | "." => file.to_owned(),
            folder => format!("{folder}/{file}"),
        };
        let text = match scalar(build.get("dockerfile_inline")) {
            Some(text) => Some(text),
            None => tree::text(tree, &path).ok(),
        };
        found.extend(text.iter().flat_map(|text| packages(text)));
    }
    found
}

fn scalar(node: Option<&Rc<Node>>) -> Option<String> {
    match &node?.kind {
        NodeKind::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_last_stage() {
        let text = "FROM a AS x\nEXPOSE 1000\nFROM b\nexpose ${PORT} 9000/udp\nEXPOSE 80\n";
        assert_eq!(exposed(text), Some(9000));
        assert_eq!(exposed("FROM a\nEXPOSE 80\nFROM b\n"), None);
    }

    #[test]
    fn packages_are_those_of_the_tools_that_steps_run() {
        let text = "FROM node\nRUN apt-get update \\\n && apt-get install -y git\nRUN [\"npm\", \"ci\"]\nCMD npm start\nCOPY pip .\n";
        assert_eq!(packages(text), BTreeSet::from(["debian", "npm"]));
        assert_eq!(
            packages("RUN ./mvnw package; /usr/bin/gem list"),
            BTreeSet::from(["maven", "rubygems"])
        );
    }
}
