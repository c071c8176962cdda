//! The shop as it is, and the shop without RabbitMQ and all that needs it.

use crate::probe::Page;
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

/// A shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// All nine services.
    #[value(name = "shop")]
    Whole,
    /// web, catalog, cart, PostgreSQL and Redis.
    #[value(name = "shop-small")]
    Small,
}

const NEEDS_BROKER: [&str; 4] = ["orders", "payments", "mail", "rabbitmq"];

impl Variant {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Whole];

    /// The name of its project.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Whole => "shop",
            Self::Small => "shop-small",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Whole => "with RabbitMQ: six services, three engines",
            Self::Small => "without RabbitMQ: web, catalog, cart, PostgreSQL, Redis",
        }
    }

    /// How many services it has, engines included.
    pub(crate) fn services(self) -> usize {
        match self {
            Self::Whole => 9,
            Self::Small => 5,
        }
    }

    /// What must answer for it to be of use. An engine is proved by the service that asks it before it says that it is well.
    pub(crate) fn pages(self) -> Vec<Page> {
        let page = |service, port, path| Page { service, port, path };
        let health = "/healthz";
        let mut pages = vec![page("catalog", 8081, health), page("cart", 8082, health)];
        match self {
            // Its own health asks services that are not there.
            Self::Small => pages.push(page("web", 8080, "/")),
            Self::Whole => pages.extend([
                page("web", 8080, health),
                page("orders", 8083, health),
                page("payments", 8084, health),
                page("mail", 8085, health),
            ]),
        }
        pages
    }

    /// Copies the shop and, for the small one, cuts it down.
    ///
    /// # Errors
    /// When a file can not be copied, or the shop is not what it was when this was written.
    pub(crate) fn write(self, shop: &Path, to: &Path) -> Result<()> {
        copy(shop, to, 0)?;
        if self == Self::Whole {
            return Ok(());
        }
        let edit = |name: &str, change: fn(&str) -> Result<String>| -> Result<()> {
            let path = to.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("{} can not be read", path.display()))?;
            Ok(fs::write(&path, change(&text)?)?)
        };
        edit("compose.yaml", small_compose)?;
        edit("maquette.yaml", small_settings)
    }
}

/// Leaves out whole services, and the health check of the one that asks them.
fn small_compose(text: &str) -> Result<String> {
    let (mut service, mut key) = (String::new(), String::new());
    let mut kept = String::new();
    let mut dropped = 0;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let name = line.trim().split(':').next().unwrap_or_default();
        match indent {
            0 | 2 if !name.is_empty() && !name.starts_with('#') => {
                name.clone_into(&mut service);
                key.clear();
            }
            4 if !name.starts_with('#') => name.clone_into(&mut key),
            _ => {}
        }
        let without = NEEDS_BROKER.contains(&service.as_str()) || (service == "web" && key == "healthcheck");
        if without {
            dropped += 1;
            continue;
        }
        kept.push_str(&line.replace("[catalog, cart, orders, mail]", "[catalog, cart]"));
        kept.push('\n');
    }
    ensure!(
        dropped > 50 && kept.contains("[catalog, cart]") && !kept.contains("rabbitmq:"),
        "the shop's compose.yaml has changed: mend the bench's small variant"
    );
    Ok(kept)
}

fn small_settings(text: &str) -> Result<String> {
    let gone = |line: &&str| {
        NEEDS_BROKER
            .iter()
            .any(|name| line.trim_start().starts_with(&format!("{name}:")))
    };
    let dropped = text.lines().filter(gone).count();
    ensure!(
        dropped == NEEDS_BROKER.len(),
        "the shop's maquette.yaml has changed: mend the bench's small variant"
    );
    Ok(text
        .lines()
        .filter(|line| !gone(line))
        .fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        }))
}

fn copy(from: &Path, to: &Path, depth: usize) -> Result<()> {
    ensure!(depth < 16, "{} is nested too deeply", from.display());
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} can not be read", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() && entry.file_name() != "__pycache__" {
            copy(&entry.path(), &target, depth + 1)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_shop_is_what_the_example_gives() {
        let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop");
        let directory = tempfile::tempdir().unwrap();
        Variant::Small.write(&shop, directory.path()).unwrap();
        let compose = fs::read_to_string(directory.path().join("compose.yaml")).unwrap();
        for gone in ["  orders:", "  payments:", "  mail:", "  rabbitmq:"] {
            assert!(!compose.contains(gone), "{compose}");
        }
        for kept in [
            "  web:",
            "  catalog:",
            "  cart:",
            "  postgres:",
            "  redis:",
            "volumes:\n  postgres-data:",
        ] {
            assert!(compose.contains(kept), "{kept} is missing in {compose}");
        }
        let settings = fs::read_to_string(directory.path().join("maquette.yaml")).unwrap();
        assert!(settings.contains("cart: { host: true }") && !settings.contains("orders"));
    }
}
