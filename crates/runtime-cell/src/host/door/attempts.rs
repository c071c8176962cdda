//! Tells what containers try to reach by an address, at a port of a name that nothing is allowed on, or by datagrams.

use crate::{
    host::{Host, door::told::Refusal, environment::Environment, now},
    sandbox::{
        network::container_address,
        refused::{Attempt, READ, parse},
    },
};
use model::Reachable;
use std::{
    io,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{io::unix::AsyncFd, task::AbortHandle, time::sleep};

/// So many are told at once, then no more before this time is over: the work is the host's, and no limit of the environment counts it.
const BURST: u32 = 32;
const BURST_TIME: Duration = Duration::from_millis(64);
/// The port of name servers.
const NAMES: u16 = 53;

/// Tells of an environment's attempts until the task is aborted or the environment is dropped.
pub(crate) fn watch(socket: OwnedFd, environment: &Arc<Environment>, host: &Arc<Host>) -> io::Result<AbortHandle> {
    let socket = Ears(Some(crate::sys::watch_readable(socket)?));
    let told = tell(socket, Arc::downgrade(environment), Arc::clone(host));
    Ok(tokio::spawn(told).abort_handle())
}

/// A packet socket. The kernel waits for all processors when one is closed, which is not to hold up who waits for this thread.
struct Ears(Option<AsyncFd<OwnedFd>>);

impl Drop for Ears {
    fn drop(&mut self) {
        let socket = self.0.take().map(AsyncFd::into_inner);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(socket));
        }
    }
}

async fn tell(ears: Ears, environment: Weak<Environment>, host: Arc<Host>) {
    let mut packet = [0; READ];
    let Some(socket) = &ears.0 else { return };
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

/// Why nothing is reached by an address, and what would help.
fn of_address(who: &str, to: SocketAddrV4) -> String {
    let address = to.ip();
    if address.is_link_local() {
        return format!("{who} asked for a link-local address, which no policy opens");
    }
    if address.octets()[0] == 0 || address.octets()[0] >= 224 {
        return format!("{who} asked for an address at which nobody is");
    }
    let caution = if address.is_private() {
        "; it is an address of a private network: only if you know what is there"
    } else {
        ""
    };
    format!(
        "{who} asked for it by its address, and only names are reached: `private: {{ NAME: \"{to}\" }}` in the policy would open it \
         under a name{caution}"
    )
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
            let who = match &service {
                Some(service) => format!("`{service}`"),
                None => "a job".to_owned(),
            };
            let named = record.exits.named(address);
            let name = named.map_or_else(|| address.to_string(), ToString::to_string);
            let why = if shut {
                Some("all networks of the service are `internal`".to_owned())
            } else if port == NAMES {
                Some(format!(
                    "{who} asked for it at the port of name servers, which no policy opens"
                ))
            } else if attempt.udp && !address.is_link_local() {
                Some(format!(
                    "{who} sent datagrams (UDP) there, and only connections (TCP) to names are let through"
                ))
            } else {
                match named.map(|name| record.exits.egress.behind(name)) {
                    Some(Some((outside, Reachable::Public(_)))) if Some(&outside) == named => None,
                    Some(Some((outside, Reachable::Public(_)))) => Some(format!("it stands for {outside}")),
                    Some(Some((_, Reachable::Private(_)))) => {
                        Some("the policy names an endpoint for it, at other ports".to_owned())
                    }
                    // The list has changed meanwhile.
                    Some(None) => None,
                    None => Some(of_address(&who, attempt.to)),
                }
            };
            let refusal = Refusal {
                name: &name,
                port: Some(port),
                udp: attempt.udp,
                count: 1,
                from: service,
                why,
            };
            record.told.refuse(refusal, now());
        }
        self.save_told_soon(&environment.id);
    }
}
