//! One environment, looked after by one worker: observe, plan, carry out what is ready, look again.

mod adopt;
pub(crate) mod assemble;
pub(crate) mod execute;
pub(crate) mod observe;
pub(crate) mod outcome;
mod receipt;
pub(crate) mod stops;
mod verify;
mod worker;

pub(crate) use worker::run;
