//! How a command can fail, and with which exit code. How that is printed is `report.rs`.

use std::{fmt, io};

use airunner_client::Error;
use airunner_core::{Kind, Label};

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The server does not know who calls.
const NOT_AUTHENTICATED: u8 = 3;
/// Who calls may not.
const DENIED: u8 = 4;
/// There is no such thing.
const NOT_FOUND: u8 = 5;
/// As if ended by SIGINT.
const INTERRUPTED: u8 = 130;
/// As if ended by SIGPIPE.
const CLOSED_PIPE: u8 = 141;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the library under us, says no.
    Error(Error),
    /// The command line asks for something that makes no sense.
    Usage(String),
    /// Ctrl-C, with what there is to say on leaving.
    Interrupted(String),
    /// Whoever read our output is gone: nothing is left to be said to them.
    ClosedPipe,
}

impl Failure {
    /// An error of our own.
    pub(crate) fn new(label: Label, message: impl Into<String>) -> Self {
        Self::Error(Error::new(label, message))
    }

    /// What the process exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) => match error.kind() {
                Kind::Unauthenticated => NOT_AUTHENTICATED,
                Kind::PermissionDenied => DENIED,
                Kind::NotFound => NOT_FOUND,
                _ => FAILED,
            },
            Self::Usage(_) => USAGE,
            Self::Interrupted(_) => INTERRUPTED,
            Self::ClosedPipe => CLOSED_PIPE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => f.write_str(error.message()),
            Self::Usage(message) | Self::Interrupted(message) => f.write_str(message),
            Self::ClosedPipe => f.write_str("the output's reader is gone"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<airunner_core::Error> for Failure {
    fn from(error: airunner_core::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Error(status.into())
    }
}

/// Of writing output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::new(Label::File, format!("the output can't be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        for (label, code) in [
            (Label::NoCertificate, 3),
            (Label::CertificateRevoked, 3),
            (Label::PrincipalSuspended, 3),
            (Label::PermissionDenied, 4),
            (Label::NotOwner, 4),
            (Label::NotFound, 5),
            (Label::InvalidArgument, 1),
            (Label::Unreachable, 1),
            (Label::AlreadyExists, 1),
        ] {
            assert_eq!(Failure::new(label, "").exit_code(), code, "{}", label.as_str());
        }
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_code(), 141);
    }
}
