//! Node: `package.json`, with npm, yarn or pnpm.

use super::detect::{Application, Build, Folder, major, needs, port_in, words};
use serde_json::Value;

/// The release line that is written where the repository names none.
const VERSION: u32 = 22;
const PORT: u16 = 3000;

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let package: Value = serde_json::from_str(&folder.text("package.json")?).ok()?;
    let script = |name: &str| package.pointer(&format!("/scripts/{name}")).and_then(Value::as_str);
    let dependencies = |key: &str| package.get(key).and_then(Value::as_object).into_iter().flatten();
    let packages: Vec<&str> = dependencies("dependencies").map(|(name, _)| name.as_str()).collect();
    let tools = dependencies("devDependencies").any(|(name, _)| name == "vite");
    let main = package
        .get("main")
        .and_then(Value::as_str)
        .filter(|main| folder.has(main));
    let main = main.or_else(|| folder.first(&["server.js", "index.js", "app.js", "src/index.js", "src/server.js"]));
    let manager = Manager::of(folder, &package);
    let command = if script("start").is_some() {
        manager.command("start")
    } else if tools && script("preview").is_some() {
        let port = PORT.to_string();
        words(&["npx", "vite", "preview", "--host", "--port", &port])
    } else {
        words(&["node", main?])
    };
    let named = ["engines/node", "volta/node"].map(|at| package.pointer(&format!("/{at}")).and_then(Value::as_str));
    let file = folder.text(".nvmrc").or_else(|| folder.text(".node-version"));
    let version = named
        .into_iter()
        .flatten()
        .chain(file.as_deref())
        .find_map(major)
        .unwrap_or(VERSION);
    let port = main
        .and_then(|main| folder.text(main))
        .and_then(|text| port_in(&text))
        .unwrap_or(PORT);
    let mut found = folder.application(
        &format!("a Node application with {}", manager.name),
        format!("node:{version}"),
        port,
    );
    found.command = command;
    found.environment = vec![("PORT", port.to_string()), ("HOST", "0.0.0.0".to_owned())];
    found.needs = needs(packages.iter().copied());
    found.build = manager.build(folder, &package, script("build").is_some());
    Some(found)
}

struct Manager {
    /// As people call it, and as it is run.
    name: &'static str,
    program: &'static str,
    lock: Option<&'static str>,
    install: &'static str,
}

impl Manager {
    fn of(folder: &Folder<'_>, package: &Value) -> Self {
        let manager = |name, program, lock, install| Self {
            name,
            program,
            lock: Some(lock),
            install,
        };
        // Node's own manager of managers has the version that the package names.
        let named = package.get("packageManager").is_some();
        match folder.first(&[
            "pnpm-lock.yaml",
            "yarn.lock",
            "package-lock.json",
            "npm-shrinkwrap.json",
        ]) {
            Some("pnpm-lock.yaml") => manager("pnpm", "corepack pnpm", "pnpm-lock.yaml", "install --frozen-lockfile"),
            Some("yarn.lock") if named => manager("yarn", "corepack yarn", "yarn.lock", "install --immutable"),
            Some("yarn.lock") => manager("yarn", "yarn", "yarn.lock", "install --frozen-lockfile"),
            Some("npm-shrinkwrap.json") => manager("npm", "npm", "npm-shrinkwrap.json", "ci"),
            Some(_) => manager("npm", "npm", "package-lock.json", "ci"),
            None => Self {
                name: "npm",
                program: "npm",
                lock: None,
                install: "install",
            },
        }
    }

    fn command(&self, rest: &str) -> Vec<String> {
        let words = self.program.split(' ').chain(rest.split(' '));
        words.map(str::to_owned).collect()
    }

    fn build(&self, folder: &Folder<'_>, package: &Value, builds: bool) -> Option<Build> {
        let has = |key: &str| {
            package
                .get(key)
                .and_then(Value::as_object)
                .is_some_and(|all| !all.is_empty())
        };
        if !has("dependencies") && !has("devDependencies") && !builds {
            return None;
        }
        let mut build = Build {
            packages: Some("npm"),
            ..Build::default()
        };
        // Scripts of the package and folders of its own see more than the files that list what is installed.
        let scripts = ["preinstall", "install", "postinstall", "prepare"];
        let runs_more = scripts
            .iter()
            .any(|name| package.pointer(&format!("/scripts/{name}")).is_some());
        let whole = builds || runs_more || package.get("workspaces").is_some() || folder.has("pnpm-workspace.yaml");
        if builds {
            let program = self.program;
            build.run = super::detect::shell(&format!("{program} {} && {program} run build", self.install));
        } else {
            build.run = self.command(self.install);
        }
        if !whole {
            build.inputs = words(&["package.json"]);
            build.inputs.extend(self.lock.map(str::to_owned));
            build.inputs.extend(folder.has(".npmrc").then(|| ".npmrc".to_owned()));
            build.outputs = words(&["node_modules"]);
        }
        Some(build)
    }
}
