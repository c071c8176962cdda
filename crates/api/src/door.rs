//! What environments reach outside of themselves, and what they are not let out to.

use model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an environment did at its door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoorView {
    /// What was let out, by name and port.
    pub passed: Vec<PassedView>,
    /// What was not, the last one first.
    pub refused: Vec<RefusedView>,
    /// How often more was refused than is listed.
    pub refused_more: u64,
    /// Why nothing can get out at present although something is allowed.
    pub closed: Option<String>,
}

/// Connections to one port of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassedView {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// How many were made.
    pub connections: u64,
    /// How many could not be made.
    pub failed: u64,
    /// Why the last one could not; absent if it could.
    pub failure: Option<String>,
    /// Bytes that the environment sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
}

/// Something that was asked for and is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedView {
    /// The name.
    pub name: String,
    /// The port, where the name is allowed and the port is not.
    pub port: Option<u16>,
    /// How often.
    pub count: u64,
    /// When it was asked for last.
    #[schema(value_type = u64)]
    pub last: Timestamp,
    /// Why, where it is not the list of the policy alone.
    pub why: Option<String>,
    /// Whether it was datagrams (UDP), which nothing lets out, and no connection.
    #[serde(default)]
    pub udp: bool,
    /// The service that asked last, where that is known and it was no job.
    #[serde(default)]
    pub from: Option<String>,
    /// The line of `policy` in `maquette.yaml` on the policy branch that would allow it.
    pub allow: Option<String>,
}
