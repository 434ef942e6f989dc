//! The one error type: a kind, a stable label, a sentence for the caller, and a private cause for the log.
//! How a kind looks on the wire is not decided here (see the server's `error.rs`).

use std::{fmt, time::Duration};

/// A cause that is logged and never sent.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a fallible airunner function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; each has one gRPC code and one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed; the error names the field.
    InvalidArgument,
    /// Nobody that we accept made the call.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// What the call names does not exist.
    NotFound,
    /// What the call would make exists.
    AlreadyExists,
    /// Another write came between; read again and retry.
    Conflict,
    /// The state of things forbids it.
    FailedPrecondition,
    /// A rate or a count is used up.
    Limit,
    /// A message or a value is larger than allowed.
    TooLarge,
    /// A part is down, full or behind; try again later.
    Unavailable,
    /// The caller's deadline passed.
    Deadline,
    /// Our fault; the caller gets an id only.
    Internal,
}

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal : $kind:ident,)+) => {
        /// The stable name of a failure. Programs match on it; it never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Label { $($(#[doc = $doc])+ $name,)+ }

        impl Label {
            /// Every label there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The label that stands so on the wire, if there is one.
            pub fn of(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|label| label.as_str() == text)
            }

            /// The label as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The kind that errors of this label have.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }
        }
    };
}

