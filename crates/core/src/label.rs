//! The stable names of failures, each with its kind, when it happens and what to do about it. What a single failure says
//! of itself is in `error.rs`.

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
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal : $kind:ident => $remedy:literal,)+) => {
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

            /// When it happens.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
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
    InvalidArgument = "invalid-argument": InvalidArgument
        => "Correct the field that the error names.",
    /// The CSR can't be parsed, or bytes follow it.
    CsrMalformed = "csr-malformed": InvalidArgument
        => "Send one PKCS#10 request, PEM or DER, with nothing after it.",
    /// The CSR's own signature does not verify: no proof that the sender holds the key.
    CsrSignature = "csr-signature": InvalidArgument
        => "Make the request anew with the key that it names.",
    /// The CSR's key is of a type, curve or strength that this environment does not accept.
    KeyNotAccepted = "key-not-accepted": InvalidArgument
        => "Use a key that the error lists; admins set which in `[ca] accepted_keys`.",
    /// The page token was not made by this list.
    PageToken = "page-token": InvalidArgument
        => "Begin again without a page token.",
    /// No certificate was presented.
    NoCertificate = "no-certificate": Unauthenticated
        => "Enrol, and call with the certificate; or use the public listener for what is public.",
    /// The certificate's signature is good, but the registry does not know it.
    UnknownCertificate = "unknown-certificate": Unauthenticated
        => "Enrol, or have an admin register the certificate. If nobody of yours made it, the issuing key is in other hands: see the alarm `airunner_forged`.",
    /// The certificate and its record differ in principal, type or fingerprint.
    IdentityMismatch = "identity-mismatch": Unauthenticated
        => "Have an admin issue a new certificate, and find out who changed the record.",
    /// The certificate's time is over.
    CertificateExpired = "certificate-expired": Unauthenticated
        => "Enrol again with a token from an admin.",
    /// The certificate was revoked.
    CertificateRevoked = "certificate-revoked": Unauthenticated
        => "Ask an admin for an enrolment token.",
    /// The certificate was renewed, and its overlap with the successor is over.
    CertificateRetired = "certificate-retired": Unauthenticated
        => "Use the certificate that succeeded it.",
    /// The principal is suspended.
    PrincipalSuspended = "principal-suspended": Unauthenticated
        => "Ask an admin to activate the principal.",
    /// The principal was deleted.
    PrincipalDeleted = "principal-deleted": Unauthenticated
        => "Ask an admin for another principal; ids are not used again.",
    /// The issuer of the certificate is no longer trusted.
    IssuerDistrusted = "issuer-distrusted": Unauthenticated
        => "Fetch the trust bundle, and enrol again.",
    /// The server is not the one that was named: its root is another, or it can't prove that it stands under it.
    ServerUntrusted = "server-untrusted": Unauthenticated
        => "Check the address and the fingerprint with whoever gave them to you; nothing secret was sent.",
    /// The enrolment token is malformed, unknown, deleted, or its secret is wrong.
    TokenInvalid = "token-invalid": Unauthenticated
        => "Copy the whole token, or ask for a new one.",
    /// The enrolment token's time is over.
    TokenExpired = "token-expired": Unauthenticated
        => "Ask for a new token.",
    /// The enrolment token was used by another key.
    TokenUsed = "token-used": Unauthenticated
        => "Ask for a new token; if you did not use this one, tell an admin.",
    /// Who made the enrolment token may no longer do so, or its principal has changed since.
    TokenVoid = "token-void": Unauthenticated
        => "Ask for a new token.",
    /// The caller lacks the permission that the error names.
    PermissionDenied = "permission-denied": PermissionDenied
        => "Ask an admin for a role that has the permission; `airunner-cli authz explain` shows which.",
    /// The caller has the permission, but not over this thing.
    NotOwner = "not-owner": PermissionDenied
        => "Act on what is yours, or ask its owner or an admin.",
    /// The call would confer more than the caller has.
    Escalation = "escalation": PermissionDenied
        => "Have someone do it who holds what it confers.",
    /// A browser sent the request on behalf of another site.
    CrossSite = "cross-site": PermissionDenied
        => "Call from no browser page, or from one of this server's own.",
    /// There is no such thing.
    NotFound = "not-found": NotFound
        => "Check the id; lists show what there is.",
    /// There is such a thing already.
    AlreadyExists = "already-exists": AlreadyExists
        => "Take another name, or use the one that is there.",
    /// Another write changed the record since it was read.
    VersionConflict = "version-conflict": Conflict
        => "Read the record again, and decide anew.",
    /// The request id was used before with other content.
    RequestReused = "request-reused": Conflict
        => "Send a new request id with new content.",
    /// The predecessor was renewed already, by another key, and that successor is in use.
    LineageForked = "lineage-forked": FailedPrecondition
        => "Find out who holds the other key; revoke what should not be, and enrol again.",
    /// The principal holds as many active certificates as it may.
    TooManyCertificates = "too-many-certificates": FailedPrecondition
        => "Revoke one, or have an admin raise `max_certificates`.",
    /// The principal is not active, so nothing is issued or leased to it.
    PrincipalNotActive = "principal-not-active": FailedPrecondition
        => "Activate the principal first.",
    /// The certificate that is to be renewed or revoked is over already.
    CertificateEnded = "certificate-ended": FailedPrecondition
        => "Enrol anew.",
    /// The serial number is not unique: name the issuer too, or use the fingerprint.
    AmbiguousSerial = "ambiguous-serial": FailedPrecondition
        => "Name the certificate by its fingerprint.",
    /// The last active admin can't be taken away.
    LastAdmin = "last-admin": FailedPrecondition
        => "Make another principal an admin first.",
    /// The job has ended.
    JobEnded = "job-ended": FailedPrecondition
        => "Nothing is left to do; its status says how it ended.",
    /// Someone else writes to the job.
    InputTaken = "input-taken": FailedPrecondition
        => "Take it over (`job attach --take`), or watch; the owner may submit with `shared_input`.",
    /// A job of the same owner with the same command and arguments is waiting or running.
    JobNotUnique = "job-not-unique": AlreadyExists
        => "Wait for the job that runs, or submit without `unique`.",
    /// The lease is not the caller's, has run out or was taken away.
    LeaseLost = "lease-lost": FailedPrecondition
        => "Stop the work: the job is another worker's, or over.",
    /// No certificate authority has been made in this store.
    NoIssuer = "no-issuer": FailedPrecondition
        => "Run `airunner-cli bootstrap`.",
    /// The server can't use the root's key.
    RootOffline = "root-offline": FailedPrecondition
        => "Run `airunner-cli ca renew-issuer` on the machine that has the root key; where it is in KMS, `[root] online = true` lets servers use it.",
    /// The store or a file was made by another environment or another master key.
    WrongMasterKey = "wrong-master-key": FailedPrecondition
        => "Start with the master key and the store that belong together.",
    /// A sealed value does not open: it was moved, altered, or its key is gone.
    SealBroken = "seal-broken": Internal
        => "Restore a backup, and find out who wrote to the store.",
    /// A configuration key is unknown or its value is not allowed.
    Config = "config": InvalidArgument
        => "Correct the key on the line that the error names; `airunner-server check` tries it.",
    /// A file is missing, unreadable, malformed, or open to others.
    File = "file": FailedPrecondition
        => "Do what the error says of the file: its place, its owner, its mode.",
    /// There are no AWS credentials, or AWS does not accept them.
    AwsCredentials = "aws-credentials": FailedPrecondition
        => "Give the process credentials: a role, a profile, or the variables that the error names.",
    /// AWS denies the process an act.
    AwsDenied = "aws-denied": FailedPrecondition
        => "Allow the permission that the error names, in IAM and in the resource's own policy.",
    /// A key, parameter, secret, table or bucket is not in the account and region.
    AwsMissing = "aws-missing": FailedPrecondition
        => "Make it with Terraform, or with `airunner-cli bootstrap --create`; check the region.",
    /// A KMS key is disabled, to be deleted, or of another kind than is needed.
    AwsKey = "aws-key": FailedPrecondition
        => "Enable the key, or put the alias on one of the kind that the error names.",
    /// AWS refuses a request for a reason of its own.
    AwsRefused = "aws-refused": FailedPrecondition
        => "See the reason in the log.",
    /// A parameter or a secret still holds what Terraform made it with.
    Placeholder = "placeholder": FailedPrecondition
        => "Run `airunner-cli bootstrap --environment=ENVIRONMENT`, which replaces it.",
    /// AWS throttles the process.
    AwsThrottled = "aws-throttled": Unavailable
        => "Try again in a moment; have the quota raised where it goes on.",
    /// Too many requests in too short a time.
    RateLimited = "rate-limited": Limit
        => "Wait as long as Retry-After says.",
    /// A count has reached its limit.
    LimitReached = "limit-reached": Limit
        => "End one of what is counted, or have the limit raised.",
    /// The message, list or value is too large.
    TooLarge = "too-large": TooLarge
        => "Send less at a time.",
    /// The path with its query is longer than 8 KiB.
    UriTooLong = "uri-too-long": TooLarge
        => "Send what is long in the body.",
    /// The request has more than 100 headers, or more than 16 KiB of them.
    HeadersTooLarge = "headers-too-large": TooLarge
        => "Send fewer and shorter headers.",
    /// The watcher reads too slowly: resume from the sequence that the error names.
    SlowWatcher = "slow-watcher": Limit
        => "Watch again from the sequence that the error names.",
    /// The store does not answer.
    StoreUnavailable = "store-unavailable": Unavailable
        => "Try again in a moment; admins look at the store.",
    /// The store's disk is full: reads go on, writes are refused.
    StoreFull = "store-full": Unavailable
        => "Free room on the store's disk; no restart is needed.",
    /// This server has not heard the change feed for too long to vouch for anyone.
    FeedStale = "feed-stale": Unavailable
        => "Try another server, or this one again in a moment.",
    /// This server's clock is behind or ahead of the others'.
    ClockSkew = "clock-skew": Unavailable
        => "Set the clock right; after a wrong clock of the whole environment `airunner-server db clock-reset`.",
    /// No worker waits on the job's queue.
    NoWorker = "no-worker": Unavailable
        => "Start a worker for the queue, or submit instead of start.",
    /// The server is shutting down.
    Draining = "draining": Unavailable
        => "Call another server, or this one again once it is back.",
    /// The other side can't be reached.
    Unreachable = "unreachable": Unavailable
        => "Check the address, the network, and that the server runs.",
    /// The deadline passed.
    Deadline = "deadline-exceeded": Deadline
        => "Give the call more time, and look whether it was done all the same.",
    /// The method exists in no service of this server.
    UnknownMethod = "unknown-method": NotFound
        => "Check the path, and the versions of client and server.",
    /// The path is there, with other HTTP methods than the request's.
    MethodNotAllowed = "method-not-allowed": InvalidArgument
        => "Use a method that the header Allow lists.",
    /// The body's content type or encoding is not served here.
    MediaType = "media-type": InvalidArgument
        => "Send application/json, or application/grpc for gRPC; packed with gzip or not at all.",
    /// Our fault: see the log under the id given.
    Internal = "internal": Internal
        => "Look in the server's log under the request id, and report it.",
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
    fn every_label_says_in_sentences_when_it_happens_and_what_to_do() {
        for label in Label::ALL {
            for text in [label.meaning().trim(), label.remedy()] {
                assert!(
                    text.ends_with('.') && text.starts_with(char::is_uppercase),
                    "{}: {text}",
                    label.as_str()
                );
            }
        }
    }
}
