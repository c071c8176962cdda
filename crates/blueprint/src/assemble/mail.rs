//! Mail is caught: a service of the environment takes it, keeps it and shows it, and nothing of it is sent.
//!
//! What the images of well-known catchers would do, Maquette's own program does in their place, on their ports.

use super::Assembly;
use crate::{
    compose::Declared,
    engine,
    explain::{Explanation, Place},
    problem::At,
    settings::Mail,
};
use model::{
    Feature, HealthCheck, HealthTest, Limits, Mount, MountKind, Options, Restart, Root, Service, ServiceName,
    ServiceStack, VolumeName, Workload,
};
use std::collections::{BTreeMap, BTreeSet};

/// Where catchers take mail, the port that is asked whether they are well first.
const SMTP: [u16; 2] = [1025, 25];
/// Where they show it: mailpit and mailhog, maildev. The first one is the page's address.
const PAGE: [u16; 2] = [8025, 1080];
const PROGRAM: &str = "/opt/maquette/maquette";
const KEPT: &str = "/srv/mail";
const MEMORY_BYTES: u64 = 192 << 20;
const PIDS: u64 = 64;

impl Assembly<'_> {
    /// Where its image says that a service catches mail; `None` if it does not, or the runtime leaves that to the image.
    pub(super) fn is_mail(&self, declared: &Declared) -> Option<At> {
        let (at, image) = declared.body.image.as_ref()?;
        let ours = self.capabilities.features.contains(&Feature::Program) && declared.body.build.is_none();
        (ours && engine::catches_mail(image)).then_some(*at)
    }

    /// A catcher of the Compose file.
    pub(super) fn mail_of(&self, declared: &Declared, at: At, explanation: &mut Explanation) -> Service {
        self.data_of_no_engine(&declared.name);
        self.explain_mail(&declared.name, Place::at(self.compose, at), explanation);
        Service {
            aliases: declared.body.aliases.clone(),
            depends_on: self.needs(&declared.body),
            ..catcher(&declared.name, None)
        }
    }

    /// The catcher that `maquette.yaml` asks for.
    pub(super) fn mail(&self, stack: &mut ServiceStack, explanation: &mut Explanation) {
        let Some(Mail { at, service, port }) = &self.stack.mail else {
            return;
        };
        if !self.capabilities.features.contains(&Feature::Program) {
            let message = format!("the runtime `{}` catches no mail", self.capabilities.runtime);
            self.settings
                .error_hint(*at, message, "add a service with an image that does, such as mailpit");
            return;
        }
        if self.body_of(service.as_str()).is_some() {
            let message = format!("there is a service `{service}` in {}", self.compose.file);
            self.settings
                .error_hint(*at, message, "give `mail` another name under `service`");
            return;
        }
        self.explain_mail(service, Place::at(self.settings, *at), explanation);
        // Whoever sends mail finds it, in whichever network.
        let networks = stack.networks.keys().map(|name| (name.clone(), Vec::new())).collect();
        let made = Service {
            networks,
            ..catcher(service, Some(*port))
        };
        stack.services.insert(service.clone(), made);
    }

    fn explain_mail(&self, name: &ServiceName, place: Place, explanation: &mut Explanation) {
        explanation.set(
            format!("stack.services.{name}.runs"),
            "catches mail and sends none",
            place,
        );
    }
}

fn catcher(name: &ServiceName, port: Option<u16>) -> Service {
    let mut smtp = SMTP.to_vec();
    smtp.extend(port.filter(|port| !SMTP.contains(port)));
    let page = PAGE.into_iter().filter(|port| !smtp.contains(port));
    let page: Vec<u16> = page.collect();
    let mut command = vec![PROGRAM.to_owned(), "mail-catcher".to_owned()];
    let sockets = smtp.iter().map(|port| ("--smtp", port));
    for (option, port) in sockets.chain(page.iter().map(|port| ("--page", port))) {
        command.extend([option.to_owned(), format!("0.0.0.0:{port}")]);
    }
    command.extend(["--directory".to_owned(), KEPT.to_owned()]);
    let mut mounts = vec![Mount {
        target: PROGRAM.to_owned(),
        kind: MountKind::Program,
        read_only: true,
    }];
    mounts.extend(volume(name).map(|volume| Mount {
        target: KEPT.to_owned(),
        kind: MountKind::Volume { volume },
        read_only: false,
    }));
    Service {
        workload: Workload {
            root: Root::Host,
            entrypoint: None,
            command: Some(command),
            environment: BTreeMap::new(),
            working_dir: None,
            mounts,
            limits: Limits {
                memory_bytes: Some(MEMORY_BYTES),
                pids: Some(PIDS),
                ..Limits::default()
            },
            read_only: true,
            options: Options::default(),
        },
        aliases: Vec::new(),
        public_port: page.first().copied(),
        ports: smtp.iter().chain(&page).copied().collect(),
        depends_on: BTreeMap::new(),
        health: Some(HealthCheck {
            test: HealthTest::Tcp(SMTP[0]),
            interval_ms: 5_000,
            timeout_ms: 5_000,
            retries: 12,
            start_period_ms: 30_000,
            start_interval_ms: None,
        }),
        restart: Restart::Always,
        stop_signal: "SIGKILL".to_owned(),
        stop_grace_ms: 1_000,
        networks: BTreeMap::new(),
        net: model::NetworkMode::default(),
        restarts_with: BTreeSet::new(),
        restart_limit: None,
    }
}

/// What is kept lives as long as the environment.
fn volume(name: &ServiceName) -> Option<VolumeName> {
    format!("{name}-kept").parse().ok()
}
