//! What intents read and write: the rows of one transaction, by noun. Each backend implements these; what the rows
//! mean is decided by the intents beside this file, once for all backends.
//!
//! An intent makes every check before its first write. A backend commits the rows of an intent that returns `Ok`,
//! and a failed intent has written nothing that must be taken back.

#![expect(
    missing_docs,
    reason = "each is named for the rows that it reads or writes; what that leaves open is said"
)]

use airunner_core::{
    AuditEntry, AuditRecord, Certificate, CertificateFilter, CertificateRef, Change, ChangeKind,
    ChangeNumber, ControlEvent, DataKey, DnsName, EnrollmentId, EnrollmentToken, Fencing, Fingerprint,
    Identity, InputWriter, Issuer, IssuerId, IssuerState, Job, JobControl, JobFilter, JobId, JobInput,
    JobState, Keyring, Labels, Principal, PrincipalFilter, PrincipalId, PrincipalStatus, QueueName,
    RequestKey, Result, Revocation, Sequence, Serial, ServerId, ServerRow, Timestamp,
};

pub use crate::line::Lane;

/// Takes a row of a scan; false ends the scan.
pub type Visit<'v, T> = &'v mut dyn FnMut(T) -> Result<bool>;

/// All rows of one transaction.
pub trait Rows:
    PrincipalRows
    + CertificateRows
    + EnrollmentRows
    + IssuerRows
    + KeyringRows
    + JobRows
    + EventRows
    + AuditRows
    + ChangeRows
    + ServerRows
    + RequestRows
{
}

/// What an issuing intent must know of a principal.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub status: PrincipalStatus,
    pub version: u64,
    pub max_certificates: u32,
}

pub trait PrincipalRows {
    fn principal(&self, id: &PrincipalId) -> Result<Option<Principal>>;
    fn standing(&self, id: &PrincipalId) -> Result<Option<Standing>>;
    /// In order of the folded id, from the one after `after` on. May leave out what the filter does not want.
    fn scan_principals(
        &self,
        filter: &PrincipalFilter,
        after: Option<&str>,
        visit: Visit<'_, Principal>,
    ) -> Result<()>;
    /// Whether an active admin other than `besides` exists.
    fn another_admin(&self, besides: &PrincipalId) -> Result<bool>;
    /// Who owns the name; deleted principals own none.
    fn dns_owner(&self, name: &DnsName) -> Result<Option<PrincipalId>>;
    fn insert_principal(&mut self, principal: &Principal) -> Result<()>;
    /// Writes the row; where status or roles differ from what is there, also a change, at `at`.
    fn update_principal(&mut self, principal: &Principal, at: Timestamp) -> Result<()>;
    /// Makes `names` all that the principal owns.
    fn own_dns_names(&mut self, id: &PrincipalId, names: &[DnsName]) -> Result<()>;
}

/// A row's place in a list, as a page token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The time that the list is in order of.
    pub at: Timestamp,
    /// Tells rows of one time apart, or is all of the order.
    pub number: i128,
}

impl Place {
    /// The place of a row that has a number within its table, where the list is in order of that alone.
    pub(crate) fn numbered(number: i64) -> Self {
        Self { at: Timestamp::from_millis(0), number: number.into() }
    }

    /// The number within a table; one that no row can have is the nearest that one can.
    pub(crate) fn row_number(self) -> i64 {
        i64::try_from(self.number).unwrap_or(if self.number < 0 { i64::MIN } else { i64::MAX })
    }

    pub(crate) fn write(&self) -> String {
        format!("{}.{}", self.at.as_millis(), self.number)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let (at, number) = text.split_once('.')?;
        Some(Self { at: Timestamp::from_millis(at.parse().ok()?), number: number.parse().ok()? })
    }
}