labels! {
    /// A field of the request is missing, malformed or out of range.
    InvalidArgument = "invalid-argument": InvalidArgument,
    /// The CSR can't be parsed, or bytes follow it.
    CsrMalformed = "csr-malformed": InvalidArgument,
    /// The CSR's own signature does not verify: no proof that the sender holds the key.
    CsrSignature = "csr-signature": InvalidArgument,
    /// The CSR's key is of a type, curve or strength that this environment does not accept.
    KeyNotAccepted = "key-not-accepted": InvalidArgument,
    /// The page token was not made by this list.
    PageToken = "page-token": InvalidArgument,
    /// No certificate was presented.
    NoCertificate = "no-certificate": Unauthenticated,
    /// The certificate's signature is good, but the registry does not know it.
    UnknownCertificate = "unknown-certificate": Unauthenticated,
    /// The certificate and its record differ in principal, type or fingerprint.
    IdentityMismatch = "identity-mismatch": Unauthenticated,
    /// The certificate's time is over.
    CertificateExpired = "certificate-expired": Unauthenticated,
    /// The certificate was revoked.
    CertificateRevoked = "certificate-revoked": Unauthenticated,
    /// The certificate was renewed, and its overlap with the successor is over.
    CertificateRetired = "certificate-retired": Unauthenticated,
    /// The principal is suspended.
    PrincipalSuspended = "principal-suspended": Unauthenticated,
    /// The principal was deleted.
    PrincipalDeleted = "principal-deleted": Unauthenticated,
    /// The issuer of the certificate is no longer trusted.
    IssuerDistrusted = "issuer-distrusted": Unauthenticated,
    /// The server is not the one that was named: its root is another, or it can't prove that it stands under it.
    ServerUntrusted = "server-untrusted": Unauthenticated,
    /// The enrolment token is malformed, unknown, deleted, or its secret is wrong.
    TokenInvalid = "token-invalid": Unauthenticated,
    /// The enrolment token's time is over.
    TokenExpired = "token-expired": Unauthenticated,
    /// The enrolment token was used by another key.
    TokenUsed = "token-used": Unauthenticated,
    /// Who made the enrolment token may no longer do so, or its principal has changed since.
    TokenVoid = "token-void": Unauthenticated,
    /// The caller lacks the permission that the error names.
    PermissionDenied = "permission-denied": PermissionDenied,
    /// The caller has the permission, but not over this thing.
    NotOwner = "not-owner": PermissionDenied,
    /// The call would confer more than the caller has.
    Escalation = "escalation": PermissionDenied,
    /// A browser sent the request on behalf of another site.
    CrossSite = "cross-site": PermissionDenied,
    /// There is no such thing.
    NotFound = "not-found": NotFound,
    /// There is such a thing already.
    AlreadyExists = "already-exists": AlreadyExists,
    /// Another write changed the record since it was read.
    VersionConflict = "version-conflict": Conflict,
    /// The request id was used before with other content.
    RequestReused = "request-reused": Conflict,
    /// The predecessor was renewed already, by another key, and that successor is in use.
    LineageForked = "lineage-forked": FailedPrecondition,
    /// The principal holds as many active certificates as it may.
    TooManyCertificates = "too-many-certificates": FailedPrecondition,
    /// The principal is not active, so nothing is issued or leased to it.
    PrincipalNotActive = "principal-not-active": FailedPrecondition,
    /// The certificate that is to be renewed or revoked is over already.
    CertificateEnded = "certificate-ended": FailedPrecondition,
    /// The serial number is not unique: name the issuer too, or use the fingerprint.
    AmbiguousSerial = "ambiguous-serial": FailedPrecondition,
    /// The last active admin can't be taken away.
    LastAdmin = "last-admin": FailedPrecondition,
    /// The job has ended.
    JobEnded = "job-ended": FailedPrecondition,
    /// A job of the same owner with the same command and arguments is waiting or running.
    JobNotUnique = "job-not-unique": AlreadyExists,
    /// The lease is not the caller's, has run out or was taken away.
    LeaseLost = "lease-lost": FailedPrecondition,
    /// No certificate authority has been made in this store.
    NoIssuer = "no-issuer": FailedPrecondition,
    /// The store or a file was made by another environment or another master key.
    WrongMasterKey = "wrong-master-key": FailedPrecondition,
    /// A sealed value does not open: it was moved, altered, or its key is gone.
    SealBroken = "seal-broken": Internal,
    /// A configuration key is unknown or its value is not allowed.
    Config = "config": InvalidArgument,
    /// A file is missing, unreadable, malformed, or open to others.
    File = "file": FailedPrecondition,
    /// Too many requests in too short a time.
    RateLimited = "rate-limited": Limit,
    /// A count has reached its limit.
    LimitReached = "limit-reached": Limit,
    /// The message, list or value is too large.
    TooLarge = "too-large": TooLarge,
    /// The watcher reads too slowly: resume from the sequence that the error names.
    SlowWatcher = "slow-watcher": Limit,
    /// The store does not answer.
    StoreUnavailable = "store-unavailable": Unavailable,
    /// The store's disk is full: reads go on, writes are refused.
    StoreFull = "store-full": Unavailable,
    /// This server has not heard the change feed for too long to vouch for anyone.
    FeedStale = "feed-stale": Unavailable,
    /// This server's clock is behind or ahead of the others'.
    ClockSkew = "clock-skew": Unavailable,
    /// No worker waits on the job's queue.
    NoWorker = "no-worker": Unavailable,
    /// The server is shutting down.
    Draining = "draining": Unavailable,
    /// The other side can't be reached.
    Unreachable = "unreachable": Unavailable,
    /// The deadline passed.
    Deadline = "deadline-exceeded": Deadline,
    /// The method exists in no service of this server.
    UnknownMethod = "unknown-method": NotFound,
    /// The path is there, with other HTTP methods than the request's.
    MethodNotAllowed = "method-not-allowed": InvalidArgument,
    /// The body's content type or encoding is not served here.
    MediaType = "media-type": InvalidArgument,
    /// Our fault: see the log under the id given.
    Internal = "internal": Internal,
}

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
    fn labels_are_unique_and_spelt_for_the_wire() {
        let mut seen = std::collections::HashSet::new();
        for label in Label::ALL {
            assert!(seen.insert(label.as_str()), "{} stands twice", label.as_str());
            assert!(label.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        }
    }

    #[test]
    fn the_cause_is_not_in_what_the_caller_sees() {
        let error = Error::internal("disk on fire");
        assert!(!error.to_string().contains("fire"));
        assert!(format!("{error:?}").contains("fire"));
    }
}
