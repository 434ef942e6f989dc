//! Why a job did not start. Each variant is one thing that its reader can put right.

use std::io;
use std::path::PathBuf;

use crate::cgroup::CgroupError;
use crate::isolation::Measure;
use crate::report::Step;
use crate::user::RunAs;

/// The job did not start, and nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No such command.
    #[error("command `{command}` was not found (looked in {searched}): install it or give its full path")]
    NotFound {
        /// The command as asked for.
        command: String,
        /// Where it was looked for.
        searched: String,
    },
    /// The command is a directory.
    #[error("command {0} is a directory: name a program in it")]
    IsDirectory(PathBuf),
    /// The job's user may not execute the file.
    #[error(
        "command {0} may not be executed by the job's user: set its execute bit and open its directories"
    )]
    NotExecutable(PathBuf),
    /// The kernel does not know the file's format.
    #[error(
        "command {0} is no program for this machine: build it for this machine, or begin the script with #!"
    )]
    BadFormat(PathBuf),
    /// The script's interpreter or the binary's loader is missing.
    #[error(
        "command {0} needs an interpreter or a loader that is missing: install what its first line names"
    )]
    NoInterpreter(PathBuf),
    /// The file is being written.
    #[error("command {0} is open for writing: close it first")]
    Busy(PathBuf),
    /// The command is the empty string.
    #[error("the command is empty: name a program")]
    EmptyCommand,
    /// A string has a NUL byte, which no program can receive.
    #[error("the {0} contains a NUL byte: remove it")]
    Nul(&'static str),
    /// The name is empty or contains `=`.
    #[error("`{0}` cannot name an environment variable: a name is not empty and has no `=`")]
    BadEnvironmentName(String),
    /// The variable is set by the library itself.
    #[error("`{0}` is set by airunner itself: leave it out")]
    ReservedEnvironmentName(&'static str),
    /// The job is given more files in memory than there may be.
    #[error(
        "a job is given at most {} files in memory: put what belongs together into one",
        crate::MemoryFile::MAX
    )]
    TooManyFiles,
    /// Arguments and environment are more than the kernel takes.
    #[error("arguments and environment are too long for the kernel: pass large input in a file")]
    TooLong,
    /// The working directory is missing, relative, no directory, or closed to the job's user.
    #[error("working directory {path} cannot be used: {source}")]
    BadDirectory {
        /// The directory as asked for.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// This process may not change to that user.
    #[error("this process may not run jobs as {0}: run it as root, or leave the user out")]
    RunAsRefused(RunAs),
    /// At this isolation level somebody has to say whom the job runs as.
    #[error(
        "whom the job runs as is not chosen: name a user, or say that it is this process's own (same_user)"
    )]
    UserNotChosen,
    /// A limit is zero, or more than this machine has.
    #[error("the limit on {name} cannot be set: {why}")]
    BadLimit {
        /// Which.
        name: &'static str,
        /// What would do.
        why: String,
    },
    /// Limits were given to a job that has no cgroup.
    #[error("limits need a level of isolation that keeps them: ask for `limits` or `sandbox`")]
    LimitsWithoutIsolation,
    /// A path of the sandbox is relative or leads upwards.
    #[error("{0} cannot be part of a sandbox: give an absolute path without `..`")]
    BadSandboxPath(PathBuf),
    /// The program does not begin with [`stage_two`](crate::stage_two).
    #[error("this program cannot isolate jobs: call airunner_exec::stage_two() first in its main")]
    StageTwoMissing,
    /// The level needs a cgroup, and none can be made.
    #[error("the job needs a cgroup: say where with Spec::cgroups, or ask for best effort")]
    NoCgroups,
    /// A cgroup cannot be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The host cannot give a part of the isolation.
    #[error("this host cannot give the job {measure}: {source}; change the host, or ask for best effort")]
    Unavailable {
        /// Which.
        measure: Measure,
        /// Why.
        source: io::Error,
    },
    /// The one system call by which isolated jobs are born is refused.
    #[error(
        "clone3 is refused: {0}; run Linux 5.14 or later, and allow the call where a container's filter forbids it"
    )]
    CloneRefused(io::Error),
    /// Preparing the process failed.
    #[error("the job's process cannot {step}{}: {source}", at(.path))]
    StageTwo {
        /// Where it was.
        step: Step,
        /// The file concerned; empty if none is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process that was to become the job ended before it was ready.
    #[error("the job's process ended before its command ran ({0}): give it more memory if it was killed")]
    Ended(String),
    /// A log file cannot be made.
    #[error("log {path} cannot be made: {source}; give each attempt a new, writable directory")]
    Log {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mark cannot be kept.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The kernel refused something that is usually granted: descriptors or processes ran out.
    #[error("cannot {action}: {source}; raise this process's limits or run fewer jobs")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn at(path: &std::path::Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" at {}", path.display()) }
}

/// A mark file, or the directory of marks, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarkError {
    /// Others could forge marks.
    #[error("mark directory {0} must belong to this process's user and be writable by nobody else")]
    UnsafeDirectory(PathBuf),
    /// The id is taken.
    #[error(
        "mark {0} exists: that job runs already, or a killed supervisor left it; sweep the directory first"
    )]
    Exists(PathBuf),
    /// Reading or writing failed.
    #[error("mark {path} cannot be used: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MarkError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
