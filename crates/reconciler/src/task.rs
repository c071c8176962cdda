//! Background tasks. Each has a file of its own, takes no input and may be ended at any point.

pub(crate) mod access;
pub(crate) mod announce;
pub(crate) mod collect;
pub(crate) mod environments;
pub(crate) mod forges;
pub(crate) mod forget;
pub(crate) mod goldens;
pub(crate) mod images;
pub(crate) mod recover;
pub(crate) mod runs;
pub(crate) mod runtime_changes;
pub(crate) mod spares;
pub(crate) mod sweep;
