//! Wire types of the REST API, shared by server and CLI.
//!
//! The OpenAPI document ([`openapi`]) is generated from them. What must stay true:
//!
//! - A type here is what a program sees; fields are added, never renamed or removed within `v1`.
//! - The words are those of the model; what people read besides them (`status`, `text`) may change.
//! - Times are milliseconds since the Unix epoch.
//! - Secret values have no field here, but for the sign-in link that its maker asked for.

mod door;
mod environment;
mod frame;
mod golden;
mod image;
mod job;
mod logs;
mod mail;
mod openapi;
mod problem;
mod progress;
mod receipt;
mod request;
mod secret;
mod spare;

pub use door::{DoorView, PassedView, RefusedView};
pub use environment::{
    AddressView, CommitView, EnvironmentList, EnvironmentView, FailureView, OriginView, ProjectList, ProjectView,
    PullRequestView, ServiceStateView, ServiceView,
};
pub use frame::{ExecEnd, ExecRequest, FRAME_MAX, Frame, FrameError, PROTOCOL};
pub use golden::{GoldenList, GoldenView};
pub use image::{ImageList, ImageView};
pub use job::{JobList, JobRunView, JobView};
pub use logs::{LogLineView, LogQuery, LogStreamView};
pub use mail::{AttachmentView, MailContentView, MailList, MailMessageView, MailQuery, MailView};
pub use openapi::openapi;
pub use problem::{PROBLEM_JSON, ProblemCode, ProblemDetails};
pub use progress::{EventList, EventView, GenerationView, StepStateView, StepView, StepsView, WhyView};
pub use receipt::{LedgerEntryView, LedgerView};
pub use request::{ApproveRequest, CreateRequest, DeployRequest, LinkRequest, SignInLink, UpdateRequest};
pub use secret::{SecretList, SecretQuery, SecretUserView, SecretView};
pub use spare::{ProjectSparesView, SpareList, SpareView};

/// The path that every operation of this version begins with.
pub const BASE_PATH: &str = "/api/v1";