pub trait CertificateRows {
    fn certificate(&self, reference: &CertificateRef) -> Result<Option<Certificate>>;
    /// The certificate, and what succeeds it.
    fn with_successor(
        &self,
        reference: &CertificateRef,
    ) -> Result<Option<(Certificate, Option<CertificateRef>)>>;
    fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>>;
    /// Of each, in order.
    fn identities(&self, references: &[CertificateRef]) -> Result<Vec<Option<Identity>>> {
        references.iter().map(|reference| self.identity(reference)).collect()
    }
    fn certificates_of_serial(&self, serial: &Serial) -> Result<Vec<Certificate>>;
    fn certificate_of_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>>;
    /// Newest first; where the filter has `expires_before`, first to expire first. Starts after `after`. May leave
    /// out what the filter does not want.
    fn scan_certificates(
        &self,
        filter: &CertificateFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Certificate)>,
    ) -> Result<()>;
    /// The principal's lineages that have an active certificate at `now`, counted up to `limit`.
    fn active_lineages(&self, principal: &PrincipalId, now: Timestamp, limit: u32) -> Result<u32>;
    /// The principal's unexpired, unrevoked certificates, at most `limit`.
    fn revocable(&self, principal: &PrincipalId, now: Timestamp, limit: usize)
    -> Result<Vec<CertificateRef>>;
    fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>>;
    /// Fails (`already-exists`), having written nothing, if the issuer has a certificate of this serial number.
    fn insert_certificate(&mut self, certificate: &Certificate) -> Result<()>;
    /// Notes that the certificate begins a lineage.
    fn begin_lineage(&mut self, certificate: &Certificate) -> Result<()>;
    /// Links a successor, which must have been inserted, and sets when the predecessor retires.
    fn succeed(
        &mut self,
        predecessor: &CertificateRef,
        retire_at: Timestamp,
        successor: &CertificateRef,
    ) -> Result<()>;
    /// Also writes a change.
    fn revoke_certificate(&mut self, reference: &CertificateRef, revocation: Revocation) -> Result<()>;
    fn set_first_seen(&mut self, reference: &CertificateRef, at: Timestamp) -> Result<()>;
}

pub trait EnrollmentRows {
    fn token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>>;
    /// Newest first, from the one after the place `after` on.
    fn scan_tokens(
        &self,
        created_by: Option<&PrincipalId>,
        after: Option<Place>,
        visit: Visit<'_, (Place, EnrollmentToken)>,
    ) -> Result<()>;
    fn insert_token(&mut self, token: &EnrollmentToken) -> Result<()>;
    /// Notes that the token was used, for which certificate.
    fn use_token(&mut self, id: &EnrollmentId, at: Timestamp, certificate: &Certificate) -> Result<()>;
    /// Whether there was one.
    fn delete_token(&mut self, id: &EnrollmentId) -> Result<bool>;
}

pub trait IssuerRows {
    /// All of them, destroyed ones too, oldest first.
    fn issuers(&self) -> Result<Vec<Issuer>>;
    /// Also writes a change.
    fn insert_issuer(&mut self, issuer: &Issuer, at: Timestamp) -> Result<()>;
    /// Also writes a change.
    fn set_issuer_state(&mut self, id: &IssuerId, state: IssuerState, at: Timestamp) -> Result<()>;
}

pub trait KeyringRows {
    fn keyring(&self) -> Result<Option<Keyring>>;
    fn insert_keyring(&mut self, keyring: &Keyring) -> Result<()>;
    /// Beside those that `keyring` has, which is what was read.
    fn insert_data_key(&mut self, keyring: &Keyring, key: &DataKey) -> Result<()>;
}

/// Live jobs of the same owner, command and arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// There is one.
    pub any: bool,
    /// There is one that wants to be the only one.
    pub unique: bool,
}

/// How much a job was given to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputWritten {
    /// The number of its last piece, 0 where there is none.
    pub last: u64,
    pub bytes: u64,
    /// Whether the last piece says that no more follows.
    pub end: bool,
    /// Who wrote the last piece, where that was said.
    pub writer: Option<InputWriter>,
}

