//! PHP: Laravel, Symfony, and pages that PHP's own server serves.

use super::detect::{Application, Build, Dialect, Folder, Need, needs, words};
use serde_json::Value;

const PORT: u16 = 8000;
/// Laravel starts with none but a key of 32 bytes. What it seals is a preview's and no production's.
const LARAVEL_KEY: &str = "base64:bWFxdWV0dGUtcHJldmlldy1rZXktZm9yLWxhcmF2ZWw=";

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
        if folder.has("artisan") {
            laravel(folder, &mut found);
        }
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

/// Its engines stand in the file that each developer copies to `.env`.
fn laravel(folder: &Folder<'_>, found: &mut Application) {
    found.dialect = Dialect::Laravel;
    found.environment = vec![("APP_KEY", LARAVEL_KEY.to_owned())];
    let settings = folder.text(".env.example").unwrap_or_default();
    let says = |value: &str| {
        let lines = settings.lines().filter_map(|line| line.trim().split_once('='));
        let keys = [
            "DB_CONNECTION",
            "CACHE_STORE",
            "CACHE_DRIVER",
            "QUEUE_CONNECTION",
            "SESSION_DRIVER",
        ];
        lines
            .into_iter()
            .any(|(key, text)| keys.contains(&key) && text.trim_matches('"') == value)
    };
    found.needs.extend(says("pgsql").then_some(Need::Postgres));
    found.needs.extend(says("redis").then_some(Need::Redis));
    found.needs.sort_unstable();
    found.needs.dedup();
}
