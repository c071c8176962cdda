//! Mail that an environment has caught.

use model::{ServiceName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which catcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MailQuery {
    /// The service that catches it; may be left out where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub service: Option<ServiceName>,
}

/// One message of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailView {
    /// Its number.
    pub id: u64,
    /// When it came.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Whom it is from, as the client said.
    pub from: String,
    /// Whom it is for, as the client said.
    pub to: Vec<String>,
    /// Its subject.
    pub subject: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What an environment has caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailList {
    /// The newest first.
    pub messages: Vec<MailView>,
}

/// Something attached to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentView {
    /// Its number, from 0.
    pub number: u64,
    /// What it is called: any text.
    pub name: String,
    /// What it says that it is.
    pub kind: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailContentView {
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// Its text.
    pub text: Option<String>,
    /// Whether it has HTML, which the page shows.
    pub html: bool,
    /// What is attached to it.
    pub attachments: Vec<AttachmentView>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailMessageView {
    /// What a list shows of it.
    pub message: MailView,
    /// What it says.
    pub content: MailContentView,
}
