//! What stage two tells its supervisor, over a pipe that the execution of the command closes. Both halves of it
//! are here.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::isolation::Measure;

/// Where stage two was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Taking over from the supervisor.
    HandOver,
    /// Starting the process that prepares the command, beside the init of its sandbox.
    Init,
    /// A session of its own, and its terminal.
    Session,
    /// Mapping its ids into a user namespace.
    IdMap,
    /// Giving the sandbox its files.
    Mounts,
    /// Naming the sandbox's host.
    HostName,
    /// Bringing up the loopback.
    Loopback,
    /// Setting the limits of its processes.
    ProcessLimits,
    /// Becoming the job's user.
    User,
    /// A user namespace of its own.
    UserNamespace,
    /// Dropping the capabilities.
    Capabilities,
    /// Filtering system calls.
    Seccomp,
    /// Entering the working directory.
    Directory,
    /// Finding the command: nothing has that name.
    Find,
    /// Finding the command: it is a directory.
    FindDirectory,
    /// Finding the command: it may not be executed.
    FindClosed,
    /// Executing the command.
    Execute,
}

impl Step {
    const ALL: [Self; 17] = [
        Self::HandOver,
        Self::Init,
        Self::Session,
        Self::IdMap,
        Self::Mounts,
        Self::HostName,
        Self::Loopback,
        Self::ProcessLimits,
        Self::User,
        Self::UserNamespace,
        Self::Capabilities,
        Self::Seccomp,
        Self::Directory,
        Self::Find,
        Self::FindDirectory,
        Self::FindClosed,
        Self::Execute,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandOver => "take over from the supervisor",
            Self::Init => "start beside the sandbox's init",
            Self::Session => "make a session",
            Self::IdMap => "map its user into the user namespace",
            Self::Mounts => "mount",
            Self::HostName => "name the host",
            Self::Loopback => "bring up the loopback",
            Self::ProcessLimits => "set the limits of its processes",
            Self::User => "become the job's user",
            Self::UserNamespace => "make a user namespace",
            Self::Capabilities => "drop the capabilities",
            Self::Seccomp => "filter system calls",
            Self::Directory => "enter the working directory",
            Self::Find | Self::FindDirectory | Self::FindClosed => "find the command",
            Self::Execute => "execute the command",
        })
    }
}

/// A step that failed, and at which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    /// Empty where no file was concerned.
    pub(crate) path: PathBuf,
}

impl Failure {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        Self::at(step, error, "")
    }

    pub(crate) fn at(step: Step, error: impl Into<io::Error>, path: impl AsRef<Path>) -> Self {
        // What did not come from a system call was told wrong things.
        let errno = Errno::from_io_error(&error.into()).unwrap_or(Errno::INVAL);
        Self { step, errno, path: path.as_ref().to_owned() }
    }
}

/// Everything that was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) left_out: Vec<Measure>,
    pub(crate) failure: Option<Failure>,
    /// All was done, and only the execution was left. Without it, and without a failure, the process was killed.
    pub(crate) ready: bool,
}

/// The side of stage two. Its errors are those of a supervisor that is gone, and nobody hears them then.
#[derive(Debug)]
pub(crate) struct Reporter<W>(pub(crate) W);

const LEFT_OUT: u8 = 1;
const READY: u8 = 2;
const FAILURE: u8 = 3;
/// A path that is longer is cut.
const LONGEST_PATH: usize = 1024;

impl<W: Write> Reporter<W> {
    pub(crate) fn left_out(&mut self, measure: Measure) {
        let _ = self.0.write_all(&[LEFT_OUT, measure as u8]);
    }

    pub(crate) fn ready(&mut self) {
        let _ = self.0.write_all(&[READY]);
    }

    /// The last word: a path follows, to the end.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let mut message = vec![FAILURE, failure.step as u8];
        message.extend(failure.errno.raw_os_error().to_le_bytes());
        let path = failure.path.as_os_str().as_bytes();
        message.extend(&path[..path.len().min(LONGEST_PATH)]);
        let _ = self.0.write_all(&message);
    }
}

impl Report {
    /// `None` if it makes no sense.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut report = Self::default();
        loop {
            match bytes {
                [] => return Some(report),
                [LEFT_OUT, measure, rest @ ..] => {
                    report.left_out.push(Measure::from_number(*measure)?);
                    bytes = rest;
                }
                [READY, rest @ ..] => {
                    report.ready = true;
                    bytes = rest;
                }
                [FAILURE, step, a, b, c, d, path @ ..] => {
                    let step = Step::ALL.into_iter().find(|known| *known as u8 == *step)?;
                    let errno = Errno::from_raw_os_error(i32::from_le_bytes([*a, *b, *c, *d]));
                    let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
                    report.failure = Some(Failure { step, errno, path });
                    return Some(report);
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let mut told = Reporter(Vec::new());
        told.left_out(Measure::Seccomp);
        told.left_out(Measure::Cgroup);
        told.ready();
        for step in Step::ALL {
            let failure = Failure::at(step, Errno::NOEXEC, "/bin/x");
            let mut told = Reporter(told.0.clone());
            told.failure(&failure);
            let heard = Report::parse(&told.0).unwrap();
            assert_eq!(heard.failure.unwrap(), failure);
            assert!(heard.ready && heard.left_out == [Measure::Seccomp, Measure::Cgroup]);
        }
        assert_eq!(Report::parse(b"").unwrap(), Report::default());
        assert!(Report::parse(b"\xff").is_none() && Report::parse(&[FAILURE, 0, 1]).is_none());
    }
}
