//! What runs for long on a machine: certificate rotation and the worker. No command line is read here, and no signal
//! handled: both are told to stop by a token.

mod rotation;
mod worker;

pub use rotation::{RotationOptions, rotate};
pub use worker::{GitOptions, JobUser, Run, WorkerOptions, run_worker};
