//! The simulated way out: what a container gets from outside, and what is told about it.

use super::world::Cell;
use model::{DoorFact, Egress, HostName, PassedFact, Reachable, RefusedFact, Timestamp};

/// What everything outside says.
const OUTSIDE: &[u8] = b"outside\n";

fn allows(egress: &Egress, name: &HostName, port: u16) -> bool {
    match egress.find(name) {
        Some(Reachable::Public(ports)) => ports.contains(&port),
        Some(Reachable::Private(endpoints)) => endpoints.iter().any(|endpoint| endpoint.port() == port),
        None => false,
    }
}

impl Cell {
    /// Takes over what a generation may reach.
    pub(super) fn allow(&mut self, egress: &Egress) {
        self.egress = egress.clone();
        self.door.refused.retain(|refused| {
            let name: Option<HostName> = refused.name.parse().ok();
            !name.is_some_and(|name| match refused.port {
                Some(port) => allows(egress, &name, port),
                None => egress.find(&name).is_some(),
            })
        });
    }

    /// What a container gets that connects there; nothing if it may not.
    pub(super) fn fetch(&mut self, name: &str, port: &str, now: Timestamp) -> Option<Vec<u8>> {
        // An address is no name: there is no route to it, and nobody who could tell.
        let name: HostName = name.parse().ok()?;
        let port: u16 = port.parse().ok()?;
        if !allows(&self.egress, &name, port) {
            let known = self.egress.find(&name).is_some();
            refuse(&mut self.door, &name, known.then_some(port), now);
            return None;
        }
        let bytes = OUTSIDE.len() as u64;
        let known = self.door.passed.iter_mut();
        if let Some(known) = known
            .into_iter()
            .find(|known| known.name == name.as_str() && known.port == port)
        {
            known.connections += 1;
            known.received += bytes;
        } else {
            self.door.passed.push(PassedFact {
                name: name.to_string(),
                port,
                connections: 1,
                failed: 0,
                failure: None,
                sent: 0,
                received: bytes,
            });
        }
        Some(OUTSIDE.to_vec())
    }
}

fn refuse(door: &mut DoorFact, name: &HostName, port: Option<u16>, now: Timestamp) {
    let known = door
        .refused
        .iter_mut()
        .find(|known| known.name == name.as_str() && known.port == port);
    if let Some(known) = known {
        known.count += 1;
        known.last = now;
    } else {
        door.refused.push(RefusedFact {
            name: name.to_string(),
            port,
            count: 1,
            last: now,
            why: None,
            udp: false,
            from: None,
        });
    }
}
