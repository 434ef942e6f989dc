//! What to run and how: the job's name and its specification. Nothing here touches the system.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::cgroup::Cgroups;
use crate::isolation::Isolation;
use crate::limits::Limits;
use crate::memory_file::MemoryFile;
use crate::plan::Program;
use crate::pty::TerminalSize;
use crate::sandbox::Sandbox;
use crate::user::RunAs;

/// The one variable that the library adds to a job's environment: its [`JobId`].
///
/// Children inherit it, so that [`sweep`](crate::sweep) knows a job's processes when their leader is gone.
pub const JOB_ID_VARIABLE: &str = "AIRUNNER_JOB_ID";

/// The chunks of output that wait for a slow reader when the specification says nothing else.
const DEFAULT_BUFFER: usize = 16;

/// A job's name: 1 to 128 letters, digits, `.`, `_` or `-`, the first a letter or digit.
///
/// It names files, hence the narrow alphabet; it should be unique on the machine, as a UUID is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

/// The text is no job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no job id: use 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or digit")]
pub struct BadJobId(String);

impl JobId {
    /// Checks `text` and makes it an id.
    pub fn new(text: impl Into<String>) -> Result<Self, BadJobId> {
        let text = text.into();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let starts = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts && text.len() <= 128 && text.bytes().all(known) {
            Ok(Self(text))
        } else {
            Err(BadJobId(text))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a job's standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// From nowhere: it is empty from the start.
    #[default]
    Empty,
    /// From [`Job::input`](crate::Job::input).
    Piped,
}

/// What to run: an argv (never a shell line), and all that the process gets. Nothing is inherited.
///
/// Defaults: no environment, no input, directory `/`, the caller's own user, no files, a buffer of 16 chunks, no
/// isolation.
#[derive(Clone)]
pub struct Spec {
    pub(crate) id: JobId,
    pub(crate) command: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) files: BTreeMap<OsString, MemoryFile>,
    pub(crate) directory: PathBuf,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) same_user: bool,
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) mark_dir: Option<PathBuf>,
    pub(crate) buffer: usize,
    pub(crate) isolation: Isolation,
    pub(crate) stdin: Stdin,
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) limits: Limits,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) sandbox: Sandbox,
    pub(crate) best_effort: bool,
}

impl Spec {
    /// A job that runs `command` without arguments.
    ///
    /// A name without `/` is looked up in the `PATH` of the job's own environment (without one, in
    /// `/usr/local/bin:/usr/bin:/bin`); a relative path counts from the job's directory.
    #[must_use]
    pub fn new(id: JobId, command: impl Into<OsString>) -> Self {
        Self {
            id,
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            files: BTreeMap::new(),
            directory: PathBuf::from("/"),
            run_as: None,
            same_user: false,
            log_dir: None,
            mark_dir: None,
            buffer: DEFAULT_BUFFER,
            isolation: Isolation::None,
            stdin: Stdin::Empty,
            terminal: None,
            limits: Limits::default(),
            cgroups: None,
            sandbox: Sandbox::default(),
            best_effort: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one variable. [`JOB_ID_VARIABLE`] is the library's own and refused by [`Job::spawn`](crate::Job).
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Gives the job a file in memory that its user alone can open, and sets the variable `name` to the file's path.
    ///
    /// The path is good for the job's first process and all that come of it, for as long as the first one runs and keeps
    /// its descriptors open. Whoever runs as the same user and can see that process can read the file as well: at
    /// [`Isolation::Sandbox`] that is the job alone. At most [`MemoryFile::MAX`] files; needs
    /// [`stage_two`](crate::stage_two).
    #[must_use]
    pub fn memory_file(mut self, name: impl Into<OsString>, file: &MemoryFile) -> Self {
        self.files.insert(name.into(), file.clone());
        self
    }

    /// Sets the working directory, an absolute path.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Runs the job under another user and group, without supplementary groups.
    ///
    /// Only root may do that; others may name themselves, and the job has their groups.
    #[must_use]
    pub fn run_as(mut self, user: RunAs) -> Self {
        self.run_as = Some(user);
        self
    }

    /// Runs the job under this process's own user, at [`Isolation::Limits`] or more.
    ///
    /// There a job whose user nobody chose is refused: the caller's user may read the caller's keys.
    #[must_use]
    pub fn same_user(mut self) -> Self {
        self.same_user = true;
        self
    }

    /// Keeps both streams byte for byte in the new files `stdout` and `stderr` of this directory.
    ///
    /// The directory is made (mode 0700) if it is missing and its parent is there. Files that exist are
    /// never overwritten: give each attempt a directory of its own.
    #[must_use]
    pub fn log_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(directory.into());
        self
    }

    /// Keeps a mark file of the running job here, from which [`sweep`](crate::sweep) finds what a killed
    /// supervisor left.
    ///
    /// The directory is made (mode 0700) if it is missing; it must belong to the caller and be writable by
    /// nobody else, for whoever can write a mark can choose what a sweep kills.
    #[must_use]
    pub fn mark_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.mark_dir = Some(directory.into());
        self
    }

