//! Go: `go.mod`, with one program at its root or below `cmd`.

use super::detect::{Application, Build, Folder, minor, needs, port_in, words};

/// The release line that is written where the repository names none.
const VERSION: &str = "1.25";
const PORT: u16 = 8080;

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let module = folder.text("go.mod")?;
    let program = program(folder)?;
    let line = |word: &str| module.lines().find_map(|line| line.trim().strip_prefix(word));
    let version = line("go ").and_then(minor).unwrap_or_else(|| VERSION.to_owned());
    let text = folder.text(&format!("{program}/main.go").replace("./", ""));
    let port = text.and_then(|text| port_in(&text)).unwrap_or(PORT);
    let mut found = folder.application("a Go program", format!("golang:{version}"), port);
    found.command = words(&["bin/app"]);
    found.environment = vec![("PORT", port.to_string())];
    let required = module.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("require ").unwrap_or(line).split(' ').next()
    });
    found.needs = needs(required);
    found.build = Some(Build {
        run: words(&["go", "build", "-o", "bin/app", &program]),
        inputs: Vec::new(),
        outputs: words(&["bin"]),
        environment: vec![("CGO_ENABLED", "0".to_owned())],
        packages: Some("go"),
    });
    Some(found)
}

/// The package of the one program, as the Go tool wants it named.
fn program(folder: &Folder<'_>) -> Option<String> {
    if folder.has("main.go") {
        return Some(".".to_owned());
    }
    let below = folder.at("cmd/");
    let mut found = folder.tree.list().into_iter().filter_map(|path| {
        let name = path.strip_prefix(&below)?.strip_suffix("/main.go")?.to_owned();
        super::is_plain(&name).then_some(name)
    });
    found.next().map(|name| format!("./cmd/{name}"))
}
