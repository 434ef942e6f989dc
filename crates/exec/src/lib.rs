//! Runs a process, isolated as far as is asked for, and leaves nothing of it behind.
//!
//! Knows argv, pipes, terminals, process groups, cgroups, namespaces and `/proc`; must not know of the server, its
//! queue or its API, so that any program can run a command with it. Linux only. See the README for a tour and the
//! limits.

mod cgroup;
mod clone;
mod error;
mod group;
mod harden;
mod input;
mod isolation;
mod job;
mod launch;
mod leader;
mod limits;
mod log_reader;
mod lookup;
mod mark;
mod memory_file;
mod output;
mod plan;
mod procfs;
mod pty;
mod report;
mod sandbox;
mod spec;
mod stage_two;
mod start;
mod sweep;
mod user;

pub use cgroup::{CgroupError, Cgroups};
pub use error::{MarkError, SpawnError};
pub use harden::{HardenError, harden_self, inheritable_descriptors};
pub use input::{Input, InputError};
pub use isolation::{Isolation, Measure};
pub use job::{Completion, Exit, Job, NoTerminal, STOP_GRACE, Signal, Status, Usage};
pub use limits::{IoLimit, Limits};
pub use log_reader::{LogError, LogReader, Piece, Position};
pub use memory_file::MemoryFile;
pub use output::{CHUNK_LIMIT, Chunk, DRAIN_TIME, Drained, Output, OutputError, Stream};
pub use report::Step;
pub use sandbox::{Network, Root, Sandbox};
pub use spec::{BadJobId, JOB_ID_VARIABLE, JobId, Spec, Stdin};
pub use stage_two::stage_two;
pub use sweep::{Swept, sweep};
pub use user::{RunAs, UserError, resolve_user};

/// Its program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
