//! What an environment did at its door, as it is told: counted, and bounded, since all of it is the environment's own doing.

use crate::door::wire::{Report, Tally};
use model::{DoorFact, HostName, PassedFact, RefusedFact, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Names and ports of which refusals are told apart.
const REFUSED_MAX: usize = 64;
/// Addresses and ports of which refusals are told apart, beside the names: whoever tries all that there are drives no name out.
const ADDRESSES_MAX: usize = 24;
/// Names and ports of which what passed is told apart.
const PASSED_MAX: usize = 1024;
/// Bytes of a reason.
const WHY_MAX: usize = 300;

/// What was asked for and refused.
#[derive(Debug, Default)]
pub(crate) struct Refusal<'a> {
    /// The name, or the address.
    pub(crate) name: &'a str,
    pub(crate) port: Option<u16>,
    /// Whether it was datagrams.
    pub(crate) udp: bool,
    /// How often.
    pub(crate) count: u64,
    /// The service that asked.
    pub(crate) from: Option<ServiceName>,
    pub(crate) why: Option<String>,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    #[serde(default)]
    passed: Vec<PassedFact>,
    #[serde(default)]
    refused: Vec<RefusedFact>,
    #[serde(default)]
    refused_more: u64,
}

impl Told {
    /// A name or an address, or a port of it, was asked for and refused.
    pub(crate) fn refuse(&mut self, refusal: Refusal<'_>, now: Timestamp) {
        let Refusal {
            name,
            port,
            udp,
            count,
            from,
            why,
        } = refusal;
        let known = self
            .refused
            .iter_mut()
            .find(|known| known.name == name && known.port == port && known.udp == udp);
        if let Some(known) = known {
            known.count = known.count.saturating_add(count);
            known.last = now;
            known.why = why;
            known.from = from;
        } else if self.has_room(is_address(name)) {
            self.refused.push(RefusedFact {
                name: name.to_owned(),
                port,
                count,
                last: now,
                why,
                udp,
                from,
            });
        } else {
            self.refused_more = self.refused_more.saturating_add(count);
        }
    }

    /// Whether another name, or another address, is told apart. Of addresses it is the last ones: the oldest makes room.
    fn has_room(&mut self, address: bool) -> bool {
        let of_kind = |known: &&RefusedFact| is_address(&known.name) == address;
        let count = self.refused.iter().filter(of_kind).count();
        if !address {
            return count < REFUSED_MAX;
        }
        let addresses = self.refused.iter().enumerate().filter(|(_, known)| of_kind(known));
        let oldest = addresses.min_by_key(|(_, known)| known.last).map(|(index, _)| index);
        if let Some(oldest) = oldest.filter(|_| count >= ADDRESSES_MAX) {
            let gone = self.refused.remove(oldest);
            self.refused_more = self.refused_more.saturating_add(gone.count);
        }
        true
    }

    /// Adds what the door has counted. It is the door's word only: numbers, and texts that are cut.
    pub(crate) fn add(&mut self, report: Report, now: Timestamp) {
        for (name, port, tally) in report.tallies.into_iter().take(PASSED_MAX) {
            let why = tally.why.as_deref().map(cut);
            if tally.refused > 0 {
                let refusal = Refusal {
                    name: name.as_str(),
                    port: Some(port),
                    count: tally.refused,
                    why,
                    ..Refusal::default()
                };
                self.refuse(refusal, now);
            }
            self.pass(&name, port, &tally);
        }
    }

    fn pass(&mut self, name: &HostName, port: u16, tally: &Tally) {
        if *tally
            == (Tally {
                refused: tally.refused,
                why: tally.why.clone(),
                ..Tally::default()
            })
        {
            return;
        }
        let found = self
            .passed
            .iter()
            .position(|known| known.name == name.as_str() && known.port == port);
        let index = match found {
            Some(index) => index,
            None if self.passed.len() >= PASSED_MAX => return,
            None => {
                self.passed.push(PassedFact {
                    name: name.to_string(),
                    port,
                    connections: 0,
                    failed: 0,
                    failure: None,
                    sent: 0,
                    received: 0,
                });
                self.passed.len() - 1
            }
        };
        let Some(known) = self.passed.get_mut(index) else {
            return;
        };
        known.connections = known.connections.saturating_add(tally.connections);
        known.failed = known.failed.saturating_add(tally.failed);
        known.sent = known.sent.saturating_add(tally.sent);
        known.received = known.received.saturating_add(tally.received);
        if let Some(failure) = &tally.failure {
            known.failure = Some(cut(failure));
        } else if tally.connections > 0 {
            known.failure = None;
        }
    }