    /// How many chunks (of up to [`CHUNK_LIMIT`](crate::CHUNK_LIMIT) bytes) may wait for the reader of the
    /// output before the job's pipe blocks; at least 1.
    #[must_use]
    pub fn buffer(mut self, chunks: usize) -> Self {
        self.buffer = chunks.max(1);
        self
    }

    /// Chooses where standard input comes from.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Gives the job a terminal of this size, in characters: as its controlling terminal, and as standard input, output
    /// and error, in the one stream [`Stream::Stdout`](crate::Stream). What is typed comes from
    /// [`Job::input`](crate::Job::input), whatever [`stdin`](Self::stdin) says.
    ///
    /// Needs [`stage_two`](crate::stage_two).
    #[must_use]
    pub fn pty(mut self, rows: u16, columns: u16) -> Self {
        self.terminal = Some(TerminalSize { rows, columns });
        self
    }

    /// Chooses the isolation level. More than none needs [`stage_two`](crate::stage_two),
    /// [`cgroups`](Self::cgroups), and the job's user to be chosen: [`run_as`](Self::run_as) or
    /// [`same_user`](Self::same_user).
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets what the job may use at most, at [`Isolation::Limits`] or more.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Says where the job's cgroup is made.
    #[must_use]
    pub fn cgroups(mut self, cgroups: &Cgroups) -> Self {
        self.cgroups = Some(cgroups.clone());
        self
    }

    /// Says what a job at [`Isolation::Sandbox`] sees.
    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Runs the job also without what this host cannot give, and tells of it:
    /// [`Job::left_out`](crate::Job::left_out). Otherwise that is an error.
    ///
    /// Its user, the limits of each single process and the capabilities that it loses are never left out.
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    pub(crate) fn program(&self) -> Program {
        let mut environment = self.env.clone();
        environment.insert(JOB_ID_VARIABLE.into(), self.id.as_str().into());
        Program {
            command: self.command.clone(),
            arguments: self.args.clone(),
            environment,
            directory: self.directory.clone(),
        }
    }
}

/// Arguments and values of variables stay out: they hold secrets, and this ends up in logs.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("id", &self.id)
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .field("files", &self.files.keys())
            .field("directory", &self.directory)
            .field("run_as", &self.run_as)
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_file_name() {
        for good in ["a", "0197-aa.b_c", &"x".repeat(128)] {
            assert_eq!(JobId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".hidden", "-x", "a/b", "a b", "a\0", "é", &"x".repeat(129)] {
            assert!(JobId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let spec = Spec::new(JobId::new("a").unwrap(), "curl").arg("s3cret").env("TOKEN", "s3cret");
        let shown = format!("{spec:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("s3cret"), "{shown}");
    }
}
