//! The table of all keys for the documentation, made from the table that decides.

use super::keys::{self, Fate, KEYS};
use model::{Feature, SYSCTLS};
use std::fmt::Write;

/// The reference of Compose keys, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(concat!(
        "# Compose keys\n\n",
        "What becomes of every key of the Compose Specification. This page is made from the table by which Maquette decides;\n",
        "what is not listed is an unknown key, which is an error with the nearest known one as a hint. Keys that begin with `x-`\n",
        "are extensions everywhere and have no effect of their own.\n\n",
        "- **honoured**: it does what it says.\n",
        "- **where the runtime can**: it does where the runtime has the feature; where not, a warning says what happens instead,\n",
        "  or an error, as the table says.\n",
        "- **ignored**: it has no effect, nothing is lost without it, and a warning says so.\n",
        "- **refused**: the stack would not be what its authors meant. An error says what to do instead.\n\n",
        "`*` stands for a name that the author chooses, `[]` for an item of a list.\n",
    ));
    let mut section = None;
    for entry in &KEYS {
        let (of, key) = keys::parts(entry.path);
        if section != Some(of) {
            section = Some(of);
            let title = if of.is_empty() {
                "Top level".to_owned()
            } else {
                format!("`{of}`")
            };
            // Writing to a string does not fail.
            let _ = write!(out, "\n## {title}\n\n| key | | |\n|---|---|---|\n");
        }
        let (fate, text) = shown(entry.fate, entry.text);
        let _ = writeln!(out, "| `{key}` | {fate} | {} |", text.replace('|', "\\|"));
    }
    out.push_str("\n## Settings of the kernel\n\nWhat `sysctls` may name. Whether the kernel of a machine takes a value, it says at the start.\n\n");
    for name in SYSCTLS {
        let _ = writeln!(out, "- `{name}`");
    }
    out
}

/// Every key of the specification with one word for what becomes of it: `honoured`, `wish`, `ignored`, `refused`, or `parent`
/// where its parent decides.
pub fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KEYS.iter().map(|entry| {
        let word = match entry.fate {
            Fate::Honoured => "honoured",
            Fate::Wish(_) => "wish",
            Fate::Ignored => "ignored",
            Fate::Refused => "refused",
            Fate::AsParent => "parent",
        };
        (entry.path, word, entry.text)
    })
}

fn shown(fate: Fate, text: &str) -> (&'static str, String) {
    match fate {
        Fate::Honoured => ("honoured", text.to_owned()),
        Fate::Refused => ("refused", text.to_owned()),
        Fate::Ignored => ("ignored", text.to_owned()),
        Fate::AsParent => ("as a whole", "What becomes of its parent becomes of it.".to_owned()),
        Fate::Wish(feature) => {
            let (refused, lack) = keys::lack(feature);
            let word = if refused { "refused" } else { "ignored" };
            let text = if text.is_empty() {
                String::new()
            } else {
                format!("{text} ")
            };
            (
                "where the runtime can",
                format!("{text}Needs `{}`; else {word}: {lack}.", name(feature)),
            )
        }
    }
}

/// A feature as it is written in a runtime's capabilities.
fn name(feature: Feature) -> String {
    serde_json::to_value(feature)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
