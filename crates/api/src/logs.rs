//! Lines of logs, as a stream of JSON documents, one a line.

use model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStreamView {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a container printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLineView {
    /// When.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// The service or job.
    pub name: String,
    /// Where.
    pub stream: LogStreamView,
    /// The line without its end, at most 16 KiB.
    pub text: String,
}

/// Which lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The service or job; all services unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most so many of the newest lines of each; all that were kept unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// Whether the answer goes on with new lines.
    #[serde(default)]
    pub follow: bool,
}
