//! How a command fails: what is said, what to do next, and the exit code. It is printed by `report`.

use airunner_client::Error;
use airunner_core::{Kind, Label};

/// What a fallible function of this crate returns.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(Error),
    /// It was asked for in a way that can't be.
    Usage(String),
    /// Someone was asked, and said no.
    Declined,
    /// Someone pressed Ctrl-C.
    Interrupted,
    /// SIGTERM came.
    Terminated,
    /// Someone left the job's terminal.
    Detached,
    /// Whoever reads the output has gone: there is nobody to tell.
    OutputClosed,
    /// It failed, and the exit code is not the kind's.
    WithCode(u8, Box<Self>),
    /// It failed, since there is nothing of that name; these are there.
    Near(Vec<String>, Box<Self>),
}

impl Failure {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(error) if error.is(Label::UnknownMethod) => 1,
            Self::Failed(error) => match error.kind() {
                Kind::Unauthenticated => 3,
                Kind::PermissionDenied => 4,
                Kind::NotFound => 5,
                _ => 1,
            },
            Self::Usage(_) => 2,
            Self::Declined => 1,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Detached => 255,
            Self::OutputClosed => 0,
            Self::WithCode(code, _) => *code,
            Self::Near(_, failure) => failure.exit_code(),
        }
    }

    /// The failure of writing what was to be printed.
    pub(crate) fn of_output(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        airunner_core::Error::new(Label::File, format!("the output can't be written: {error}"))
            .with_cause(error)
            .into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<airunner_core::Error> for Failure {
    fn from(error: airunner_core::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(status.into())
    }
}

/// What to do next, where the sentence of the failure can't know it: this is the command line's own advice.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    let label = Label::of(error.label())?;
    Some(match label {
        Label::Unreachable => {
            "airunner-server starts one here; --server, or the profile, says where another is"
        }
        Label::NoCertificate => {
            "the server got no certificate: see --help for the connection options, or enrol with `airunner-cli enroll`"
        }
        Label::UnknownCertificate | Label::IdentityMismatch | Label::IssuerDistrusted => {
            "this identity is not one of this environment: look at --server and the profile, or enrol anew"
        }
        Label::CertificateExpired | Label::CertificateRevoked | Label::CertificateRetired => {
            "ask an admin for an enrolment token (`airunner-cli enrollment create`) and run `airunner-cli enroll`"
        }
        Label::PrincipalSuspended => "an admin can lift it: airunner-cli principal activate ID",
        Label::TokenExpired | Label::TokenUsed | Label::TokenVoid => {
            "ask an admin for a new one: airunner-cli enrollment create ID"
        }
        Label::PermissionDenied => {
            "`airunner-cli whoami` lists what you may do; an admin can change it: airunner-cli principal roles ID --role ROLE"
        }
        Label::TooManyCertificates => {
            "revoke one that is not in use (`airunner-cli certificate list --principal ID --active`), or raise \
             --max-certificates with `airunner-cli principal update`"
        }
        Label::VersionConflict => "read it again, and repeat the change if it still is what you want",
        Label::NoWorker => "start one: airunner-cli worker --queue QUEUE",
        Label::NoIssuer => "run `airunner-cli bootstrap` first",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_that_scripts_rely_on() {
        for (label, code) in [
            (Label::CertificateRevoked, 3),
            (Label::TokenUsed, 3),
            (Label::ServerUntrusted, 3),
            (Label::NotOwner, 4),
            (Label::NotFound, 5),
            (Label::UnknownMethod, 1),
            (Label::Unreachable, 1),
            (Label::InvalidArgument, 1),
        ] {
            assert_eq!(Failure::from(Error::new(label, "x")).exit_code(), code, "{}", label.as_str());
        }
        let own = Failure::WithCode(255, Box::new(Error::new(Label::NotFound, "x").into()));
        assert_eq!(own.exit_code(), 255);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
    }
}
