//! The one error type: a label, a sentence for the caller, and a private cause for the log.
//! How a kind looks on the wire is not decided here (see the server's `error.rs`).

use std::{fmt, time::Duration};

use crate::{Kind, Label};

/// A cause that is logged and never sent.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a fallible airunner function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: what it is called, what the caller should do, and what really happened.
pub struct Error {
    label: Label,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    cause: Option<BoxError>,
}

impl Error {
    /// An error of `label` whose `message` is a sentence that tells the caller what to do.
    pub fn new(label: Label, message: impl Into<String>) -> Self {
        Self { label, message: message.into(), field: None, retry_after: None, cause: None }
    }

    /// A malformed request; `field` is the path of the field in the request.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Label::InvalidArgument, message).with_field(field)
    }

    /// There is no `what` called `id`.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(Label::NotFound, format!("there is no {what} {id}"))
    }

    /// A failure of our own; `cause` goes to the log only.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self::new(Label::Internal, "internal error; the server's log has the cause").with_cause(cause)
    }

    /// Names the request's field that is at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says when a retry may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Keeps the private cause.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The kind, which decides the wire code.
    pub fn kind(&self) -> Kind {
        self.label.kind()
    }

    /// The stable label.
    pub fn label(&self) -> Label {
        self.label
    }

    /// The sentence for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field at fault, where one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// When to try again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The private cause, for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.label.as_str(), self.message)?;
        if let Some(field) = &self.field {
            write!(f, " (field {field})")?;
        }
        match &self.cause {
            Some(cause) => write!(f, " (cause: {cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_not_in_what_the_caller_sees() {
        let error = Error::internal("disk on fire");
        assert!(!error.to_string().contains("fire"));
        assert!(format!("{error:?}").contains("fire"));
    }
}
