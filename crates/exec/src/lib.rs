//! Runs a process in a group of its own, and leaves nothing of it behind.
//!
//! Knows argv, pipes, process groups and `/proc`; must not know of the server, its queue or its API, so
//! that any program can run a command with it. Linux only. See the README for a tour and the limits.

mod error;
mod group;
mod harden;
mod input;
mod job;
mod lookup;
mod mark;
mod output;
mod procfs;
mod spec;
mod start;
mod sweep;
mod user;

pub use error::{MarkError, SpawnError};
pub use harden::{HardenError, harden_self, inheritable_descriptors};
pub use input::{Input, InputError};
pub use job::{Completion, Exit, Job, STOP_GRACE, Signal, Status, Usage};
pub use output::{CHUNK_LIMIT, Chunk, DRAIN_TIME, Drained, Output, OutputError, Stream};
pub use spec::{BadJobId, Isolation, JOB_ID_VARIABLE, JobId, Spec, Stdin};
pub use sweep::{Swept, sweep};
pub use user::{RunAs, UserError, resolve_user};
