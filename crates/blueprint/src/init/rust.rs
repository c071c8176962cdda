//! Rust: `Cargo.toml` of a program.

use super::detect::{Application, Build, Folder, needs, port_in, words};

/// The release line of the image.
const VERSION: &str = "1";
const PORT: u16 = 8080;

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let manifest: toml::Table = folder.text("Cargo.toml")?.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?;
    let first = manifest
        .get("bin")
        .and_then(toml::Value::as_array)
        .and_then(|bins| bins.first());
    let name = first
        .and_then(|bin| bin.get("name"))
        .and_then(toml::Value::as_str)
        .unwrap_or(name);
    if !super::is_plain(name) || (!folder.has("src/main.rs") && first.is_none()) {
        return None;
    }
    let version = manifest
        .get("package")?
        .get("rust-version")
        .and_then(toml::Value::as_str);
    let port = folder
        .text("src/main.rs")
        .and_then(|text| port_in(&text))
        .unwrap_or(PORT);
    let image = format!(
        "rust:{}",
        version
            .and_then(super::detect::minor)
            .unwrap_or_else(|| VERSION.to_owned())
    );
    let mut found = folder.application("a Rust program", image, port);
    let path = format!("target/release/{name}");
    found.command = words(&[&path]);
    found.environment = vec![("PORT", port.to_string())];
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let features = |value: &toml::Value| value.get("features").and_then(toml::Value::as_array).cloned();
    let postgres = |value: &toml::Value| {
        let mut features = features(value).into_iter().flatten();
        features.any(|feature| feature.as_str().is_some_and(|feature| feature.contains("postgres")))
    };
    let names = dependencies.into_iter().flatten().map(|(name, value)| {
        // These talk to several engines, and say which among their features.
        if matches!(name.as_str(), "sqlx" | "sea-orm") && postgres(value) {
            "postgres"
        } else {
            name.as_str()
        }
    });
    found.needs = needs(names);
    found.build = Some(Build {
        run: words(&["cargo", "build", "--release", "--bin", name]),
        inputs: Vec::new(),
        outputs: vec![path],
        environment: Vec::new(),
        packages: Some("crates"),
    });
    Some(found)
}
