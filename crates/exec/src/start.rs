//! Starts a job's first process, or leaves nothing. All of it blocks; must not wait for the process.
//!
//! What needs neither isolation nor a terminal is started here, by the standard library; the rest by
//! [`launch`](crate::launch).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::error::SpawnError;
use crate::isolation::{Isolation, Measure};
use crate::leader::Leader;
use crate::mark::Mark;
use crate::memory_file::MemoryFile;
use crate::spec::{JOB_ID_VARIABLE, Spec, Stdin};
use crate::user::RunAs;
use crate::{launch, lookup};

/// A job that runs, with all that its supervisor needs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) leader: Leader,
    /// Readable once the leader has ended.
    pub(crate) pidfd: OwnedFd,
    pub(crate) streams: Streams,
    pub(crate) logs: Option<Logs>,
    pub(crate) left_out: Vec<Measure>,
}

/// The supervisor's ends.
#[derive(Debug)]
pub(crate) enum Streams {
    Pipes {
        /// Only where the specification asks for one.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// Of which this is the master.
    Terminal(OwnedFd),
}

/// The files of a job's output. Dropping them removes them, unless they are kept.
#[derive(Debug)]
pub(crate) struct Logs {
    files: (File, File),
    made: Made,
}

#[derive(Debug, Default)]
struct Made {
    files: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

/// Checks, then starts. [`SpawnError::Busy`] may pass: another thread's fork holds the file for a moment.
pub(crate) fn start(spec: &Spec) -> Result<Started, SpawnError> {
    check_strings(spec)?;
    check_user(spec)?;
    check_isolation(spec)?;
    if spec.isolation == Isolation::None && spec.terminal.is_none() && spec.files.is_empty() {
        start_plainly(spec)
    } else {
        launch::start(spec)
    }
}

fn start_plainly(spec: &Spec) -> Result<Started, SpawnError> {
    lookup::check_directory(&spec.directory)?;
    let named = spec.program();
    let program = lookup::program(&named, spec.run_as).map_err(|missing| missing.explain(&named))?;
    let logs = spec.log_dir.as_deref().map(Logs::create).transpose()?;
    let place = |directory: &PathBuf| Mark::place(directory, &spec.id, None);
    let mark = spec.mark_dir.as_ref().map(place).transpose()?;
    let mut child = match command(spec, &program).spawn() {
        Ok(child) => child,
        Err(error) => {
            if let Some(mark) = mark {
                mark.remove();
            }
            return Err(explain(spec, program, error));
        }
    };
    let stdin = child.stdin.take().map(OwnedFd::from);
    let pipes = (child.stdout.take(), child.stderr.take());
    let leader = Leader::spawned(child, mark)?;
    let pidfd = pidfd_open(leader.pid, PidfdFlags::NONBLOCK)
        .map_err(|error| SpawnError::System { action: "watch the process", source: error.into() })?;
    let (Some(stdout), Some(stderr)) = pipes else {
        let source = io::ErrorKind::BrokenPipe.into();
        return Err(SpawnError::System { action: "take the process's pipes", source });
    };
    let streams = Streams::Pipes { stdin, stdout: stdout.into(), stderr: stderr.into() };
    Ok(Started { leader, pidfd, streams, logs, left_out: Vec::new() })
}

fn check_strings(spec: &Spec) -> Result<(), SpawnError> {
    let nul = |text: &[u8]| text.contains(&0);
    if spec.command.is_empty() {
        return Err(SpawnError::EmptyCommand);
    }
    if spec.files.len() > MemoryFile::MAX {
        return Err(SpawnError::TooManyFiles);
    }
    if spec.env.values().any(|value| nul(value.as_bytes())) {
        return Err(SpawnError::Nul("environment"));
    }
    for name in spec.env.keys().chain(spec.files.keys()) {
        if name == JOB_ID_VARIABLE {
            return Err(SpawnError::ReservedEnvironmentName(JOB_ID_VARIABLE));
        }
        if nul(name.as_bytes()) {
            return Err(SpawnError::Nul("environment"));
        }
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(SpawnError::BadEnvironmentName(name.to_string_lossy().into()));
        }
    }
    if nul(spec.command.as_bytes()) {
        Err(SpawnError::Nul("command"))
    } else if spec.args.iter().any(|arg| nul(arg.as_bytes())) {
        Err(SpawnError::Nul("arguments"))
    } else if nul(spec.directory.as_os_str().as_bytes()) {
        Err(SpawnError::Nul("working directory"))
    } else if spec.directory.is_absolute() {
        Ok(())
    } else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "give an absolute path");
        Err(SpawnError::BadDirectory { path: spec.directory.clone(), source })
    }
}