    /// As it is observed, what was refused last first. What the list of today allows was refused by an older one.
    pub(crate) fn fact(&self, closed: Option<String>) -> DoorFact {
        let mut refused = self.refused.clone();
        refused.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.name.cmp(&b.name)));
        DoorFact {
            passed: self.passed.clone(),
            refused,
            refused_more: self.refused_more,
            closed,
        }
    }

    /// Forgets what was refused and no longer is. Datagrams always are.
    pub(crate) fn settle(&mut self, allowed: impl Fn(&str, Option<u16>) -> bool) {
        self.refused
            .retain(|known| known.udp || !allowed(&known.name, known.port));
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<Ipv4Addr>().is_ok()
}

/// A text of the door's, without what could confuse a terminal.
fn cut(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    let mut cut = String::new();
    for c in plain {
        if cut.len() + c.len_utf8() > WHY_MAX {
            break;
        }
        cut.push(c);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, port: Option<u16>, count: u64) -> Refusal<'_> {
        Refusal {
            name,
            port,
            count,
            ..Refusal::default()
        }
    }

    #[test]
    fn datagrams_are_told_apart_and_stay_when_the_name_is_allowed() {
        let mut told = Told::default();
        for udp in [false, true, true] {
            let from = Some("web".parse().unwrap());
            let tried = refusal("a.example.com", Some(443), 1);
            told.refuse(Refusal { udp, from, ..tried }, Timestamp(1));
        }
        told.settle(|_, _| true);
        let fact = told.fact(None);
        let [datagrams] = fact.refused.as_slice() else {
            panic!("{fact:?}")
        };
        assert!(
            datagrams.udp && datagrams.count == 2 && datagrams.from.is_some(),
            "{fact:?}"
        );
    }

    #[test]
    fn refusals_are_counted_by_name_and_bounded() {
        let mut told = Told::default();
        for n in 0..REFUSED_MAX as u64 + 5 {
            let name: HostName = format!("n{n}.example.com").parse().unwrap();
            told.refuse(refusal(name.as_str(), None, 2), Timestamp(n));
            told.refuse(refusal(name.as_str(), None, 1), Timestamp(n + 1));
        }
        let fact: DoorFact = told.fact(None);
        assert_eq!(fact.refused.len(), REFUSED_MAX);
        assert_eq!(fact.refused[0].name, format!("n{}.example.com", REFUSED_MAX - 1));
        assert_eq!(fact.refused[0].count, 3);
        assert_eq!(fact.refused_more, 15);
        told.settle(|name, _| name == "n0.example.com");
        assert_eq!(told.fact(None).refused.len(), REFUSED_MAX - 1);
    }

    #[test]
    fn addresses_drive_out_addresses_and_no_name() {
        let mut told = Told::default();
        told.refuse(refusal("a.example.com", None, 1), Timestamp(0));
        for n in 0..ADDRESSES_MAX as u64 + 3 {
            told.refuse(refusal(&format!("192.0.2.{n}"), Some(443), 2), Timestamp(n + 1));
        }
        let fact = told.fact(None);
        let has = |name: &str| fact.refused.iter().any(|known| known.name == name);
        assert_eq!(fact.refused.len(), ADDRESSES_MAX + 1);
        assert!(
            has("a.example.com") && has("192.0.2.3") && !has("192.0.2.2"),
            "{fact:?}"
        );
        assert_eq!(fact.refused_more, 6);
    }

    #[test]
    fn what_the_door_says_is_added_up_and_cut() {
        let mut told = Told::default();
        let name: HostName = "a.example.com".parse().unwrap();
        let tally = Tally {
            connections: 1,
            failed: 1,
            failure: Some(format!("\u{1b}[31m{}", "x".repeat(1000))),
            sent: u64::MAX,
            received: 3,
            ..Tally::default()
        };
        for _ in 0..2 {
            let report = Report {
                environment: "e000000001".parse().unwrap(),
                tallies: vec![(name.clone(), 443, tally.clone())],
            };
            told.add(report, Timestamp(1));
        }
        let fact = told.fact(None);
        let [passed] = fact.passed.as_slice() else {
            panic!("{fact:?}");
        };
        assert_eq!((passed.connections, passed.sent, passed.received), (2, u64::MAX, 6));
        let failure = passed.failure.as_deref().unwrap();
        assert!(failure.len() <= WHY_MAX && failure.starts_with("[31m"), "{failure}");
        assert_eq!(fact.refused, []);
    }
}
