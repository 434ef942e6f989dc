//! What a call fails with: kind, label, message and the rest of `google.rpc`'s details, from wherever the failure came.

use std::{collections::HashMap, error::Error as StdError, fmt, sync::Arc, time::Duration};

use airunner_core::{Kind, Label};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The domain of every `google.rpc.ErrorInfo` that airunner sends.
const DOMAIN: &str = "airunner";

/// A failure: the server's own words where it answered, ours where it could not be asked.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    label: String,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `label` whose `message` says what to do.
    pub fn new(label: Label, message: impl Into<String>) -> Self {
        airunner_core::Error::new(label, message).into()
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable label. A newer server may send one that this client does not know.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Whether the label is this one.
    pub fn is(&self, label: Label) -> bool {
        self.0.label == label.as_str()
    }

    /// The sentence that says what to do.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The field of the request that is at fault.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// When a retry may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Under which the server's log has the request.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Whether the server refuses who calls: no retry helps.
    pub fn is_denial(&self) -> bool {
        matches!(self.0.kind, Kind::Unauthenticated | Kind::PermissionDenied)
    }

    /// Whether the same call may succeed later without anyone having done anything about it.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::Unavailable | Kind::Deadline | Kind::Limit | Kind::Conflict | Kind::Internal
        )
    }

    /// The failure as a status, so that it passes through generated code unharmed.
    pub(crate) fn to_status(&self) -> Status {
        let mut metadata = HashMap::new();
        if let Some(field) = &self.0.field {
            metadata.insert("field".to_owned(), field.clone());
        }
        if let Some(id) = &self.0.request_id {
            metadata.insert("request_id".to_owned(), id.clone());
        }
        let mut details = ErrorDetails::with_error_info(&self.0.label, DOMAIN, metadata);
        if self.0.retry_after.is_some() {
            details.set_retry_info(self.0.retry_after);
        }
        let mut status = Status::with_error_details(code(self.0.kind), &self.0.message, details);
        if let Some(cause) = &self.0.cause {
            status.set_source(Arc::clone(cause) as _);
        }
        status
    }

    /// Keeps what really happened, for logs.
    #[must_use]
    pub(crate) fn with_cause(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }
}

impl From<airunner_core::Error> for Error {
    fn from(error: airunner_core::Error) -> Self {
        Self(Box::new(Inner {
            kind: error.kind(),
            label: error.label().as_str().to_owned(),
            message: error.message().to_owned(),
            field: error.field().map(str::to_owned),
            retry_after: error.retry_after(),
            request_id: None,
            cause: Some(Arc::new(error)),
        }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let (kind, label) = match info {
            Some(info) => {
                let known = Label::of(&info.reason);
                (known.map_or_else(|| kind(status.code()), Label::kind), info.reason.clone())
            }
            None => (kind(status.code()), label(status.code()).to_owned()),
        };
        let metadata = |key: &str| {
            info.and_then(|info| info.metadata.get(key)).filter(|value| !value.is_empty()).cloned()
        };
        Self(Box::new(Inner {
            kind,
            label,
            message: match status.message() {
                "" => format!("the server failed the call without a word ({})", status.code()),
                message => message.to_owned(),
            },
            field: metadata("field"),
            retry_after,
            request_id: metadata("request_id"),
            cause: Some(Arc::new(status)),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.label, self.0.message)?;
        if let Some(field) = &self.0.field {
            write!(f, " (field {field})")?;
        }
        if let Some(id) = &self.0.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// The gRPC code of a kind, as the server has it.
const fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Conflict => Code::Aborted,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Limit | Kind::TooLarge => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    }
}

/// The kind of a status that says no more than its code: from a proxy, or from gRPC itself.
const fn kind(code: Code) -> Kind {
    match code {
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::PermissionDenied => Kind::PermissionDenied,
        Code::NotFound | Code::Unimplemented => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::Aborted => Kind::Conflict,
        Code::FailedPrecondition => Kind::FailedPrecondition,
        // gRPC's own use of it is a message that is too large for the receiver.
        Code::OutOfRange => Kind::TooLarge,
        Code::ResourceExhausted => Kind::Limit,
        Code::Unavailable | Code::Cancelled => Kind::Unavailable,
        Code::DeadlineExceeded => Kind::Deadline,
        Code::Ok | Code::Unknown | Code::DataLoss | Code::Internal => Kind::Internal,
    }
}

/// The label for it. Not all are among ours: a refusal that we did not write says nothing more.
const fn label(code: Code) -> &'static str {
    match code {
        Code::Unimplemented => Label::UnknownMethod.as_str(),
        Code::FailedPrecondition => "failed-precondition",
        other => match kind(other) {
            Kind::InvalidArgument => Label::InvalidArgument.as_str(),
            Kind::Unauthenticated => Label::NoCertificate.as_str(),
            Kind::PermissionDenied => Label::PermissionDenied.as_str(),
            Kind::NotFound => Label::NotFound.as_str(),
            Kind::AlreadyExists => Label::AlreadyExists.as_str(),
            Kind::Conflict => Label::VersionConflict.as_str(),
            Kind::Limit => Label::LimitReached.as_str(),
            Kind::TooLarge => Label::TooLarge.as_str(),
            Kind::Unavailable => Label::Unreachable.as_str(),
            Kind::Deadline => Label::Deadline.as_str(),
            Kind::FailedPrecondition | Kind::Internal => Label::Internal.as_str(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire_with_all_that_it_says() {
        for label in Label::ALL {
            let mut error = Error::new(*label, "do this");
            error.0.field = Some("jobs.command".to_owned());
            error.0.retry_after = Some(Duration::from_secs(3));
            error.0.request_id = Some("r-1".to_owned());
            let read = Error::from(error.to_status());
            assert_eq!((read.kind(), read.label()), (label.kind(), label.as_str()));
            assert!(read.is(*label));
            assert_eq!((read.message(), read.field()), ("do this", Some("jobs.command")));
            assert_eq!((read.retry_after(), read.request_id()), (Some(Duration::from_secs(3)), Some("r-1")));
        }
    }

    #[test]
    fn a_label_of_a_newer_server_keeps_its_kind() {
        let details = ErrorDetails::with_error_info("brand-new", DOMAIN, HashMap::new());
        let error = Error::from(Status::with_error_details(Code::PermissionDenied, "no", details));
        assert_eq!((error.kind(), error.label()), (Kind::PermissionDenied, "brand-new"));
        assert!(error.is_denial());
    }

    #[test]
    fn a_bare_status_gets_the_label_of_its_code() {
        for (code, label) in [
            (Code::Unavailable, Label::Unreachable),
            (Code::Unimplemented, Label::UnknownMethod),
            (Code::Unauthenticated, Label::NoCertificate),
            (Code::DeadlineExceeded, Label::Deadline),
            (Code::Unknown, Label::Internal),
        ] {
            assert!(Error::from(Status::new(code, "x")).is(label), "{code}");
        }
        assert_eq!(Error::from(Status::new(Code::FailedPrecondition, "x")).label(), "failed-precondition");
        assert!(!Error::from(Status::new(Code::Internal, "")).message().is_empty());
    }

    #[test]
    fn what_another_domain_says_is_not_taken_for_ours() {
        let details = ErrorDetails::with_error_info("permission-denied", "proxy.example", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "no", details));
        assert!(error.is(Label::Unreachable));
    }
}
