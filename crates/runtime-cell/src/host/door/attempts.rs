//! Tells what containers try to connect to by an address, or at a port of a name that nothing is allowed on.

use crate::{
    host::{Host, environment::Environment, now},
    sandbox::{
        network::container_address,
        refused::{Attempt, READ, parse},
    },
};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{io::unix::AsyncFd, task::AbortHandle, time::sleep};

/// So many are told at once, then no more before this time is over: the work is the host's, and no limit of the environment counts it.
const BURST: u32 = 256;
const BURST_TIME: Duration = Duration::from_millis(64);

/// Tells of an environment's attempts until the task is aborted or the environment is dropped.
pub(crate) fn watch(socket: OwnedFd, environment: &Arc<Environment>, host: &Arc<Host>) -> io::Result<AbortHandle> {
    let socket = crate::sys::watch_readable(socket)?;
    let told = tell(socket, Arc::downgrade(environment), Arc::clone(host));
    Ok(tokio::spawn(told).abort_handle())
}

async fn tell(socket: AsyncFd<OwnedFd>, environment: Weak<Environment>, host: Arc<Host>) {
    let mut packet = [0; READ];
    loop {
        for _ in 0..BURST {
            let Ok(mut ready) = socket.readable().await else {
                return;
            };
            let read = ready.try_io(|socket| Ok(rustix::io::read(socket, &mut packet)?));
            let length = match read {
                Ok(Ok(length)) => length,
                // Nothing of it concerns the next one.
                Ok(Err(_)) => break,
                Err(_) => continue,
            };
            let Some(environment) = environment.upgrade() else {
                return;
            };
            if let Some(attempt) = packet.get(..length).and_then(parse) {
                host.note_attempt(&environment, attempt);
            }
        }
        sleep(BURST_TIME).await;
    }
}

impl Host {
    fn note_attempt(self: &Arc<Self>, environment: &Environment, attempt: Attempt) {
        let (address, port) = (*attempt.to.ip(), attempt.to.port());
        {
            let mut inner = environment.inner();
            let record = &mut inner.record;
            let mut units = record.units.iter();
            // Whoever speaks in no container's name is nobody of whom this could be told.
            let Some((unit, _)) = units.find(|(_, unit)| container_address(unit.number) == attempt.from) else {
                return;
            };
            let service = unit.as_service();
            let shut = service
                .as_ref()
                .is_some_and(|service| record.exits.shut.contains(service));
            let who = service.map_or_else(|| "a job".to_owned(), |service| format!("`{service}`"));
            let (name, why) = match record.exits.named(address) {
                _ if shut => (None, Some("all networks of the service are `internal`".to_owned())),
                Some(name) => (Some(name.to_string()), None),
                None if address.is_link_local() => {
                    let why = format!("{who} asked for a link-local address, which no policy opens");
                    (None, Some(why))
                }
                None => {
                    let why = format!(
                        "{who} asked for it by its address, and only names are reached: `private: {{ NAME: \"{}\" }}` in \
                         the policy would open it under a name",
                        attempt.to
                    );
                    (None, Some(why))
                }
            };
            let name = name.unwrap_or_else(|| address.to_string());
            record.told.refuse(&name, Some(port), 1, why, now());
        }
        self.save_told_soon(&environment.id);
    }
}
