//! The handlers, one file per group. Each reads its input, asks a view or notes an intent, and answers.

pub(crate) mod environments;
pub(crate) mod exec;
pub(crate) mod extract;
pub(crate) mod goldens;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod links;
pub(crate) mod logs;
pub(crate) mod mail;
pub(crate) mod projects;
pub(crate) mod secrets;
pub(crate) mod spares;
pub(crate) mod webhooks;
