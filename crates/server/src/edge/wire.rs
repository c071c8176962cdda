//! What both ends say to each other.

use gateway::{Route, RouteKey, Target, TokenHash, Visitor};
use model::EnvironmentId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest answer that the gateway reads, in bytes.
pub(super) const ANSWER_MAX: usize = 16 << 20;

/// A hash as hexadecimal digits.
#[derive(Clone, Copy)]
pub(super) struct Hash(pub(super) [u8; 32]);

impl From<&TokenHash> for Hash {
    fn from(hash: &TokenHash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Asks for the routes, once they differ from those that the gateway has.
#[derive(Serialize, Deserialize)]
pub(super) struct RoutesQuery {
    /// What the gateway has; `None` is nothing.
    pub(super) version: Option<String>,
}

/// All routes. `routes` is missing when nothing has changed for a while.
#[derive(Serialize, Deserialize)]
pub(super) struct RoutesAnswer {
    pub(super) version: String,
    pub(super) routes: Option<Vec<(RouteKey, Route)>>,
    /// Where hosts will lead once what is being started is live; comes with the routes.
    #[serde(default)]
    pub(super) awaited: Vec<(RouteKey, Target)>,
    /// The hash of the word by which the control plane is known when it asks whether a service answers; comes with the routes.
    #[serde(default)]
    pub(super) control_plane: Option<Hash>,
}

/// Turns a link into a session, whose secret the gateway has made.
#[derive(Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) link: Hash,
    pub(super) host: String,
    pub(super) session: Hash,
}

/// A session that has begun.
#[derive(Serialize, Deserialize)]
pub(super) struct Began {
    pub(super) visitor: Visitor,
    pub(super) lifetime_ms: u64,
}

/// Asks whose session or token this is.
#[derive(Serialize, Deserialize)]
pub(super) struct Whose {
    pub(super) hash: Hash,
    /// The host; none for an automation token.
    pub(super) host: Option<String>,
}

/// A wish to wake an environment.
#[derive(Serialize, Deserialize)]
pub(super) struct WakeWish {
    pub(super) environment: EnvironmentId,
}

/// What goes on in an environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Use {
    pub(super) environment: EnvironmentId,
    pub(super) requests: usize,
    pub(super) tunnels: usize,
    pub(super) quiet_ms: u64,
}
