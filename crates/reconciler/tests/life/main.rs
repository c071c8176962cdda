//! The life of pull requests, with a real Git repository and forge, a real store and the simulated runtime: what a reviewer
//! would see, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod approvals;
mod baseline;
mod bench;
mod builds;
mod by_hand;
mod cases;
mod egress;
mod endpoints;
mod front;
mod gate;
mod goldens;
mod images;
mod interrupted;
mod keeping;
mod lost_store;
mod places;
mod policy;
mod refused;
mod registries;
mod secrets;
mod sources;
mod spares;
mod stops;
mod triggers;
mod troubles;
