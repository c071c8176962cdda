//! What a service runs from: packages of the host, an image, or an engine of the runtime; and whether the runtime can.

use super::Assembly;
use crate::{
    compose::Declared,
    data,
    engine::{self, Known},
    escape::quoted,
    explain::{Explanation, Place},
    problem::At,
};
use model::{Engine, Feature, MountKind, Root, ServiceName, VersionRange};

impl Assembly<'_> {
    /// What a service runs from; a problem if the runtime can't.
    pub(super) fn root(
        &self,
        declared: &Declared,
        explanation: &mut Explanation,
    ) -> Option<(Root, Option<&'static Known>)> {
        let Declared { name, at, body } = declared;
        let settings = self.stack.services.get(name.as_str());
        let host = settings
            .and_then(|service| service.host)
            .filter(|(_, host)| *host)
            .map(|(at, _)| at);
        let image = body.image.as_ref().filter(|(_, image)| !image.trim().is_empty());
        let recognised = image.and_then(|(at, image)| engine::recognise(image).map(|found| (*at, image, found)));
        let recognised = recognised.filter(|_| self.prepares_databases(name));
        let key = format!("stack.services.{name}.runs");
        if let (Some((image_at, image, (known, tag))), None) = (recognised, &body.build) {
            if let Some(at) = host {
                let message = format!(
                    "`host` of service `{name}` has no effect: it is an engine, {}",
                    known.title
                );
                self.settings.warn(at, message);
            }
            let versions = self.engine_versions(name, image_at, known, tag);
            let text = format!("{} {}", known.title, engine::show(versions));
            explanation.set(key, text, Place::at(self.compose, image_at));
            let engine = Engine {
                kind: known.kind.to_owned(),
                image: image.clone(),
                versions,
            };
            return Some((Root::Engine(engine), Some(known)));
        }
        self.data_of_no_engine(name);
        if let Some(at) = host {
            explanation.set(key, "packages of the host", Place::at(self.settings, at));
            if !self.capabilities.host_roots {
                let message = format!(
                    "the runtime `{}` can not run services from a host",
                    self.capabilities.runtime
                );
                self.settings
                    .error_hint(at, message, "remove `host`, so that the service runs from its image");
            }
            return Some((Root::Host, None));
        }
        let from_host = format!(
            "if its program is installed on the host, say `host: true` of it: `stack: {{ services: {{ {name}: {{ host: true }} }} }}` in maquette.yaml"
        );
        if let Some((at, build)) = &body.build {
            if !self.capabilities.features.contains(&Feature::Builds) {
                let runtime = &self.capabilities.runtime;
                self.compose.error_hint(
                    *at,
                    format!("`build` of service `{name}` is not supported by the runtime `{runtime}` as it is"),
                    if runtime == "cell" {
                        format!("cells build with buildah: `apt install buildah` where they run; or, {from_host}")
                    } else {
                        from_host
                    },
                );
                return None;
            }
            let mut build = build.clone()?;
            build.no_health = body.health_off;
            explanation.set(
                key,
                format!("built from ./{}", build.context),
                Place::at(self.compose, *at),
            );
            return Some((Root::Build(Box::new(build)), None));
        }
        let Some((image_at, image)) = image else {
            self.compose
                .error_hint(*at, format!("service `{name}` has no `image`"), from_host);
            return None;
        };
        if !self.capabilities.images {
            let runtime = &self.capabilities.runtime;
            let message = format!(
                "service `{name}` needs the image {}, and the runtime `{runtime}` runs no images",
                quoted(image)
            );
            self.compose.error_hint(*image_at, message, from_host);
            return None;
        }
        explanation.set(key, format!("image {image}"), Place::at(self.compose, *image_at));
        Some((
            Root::Image {
                reference: image.clone(),
                pinned: self.image_facts(image).map(|facts| facts.digest.clone()),
            },
            None,
        ))
    }

    /// Whether engines are more to the runtime than other images. Where they are not, nothing can be said of their data.
    fn prepares_databases(&self, name: &ServiceName) -> bool {
        if let Some(data) = self
            .stack
            .data
            .get(name.as_str())
            .filter(|_| !self.capabilities.databases)
        {
            let runtime = &self.capabilities.runtime;
            let message = format!("the data of service `{name}` is not migrated and seeded by the runtime `{runtime}`");
            self.settings.error_hint(
                data.at,
                message,
                "leave it out: the engine runs from its image, and a job of another service can migrate",
            );
        }
        self.capabilities.databases
    }

    pub(super) fn data_of_no_engine(&self, name: &ServiceName) {
        if let Some(data) = self
            .stack
            .data
            .get(name.as_str())
            .filter(|_| self.capabilities.databases)
        {
            self.settings.error_hint(
                data.at,
                format!("service `{name}` is no data engine"),
                "engines are recognised by their image: `postgres`, `redis`, `rabbitmq`",
            );
        }
    }

    /// The versions that are accepted: what `maquette.yaml` says, else what the image's tag says.
    pub(super) fn engine_versions(
        &self,
        name: &ServiceName,
        at: At,
        known: &'static Known,
        tag: VersionRange,
    ) -> VersionRange {
        let data = self.stack.data.get(name.as_str());
        let said = data.and_then(|data| data.versions);
        let versions = said.map_or(tag, |(_, versions)| versions);
        if let Some((said_at, versions)) = said
            && tag != engine::ANY
            && !versions.contains(tag.min)
        {
            let message = format!(
                "`versions` {} does not contain {}, the version of the image",
                engine::show(versions),
                tag.min
            );
            self.settings.warn(said_at, message);
        }
        if let Some((message, hint)) = engine::lacking(known, versions, self.capabilities) {
            match said {
                Some((said_at, _)) => self.settings.error_hint(said_at, message, hint),
                None => self
                    .compose
                    .error_hint(at, format!("service `{name}`: {message}"), hint),
            }
        }
        if let Some(data) = data
            && known.kind != "postgres"
            && let Some((at, _)) = data.migrations.first().or(data.seed.first())
        {
            let message = format!(
                "service `{name}` is {}, which has no migrations and no seed here",
                known.title
            );
            self.settings
                .error_hint(*at, message, "a job can fill it: see `stack.jobs`");
        }
        versions
    }

    /// Scripts that only the image's own entrypoint would run.
    pub(super) fn engine_mounts(&self, declared: &Declared, known: &Known) {
        if self.capabilities.engines.is_empty() {
            return;
        }
        for (at, mount) in &declared.body.mounts {
            if mount.target.starts_with("/docker-entrypoint-initdb.d") {
                self.compose.error_hint(
                    *at,
                    format!(
                        "scripts in {} of service `{}` are not run",
                        quoted(&mount.target),
                        declared.name
                    ),
                    "name them as `migrations` or `seed` in `stack.data` of maquette.yaml",
                );
            } else if matches!(mount.kind, MountKind::Source { .. })
                && !data::DATA_DIRS.contains(&mount.target.as_str())
            {
                let message = format!(
                    "the mount {} of service `{}` may have no effect",
                    quoted(&mount.target),
                    declared.name
                );
                let hint = format!("{} runs from the host's packages, not from its image", known.title);
                self.compose.warn_hint(*at, message, hint);
            }
        }
    }

    /// Entrypoint and command. What runs from the host has no entrypoint of an image to fall back to.
    pub(super) fn command(&self, declared: &Declared, root: &Root) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let words = |part: &Option<(At, Vec<String>)>| part.as_ref().map(|(_, words)| words.clone());
        let (entrypoint, command) = (words(&declared.body.entrypoint), words(&declared.body.command));
        if *root != Root::Host {
            return (entrypoint, command);
        }
        let whole: Vec<String> = [entrypoint, command].into_iter().flatten().flatten().collect();
        if whole.first().is_none_or(String::is_empty) {
            self.compose.error_hint(
                declared.at,
                format!("service `{}` has no `command`", declared.name),
                "it runs from the packages of the host, where no image says what to start",
            );
        }
        (None, Some(whole))
    }
}
