//! Where the values of a service come from.

use super::Assembly;
use crate::{
    compose::Declared,
    explain::{Explanation, Place},
    problem::At,
    units,
};
use model::{DataSet, HealthTest, Mount, MountKind, ServiceName};

/// Parts of names of variables whose values are better not read over somebody's shoulder.
const SECRETIVE: [&str; 5] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL"];

impl Assembly<'_> {
    /// What the Compose file says of a service, value by value.
    pub(super) fn explain_service(&self, declared: &Declared, explanation: &mut Explanation) {
        let Declared { name, body, .. } = declared;
        let mut note = |key: &str, value: String, at: At| {
            explanation.set(
                format!("stack.services.{name}.{key}"),
                value,
                Place::at(self.compose, at),
            );
        };
        for (key, words) in [("entrypoint", &body.entrypoint), ("command", &body.command)] {
            if let Some((at, words)) = words {
                note(key, words.join(" "), *at);
            }
        }
        if let Some((at, path)) = &body.working_dir {
            note("working_dir", path.clone(), *at);
        }
        for (variable, (at, value)) in &body.environment {
            let upper = variable.to_ascii_uppercase();
            let hidden = value.contains('\0') || SECRETIVE.iter().any(|part| upper.contains(part));
            note(
                &format!("environment.{variable}"),
                if hidden { "…".to_owned() } else { value.clone() },
                *at,
            );
        }
        for (at, mount) in &body.mounts {
            note(&format!("mounts.{}", mount.target), show_mount(mount), *at);
        }
        for need in &body.depends_on {
            note(
                &format!("depends_on.{}", need.name),
                format!("{:?}", need.condition).to_lowercase(),
                need.at,
            );
        }
        if let Some((at, health)) = &body.health {
            let test = match &health.test {
                HealthTest::Exec(words) => words.join(" "),
                HealthTest::Tcp(port) => format!("port {port}"),
            };
            note(
                "healthcheck",
                format!("{test}, every {}", units::show_ms(health.interval_ms)),
                *at,
            );
        }
    }

    /// What is in a database, and who says so.
    pub(super) fn explain_data(&self, name: &ServiceName, set: &DataSet, explanation: &mut Explanation) {
        let data = self.stack.data.get(name.as_str());
        let mut note = |key: &str, count: usize, said: Option<&Vec<(At, String)>>| {
            let key = format!("stack.data.{name}.{key}");
            let value = if count == 1 {
                "1 file".to_owned()
            } else {
                format!("{count} files")
            };
            match said.and_then(|said| said.first()) {
                Some((at, _)) => explanation.set(key, value, Place::at(self.settings, *at)),
                None => explanation.fall_back(key, value),
            }
        };
        note("migrations", set.migrations.len(), data.map(|data| &data.migrations));
        note("seed", set.seeds.len(), data.map(|data| &data.seed));
    }
}

fn show_mount(mount: &Mount) -> String {
    let from = match &mount.kind {
        MountKind::Source { subpath, .. } if subpath.is_empty() => "the checkout".to_owned(),
        MountKind::Source { subpath, .. } => format!("{subpath} of the checkout"),
        MountKind::Volume { volume } => format!("volume {volume}"),
        MountKind::Built { job, subpath } if subpath.is_empty() => format!("what {job} makes"),
        MountKind::Built { job, subpath } => format!("{subpath} of what {job} makes"),
        MountKind::VolumePath { volume, subpath } => format!("{subpath} in volume {volume}"),
        MountKind::Content { content, .. } if content.plain().is_none() => "a secret".to_owned(),
        MountKind::Content { .. } => "text of the stack".to_owned(),
        MountKind::Program => "Maquette's own program".to_owned(),
        MountKind::Tmpfs {
            size_bytes: Some(bytes),
            ..
        } => format!("memory, at most {}", units::show_bytes(*bytes)),
        MountKind::Tmpfs { size_bytes: None, .. } => "memory".to_owned(),
    };
    if mount.read_only {
        format!("{from}, read-only")
    } else {
        from
    }
}
