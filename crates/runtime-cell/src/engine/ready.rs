//! How to tell that an engine serves clients. A port that accepts connections is not enough: PostgreSQL accepts them while it
//! recovers and Redis while it loads. So the probe speaks the first words of the engine's protocol and judges the answer.

use std::path::PathBuf;

/// The user of Redis that may say PING and nothing else, without a password. Before it has signed in nobody learns from a server with
/// a password whether it still loads.
pub(super) const REDIS_USER: &str = "maquette-ready";

/// Where to connect, as seen in the engine's own namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port on the loopback address or the service's own.
    Tcp(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Which engine's language is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL, as the administrator.
    Postgres,
    /// Redis.
    Redis,
    /// AMQP 0-9-1.
    Amqp,
}

/// A probe: connect to the address, send, read until [`Probe::judge`] decides. A connection that is refused means not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where.
    pub address: Address,
    /// How.
    pub protocol: Protocol,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The engine serves clients.
    Ready,
    /// It is there and says that it does not yet.
    NotYet,
    /// More bytes are needed to tell.
    More,
}

impl Probe {
    /// What to send.
    #[must_use]
    pub fn greeting(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Postgres => postgres_startup(),
            Protocol::Redis => format!("AUTH {REDIS_USER} -\r\nPING\r\n").into_bytes(),
            Protocol::Amqp => b"AMQP\x00\x00\x09\x01".to_vec(),
        }
    }

    /// What to send before closing, so that the engine logs no broken connection.
    #[must_use]
    pub const fn farewell(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::Postgres => b"X\x00\x00\x00\x04",
            Protocol::Redis | Protocol::Amqp => b"",
        }
    }

    /// Judges what has been read so far.
    #[must_use]
    pub fn judge(&self, answer: &[u8]) -> Verdict {
        let Some(first) = answer.first() else {
            return Verdict::More;
        };
        match (self.protocol, first) {
            // An authentication request comes from a server that has ended its recovery.
            (Protocol::Postgres, b'R') => Verdict::Ready,
            (Protocol::Redis, _) => redis(answer),
            // A method frame: Connection.Start.
            (Protocol::Amqp, 1) => Verdict::Ready,
            // An error (PostgreSQL: "the database system is starting up") or another protocol.
            (Protocol::Postgres | Protocol::Amqp, _) => Verdict::NotYet,
        }
    }
}

/// Judges the second of two lines. The first one is an error where the stack has users of its own or Redis is older than ACLs;
/// then a server with a password says that it wants one, which is all that it says, loading or not.
fn redis(answer: &[u8]) -> Verdict {
    let lines = answer.strip_suffix(b"\r\n").unwrap_or_default();
    let Some(second) = lines.windows(2).position(|pair| pair == b"\r\n") else {
        return Verdict::More;
    };
    let second = &lines[second + 2..];
    if second.starts_with(b"+PONG") || second.starts_with(b"-NOAUTH") {
        Verdict::Ready
    } else {
        Verdict::NotYet
    }
}

fn postgres_startup() -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in [
        "user",
        super::ADMINISTRATOR,
        "database",
        "template1",
        "application_name",
        "maquette-ready",
    ] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    // The length counts itself; the body is far shorter than 2^32.
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().to_vec(), body].concat()
}