fn check_isolation(spec: &Spec) -> Result<(), SpawnError> {
    if spec.isolation == Isolation::None {
        return if spec.limits.is_none() { Ok(()) } else { Err(SpawnError::LimitsWithoutIsolation) };
    }
    if spec.run_as.is_none() && !spec.same_user {
        return Err(SpawnError::UserNotChosen);
    }
    spec.limits.check()?;
    spec.sandbox.check()
}

/// The standard library drops supplementary groups only for root. A process that may change its user by a mere
/// capability would give them to the job.
fn check_user(spec: &Spec) -> Result<(), SpawnError> {
    use rustix::process::{getegid, geteuid, getuid};
    let own = RunAs { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    match spec.run_as {
        Some(user) if user != own && !getuid().is_root() => Err(SpawnError::RunAsRefused(user)),
        _ => Ok(()),
    }
}

fn command(spec: &Spec, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg0(&spec.command)
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env)
        .env(JOB_ID_VARIABLE, spec.id.as_str())
        .current_dir(&spec.directory)
        .stdin(match spec.stdin {
            Stdin::Empty => Stdio::null(),
            Stdin::Piped => Stdio::piped(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = spec.run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command.process_group(0);
    command
}

/// The child reports only a number, so what it was about is found out afterwards.
fn explain(spec: &Spec, program: PathBuf, source: io::Error) -> SpawnError {
    let errno = Errno::from_io_error(&source);
    let directory_closed = spec.run_as.is_some_and(|user| !lookup::enterable(&spec.directory, user));
    match errno {
        Some(Errno::PERM) if let Some(user) = spec.run_as => SpawnError::RunAsRefused(user),
        Some(Errno::ACCESS) if directory_closed => {
            SpawnError::BadDirectory { path: spec.directory.clone(), source }
        }
        _ => explain_execution(program, source),
    }
}

/// What execve(2) means by its error.
pub(crate) fn explain_execution(program: PathBuf, source: io::Error) -> SpawnError {
    match Errno::from_io_error(&source) {
        Some(Errno::ACCESS | Errno::PERM) => SpawnError::NotExecutable(program),
        Some(Errno::NOEXEC) => SpawnError::BadFormat(program),
        Some(Errno::TXTBSY) => SpawnError::Busy(program),
        Some(Errno::TOOBIG) => SpawnError::TooLong,
        // Program and directory were there a moment ago: what is missing is what the program needs.
        Some(Errno::NOENT) => SpawnError::NoInterpreter(program),
        _ => SpawnError::System { action: "start the process", source },
    }
}

impl Logs {
    pub(crate) fn create(directory: &Path) -> Result<Self, SpawnError> {
        let refuse = |path: &Path| {
            let path = path.to_owned();
            move |source| SpawnError::Log { path, source }
        };
        let mut made = Made::default();
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => made.directory = Some(directory.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refuse(directory)(error)),
        }
        let mut create = |name| -> Result<File, SpawnError> {
            let path = directory.join(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = file.map_err(refuse(&path))?;
            made.files.push(path);
            Ok(file)
        };
        let files = (create("stdout")?, create("stderr")?);
        Ok(Self { files, made })
    }

    /// Lets the files stay, and hands over standard output's and standard error's.
    pub(crate) fn keep(mut self) -> (File, File) {
        self.made.files.clear();
        self.made.directory = None;
        self.files
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.files {
            let _ = fs::remove_file(path);
        }
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}
