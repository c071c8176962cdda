//! Python: `requirements.txt`, `pyproject.toml`, Poetry, uv; Django, FastAPI, Flask.

use super::detect::{Application, Build, Folder, minor, needs, shell, words};

/// The release line that is written where the repository names none.
const VERSION: &str = "3.13";
const PORT: u16 = 8000;
/// Where a framework's application object is looked for.
const MODULES: [&str; 8] = [
    "main",
    "app",
    "app/main",
    "src/main",
    "server",
    "application",
    "wsgi",
    "api/main",
];

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let requirements = folder.text("requirements.txt");
    let project = folder.text("pyproject.toml");
    if requirements.is_none() && project.is_none() && !folder.has("manage.py") {
        return None;
    }
    let packages = packages(requirements.as_deref(), project.as_deref());
    let has = |name: &str| packages.iter().any(|package| package == name);
    let in_environment = |words: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if let Some(first) = all.first_mut() {
            *first = format!(".venv/bin/{first}");
        }
        all
    };
    let port = PORT.to_string();
    let at = format!("0.0.0.0:{PORT}");
    let (what, command) = if folder.has("manage.py") {
        (
            "a Django application",
            in_environment(&["python", "manage.py", "runserver", &at]),
        )
    } else if has("fastapi") || has("starlette") {
        let (module, object) = object(folder, &["FastAPI(", "Starlette("])?;
        let target = format!("{module}:{object}");
        let command = in_environment(&["uvicorn", &target, "--host", "0.0.0.0", "--port", &port]);
        ("an application for an ASGI server", command)
    } else if has("flask") {
        let (module, object) = object(folder, &["Flask("])?;
        let target = format!("{module}:{object}");
        let command = in_environment(&["flask", "--app", &target, "run", "--host", "0.0.0.0", "--port", &port]);
        ("a Flask application", command)
    } else {
        let main = folder.first(&["main.py", "app.py", "server.py"])?;
        ("a Python program", in_environment(&["python", main]))
    };
    let file = folder.text(".python-version").or_else(|| folder.text("runtime.txt"));
    let required = project.as_deref().and_then(|text| text.parse::<toml::Table>().ok());
    let required =
        required.and_then(|project| Some(project.get("project")?.get("requires-python")?.as_str()?.to_owned()));
    let version = file
        .or(required)
        .as_deref()
        .and_then(minor)
        .unwrap_or_else(|| VERSION.to_owned());
    let mut found = folder.application(what, format!("python:{version}-slim"), PORT);
    found.command = command;
    found.environment = vec![("PORT", port), ("PYTHONUNBUFFERED", "1".to_owned())];
    found.needs = needs(packages.iter().map(String::as_str));
    found.build = Some(build(folder, requirements.is_some()));
    Some(found)
}

fn build(folder: &Folder<'_>, requirements: bool) -> Build {
    let with = |line: &str, inputs: &[&str]| Build {
        run: shell(&format!("python -m venv .venv && {line}")),
        inputs: words(inputs),
        outputs: if inputs.is_empty() {
            Vec::new()
        } else {
            words(&[".venv"])
        },
        environment: Vec::new(),
        packages: Some("pypi"),
    };
    if folder.has("uv.lock") {
        let line = ".venv/bin/pip install uv && .venv/bin/uv sync --frozen --no-install-project";
        with(line, &["pyproject.toml", "uv.lock"])
    } else if folder.has("poetry.lock") {
        let line = ".venv/bin/pip install poetry && VIRTUAL_ENV=.venv .venv/bin/poetry install --no-root";
        with(line, &["pyproject.toml", "poetry.lock"])
    } else if requirements {
        with(".venv/bin/pip install -r requirements.txt", &["requirements*.txt"])
    } else if folder.has("pyproject.toml") {
        with(".venv/bin/pip install .", &[])
    } else {
        with("true", &["manage.py"])
    }
}

/// The names of the packages that are asked for, in small letters.
fn packages(requirements: Option<&str>, project: Option<&str>) -> Vec<String> {
    let name = |line: &str| -> String {
        let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        line.trim()
            .split(end)
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .replace('_', "-")
    };
    let mut found: Vec<String> = requirements.into_iter().flat_map(str::lines).map(name).collect();
    if let Some(project) = project.and_then(|text| text.parse::<toml::Table>().ok()) {
        let listed = project.get("project").and_then(|project| project.get("dependencies"));
        let listed = listed.and_then(toml::Value::as_array).into_iter().flatten();
        found.extend(listed.filter_map(toml::Value::as_str).map(name));
        let poetry = project
            .get("tool")
            .and_then(|tool| tool.get("poetry"))
            .and_then(|poetry| poetry.get("dependencies"));
        let poetry = poetry.and_then(toml::Value::as_table).into_iter().flatten();
        found.extend(poetry.map(|(package, _)| name(package)));
    }
    found
}

/// The module and the name of the object that one of these calls makes.
fn object(folder: &Folder<'_>, calls: &[&str]) -> Option<(String, String)> {
    MODULES.iter().find_map(|module| {
        let text = folder.text(&format!("{module}.py"))?;
        let line = text
            .lines()
            .find(|line| !line.starts_with(' ') && calls.iter().any(|call| line.contains(call)))?;
        let object = line.split('=').next()?.split(':').next()?.trim();
        let plain = !object.is_empty() && object.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| (module.replace('/', "."), object.to_owned()))
    })
}
