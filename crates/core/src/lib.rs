//! The words and the ports of airunner: ids, domain types, errors, and the traits behind which stores, signers,
//! clocks and randomness stand. No I/O happens here, and no runtime is named.

mod audit;
mod certificate;
mod change;
mod clock;
mod enrollment;
mod enrollment_token;
mod error;
mod event;
mod id;
mod input;
mod isolation;
mod issuer;
mod job;
mod job_spec;
mod keyring;
mod label;
mod measure;
mod output;
mod page;
mod permission;
mod principal;
mod random;
mod request;
mod secret;
mod server;
mod signer;
mod stores;

pub use audit::{Actor, AuditEntry, AuditOutcome, AuditRecord, AuditStore};
pub use certificate::{
    Certificate, CertificateFilter, CertificateRef, CertificateStore, CertifiedJob, Grants, Identity,
    Issuance, IssuanceKind, Issued, JobCertificate, Profile, Revocation, RevocationReason, RevocationTarget,
};
pub use change::{Change, ChangeBatch, ChangeFeed, ChangeKind, ChangeNumber, DenialSnapshot};
pub use clock::{Clock, Monotonic, Timestamp};
pub use enrollment::{EnrollmentStore, EnrollmentToken};
pub use enrollment_token::EnrollmentTokenText;
pub use error::{BoxError, Error, Result};
pub use event::{ControlEvent, EventKind, EventStore, Publication, Sequence};
pub use id::{
    DataKeyId, DnsName, EnrollmentId, Fingerprint, IssuerId, JobId, LineageId, PrincipalId, QueueName,
    RequestId, Serial, ServerId, TrustDomain, WorkerId, WriterId, uuid_v7,
};
pub use input::{InputWrite, InputWriter, JobInput, TerminalSize};
pub use isolation::{Isolation, ResourceLimits, Usage};
pub use issuer::{Issuer, IssuerKind, IssuerState, IssuerStore};
pub use job::{
    AttemptOutcome, Cancellation, Completion, Enqueued, Exit, Job, JobControl, JobFilter, JobState, JobStore,
    Lease, LeaseExtension, LeaseRequest, NextJob, QueueOrder,
};
pub use job_spec::{JobSecrets, JobSpec, Labels, ProcessType, Repository, holds_all};
pub use keyring::{DataKey, KeyPurpose, KeyState, KeyWrap, Keyring, KeyringStore, MasterKeyRecord, Sealed};
pub use label::{Kind, Label};
pub use measure::{Durations, Intent, StoreMeasures, Traffic};
pub use output::{OutputChunk, OutputRead, OutputStore, OutputStream};
pub use page::{Page, PageRequest};
pub use permission::{Permission, Role};
pub use principal::{
    EnrolScope, Principal, PrincipalFilter, PrincipalStatus, PrincipalStore, PrincipalType, PrincipalUpdate,
    StatusChange, check_metadata,
};
pub use random::SecureRandom;
pub use request::RequestKey;
pub use secret::Secret;
pub use server::{Fencing, HeartbeatReply, ServedQueue, ServerRow, ServerStore};
pub use signer::{KeyAlgorithm, KeyHolder, Signer};
pub use stores::Stores;