pub trait JobRows {
    fn job(&self, id: &JobId) -> Result<Option<Job>>;
    fn job_control(&self, id: &JobId) -> Result<Option<JobControl>>;
    /// Newest first, from the one after the place `after` on. May leave out what the filter does not want.
    fn scan_jobs(
        &self,
        filter: &JobFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Job)>,
    ) -> Result<()>;
    /// What waiting jobs of the queue may require of their worker: each lane that holds one is there, others may be.
    fn lanes(&self, queue: &QueueName) -> Result<Vec<Labels>>;
    /// Makes a lane that requires something known: its first job is about to come, or another one.
    fn open_lane(&mut self, lane: &Lane, now: Timestamp) -> Result<()>;
    /// Jobs of the lane that are in line: in order of their places, then of their coming.
    fn waiting_jobs(&self, lane: &Lane, limit: u32) -> Result<Vec<Job>>;
    /// Jobs of the lane that are not in line though they are visible at `now`: in order of their places. May leave out
    /// what has become visible only just now.
    fn due_jobs(&self, lane: &Lane, now: Timestamp, limit: u32) -> Result<Vec<Job>>;
    /// The first place in the lane from `from` on that is taken. May be behind.
    fn first_place(&self, lane: &Lane, from: i64) -> Result<Option<i64>>;
    /// The rank of the owner's last job of this priority that is in line in the lane. May be behind.
    fn last_rank(&self, lane: &Lane, priority: i32, owner: &PrincipalId) -> Result<Option<u64>>;
    /// How far the ranks of this priority have come in the queue; 0 before the first. May be behind by a second.
    fn queue_clock(&self, queue: &QueueName, priority: i32) -> Result<u64>;
    /// Sets the clock, unless it is there or past it already.
    fn advance_clock(&mut self, queue: &QueueName, priority: i32, rank: u64, now: Timestamp) -> Result<()>;
    /// Running jobs whose lease ended before `before`, first to end first.
    fn lapsed_jobs(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>>;
    /// Running jobs that `holder` holds.
    fn held_jobs(&self, holder: &PrincipalId, limit: u32) -> Result<Vec<Job>>;
    fn jobs_alike(&self, job: &Job) -> Result<Alike>;
    fn count_jobs(&self) -> Result<Vec<(JobState, u64)>>;
    /// What was written to the job's standard input.
    fn input_written(&self, id: &JobId) -> Result<InputWritten>;
    fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>>;
    fn insert_input(&mut self, id: &JobId, input: &JobInput, writer: Option<InputWriter>) -> Result<()>;
    fn delete_inputs(&mut self, id: &JobId) -> Result<()>;
    fn insert_job(&mut self, job: &Job) -> Result<()>;
    /// Writes what changes in a job's life; what was asked for stays as it is.
    fn update_job(&mut self, job: &Job) -> Result<()>;
}

pub trait EventRows {
    fn events_after(&self, job: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>>;
    /// The last event of the attempt before the one that ends it.
    fn last_event(&self, job: &JobId, attempt: u32) -> Result<Option<Sequence>>;
    /// Writes the event unless its place is taken.
    fn insert_event(&mut self, job: &JobId, event: &ControlEvent) -> Result<()>;
}

pub trait AuditRows {
    fn audit_tail(&self, limit: u32) -> Result<Vec<AuditRecord>>;
    fn audit_after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>>;
    fn insert_audit(&mut self, entry: &AuditEntry) -> Result<()>;
}

pub trait ChangeRows {
    /// The number of the newest change ever written, 0 before the first.
    fn last_change(&self) -> Result<ChangeNumber>;
    /// Writes the next change.
    fn append_change(&mut self, at: Timestamp, kind: &ChangeKind) -> Result<()>;
    /// In order.
    fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<Vec<Change>>;
    /// Suspended and deleted principals with an active certificate: who has none can't authenticate.
    fn denied_principals(&self, now: Timestamp) -> Result<Vec<(PrincipalId, PrincipalStatus)>>;
    /// Unexpired certificates that are revoked.
    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<CertificateRef>>;
    /// Deletes the oldest changes.
    fn delete_changes(&mut self, before: Timestamp, limit: u32) -> Result<u32>;
}

/// The housekeeping lease.
#[derive(Clone, Copy, Debug)]
pub struct Housekeeping {
    pub holder: Option<ServerId>,
    pub number: Fencing,
    pub deadline: Timestamp,
}

impl Housekeeping {
    /// The lease before anyone ever held it.
    pub const NEVER: Self = Self { holder: None, number: Fencing(0), deadline: Timestamp::from_millis(0) };
}

pub trait ServerRows {
    fn servers(&self) -> Result<Vec<ServerRow>>;
    fn highest_time(&self) -> Result<Timestamp>;
    fn housekeeping(&self) -> Result<Housekeeping>;
    fn put_server(&mut self, row: &ServerRow) -> Result<()>;
    fn delete_server(&mut self, id: &ServerId) -> Result<()>;
    fn delete_servers_before(&mut self, before: Timestamp) -> Result<u32>;
    fn set_highest_time(&mut self, at: Timestamp) -> Result<()>;
    fn set_housekeeping(&mut self, lease: &Housekeeping) -> Result<()>;
}

/// What is kept of a request.
#[derive(Clone, Debug)]
pub struct KeptRequest {
    pub content: [u8; 32],
    /// What came of it, in the words of the intent that wrote it.
    pub result: String,
    pub at: Timestamp,
}

pub trait RequestRows {
    fn request(&self, key: &RequestKey) -> Result<Option<KeptRequest>>;
    /// Writes or replaces, and forgets some that were written before `expired`.
    fn put_request(&mut self, key: &RequestKey, kept: &KeptRequest, expired: Timestamp) -> Result<()>;
}
