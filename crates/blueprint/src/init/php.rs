//! PHP: Laravel, Symfony, and pages that PHP's own server serves.

use super::detect::{Application, Build, Folder, needs, words};
use serde_json::Value;

const PORT: u16 = 8000;

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let package: Option<Value> = folder
        .text("composer.json")
        .and_then(|text| serde_json::from_str(&text).ok());
    let at = format!("0.0.0.0:{PORT}");
    let (what, command) = if folder.has("artisan") {
        (
            "a Laravel application",
            words(&["php", "artisan", "serve", "--host", "0.0.0.0", "--port", "8000"]),
        )
    } else if folder.has("public/index.php") {
        ("a PHP application", words(&["php", "-S", &at, "-t", "public"]))
    } else if folder.has("index.php") {
        ("PHP pages", words(&["php", "-S", &at]))
    } else {
        return None;
    };
    // Composer's own image has PHP in it.
    let image = if package.is_some() { "composer:2" } else { "php:8-cli" };
    let mut found = folder.application(what, image.to_owned(), PORT);
    found.command = command;
    if let Some(package) = package {
        let required = package.get("require").and_then(Value::as_object).into_iter().flatten();
        let names: Vec<&str> = required.map(|(name, _)| name.as_str()).collect();
        found.needs = needs(names.iter().copied());
        let plain = names.iter().any(|name| name.contains('/')) && !folder.has("artisan");
        let mut inputs = words(&["composer.json"]);
        inputs.extend(folder.has("composer.lock").then(|| "composer.lock".to_owned()));
        found.build = Some(Build {
            run: words(&["composer", "install", "--no-interaction"]),
            // Laravel's own scripts run its program.
            inputs: if plain { inputs } else { Vec::new() },
            outputs: words(&["vendor"]),
            environment: Vec::new(),
            packages: Some("packagist"),
        });
    }
    Some(found)
}
