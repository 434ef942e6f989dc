//! Certificate records: what was issued to whom, and the port that keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AuditEntry, EnrollmentId, Error, Fingerprint, IssuerId, JobId, LineageId, Page, PageRequest, Permission,
    Principal, PrincipalId, PrincipalType, RequestKey, Result, Serial, Timestamp,
};

/// What identifies a certificate: its issuer and its serial number (RFC 5280 section 4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CertificateRef {
    /// Who signed it.
    pub issuer_id: IssuerId,
    /// Its number among that issuer's.
    pub serial: Serial,
}

/// What a leaf is for: decides its key usages and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The API server's own; belongs to no principal.
    Server,
    /// A service: client and server in one (an X.509-SVID).
    Service,
    /// An admin, user or worker: a client.
    Client,
    /// A job: a client that stands for its owner, as far as the owner granted.
    Job,
}

impl Profile {
    /// The profile's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Service => "service",
            Self::Client => "client",
            Self::Job => "job",
        }
    }
}

impl From<PrincipalType> for Profile {
    fn from(principal_type: PrincipalType) -> Self {
        match principal_type {
            PrincipalType::Service => Self::Service,
            PrincipalType::Admin | PrincipalType::User | PrincipalType::Worker => Self::Client,
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "server" => Ok(Self::Server),
            "service" => Ok(Self::Service),
            "client" => Ok(Self::Client),
            "job" => Ok(Self::Job),
            _ => Err(Error::invalid("profile", format!("there is no profile {text:?}"))),
        }
    }
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1; the names are the RFC's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
    AaCompromise,
}

impl RevocationReason {
    /// Every reason there is.
    pub const ALL: &'static [Self] = &[
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The RFC's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

impl FromStr for RevocationReason {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let same = |reason: &&Self| reason.as_str().eq_ignore_ascii_case(text);
        Self::ALL.iter().find(same).copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
            Error::invalid(
                "reason",
                format!("there is no reason {text:?}: the reasons are {}", names.join(", ")),
            )
        })
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// That a certificate was revoked, when and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// What a job's certificate lets it do.
pub type Grants = BTreeSet<Permission>;

/// Which job a certificate is, and what that may do: the owner's permissions, cut to the grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedJob {
    /// The job.
    pub id: JobId,
    /// What its owner granted it.
    pub grants: Grants,
}

/// A certificate of a running job that could still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCertificate {
    /// Which.
    pub reference: CertificateRef,
    /// Its notAfter.
    pub expires_at: Timestamp,
}

impl JobCertificate {
    /// Certificates of one job that may be in force at a time. A worker that renews has two; the rest is for answers
    /// that never reached it.
    pub const MAX: usize = 8;
}

/// A certificate as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number.
    pub serial: Serial,
    /// Who signed it.
    pub issuer_id: IssuerId,
    /// Whom it names: of a job's, the job's owner.
    pub principal_id: PrincipalId,
    /// What that principal was when it was issued, as the certificate's extension says.
    pub principal_type: PrincipalType,
    /// SHA-256 of `der`.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the SubjectPublicKeyInfo: a retry of an enrolment or a renewal is known by it.
    pub public_key: Fingerprint,
    /// The subject (RFC 4514).
    pub subject_dn: String,
    /// What it is for.
    pub profile: Profile,
    /// The principal's labels when it was issued.
    pub labels: BTreeMap<String, String>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Its notAfter.
    pub expires_at: Timestamp,
    /// When the overlap with its successor ends; our verifiers refuse it from then on.
    pub retire_at: Option<Timestamp>,
    /// When it first authenticated.
    pub first_seen_at: Option<Timestamp>,
    /// The lineage it belongs to.
    pub lineage_id: LineageId,
    /// What it was renewed from; the same issuer or an earlier one.
    pub predecessor: Option<CertificateRef>,
    /// Set once it is revoked.
    pub revocation: Option<Revocation>,
    /// Which job it is, of the profile [`Profile::Job`].
    pub job: Option<CertifiedJob>,
    /// For people.
    pub description: String,
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl Certificate {
    /// What identifies it.
    pub fn reference(&self) -> CertificateRef {
        CertificateRef { issuer_id: self.issuer_id, serial: self.serial }
    }

    /// Whether it counts at `now`: not expired, revoked or past `retire_at`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revocation.is_none() && self.expires_at > now && self.retire_at.is_none_or(|at| at > now)
    }

    /// Whether it takes one of its principal's slots while it is active: a job's takes none.
    pub fn takes_slot(&self) -> bool {
        self.job.is_none()
    }
}

/// How a certificate comes to be recorded, with what each way must check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuanceKind {
    /// Asked for by an admin: a new lineage, which needs a free slot.
    Issue,
    /// Signed by one of our issuers outside the server: a new lineage, which needs a free slot.
    Register,
    /// By an enrolment token: a new lineage, which needs a free slot. The token must be unexpired and unused. If it
    /// was used by the same public key, and that certificate is still active, that one is returned.
    Enrol {
        /// The token.
        token: EnrollmentId,
        /// Who made the token, and the version at which that was found to be still allowed.
        creator: PrincipalId,
        /// Compared with the creator's version in the transaction (`version-conflict`).
        creator_version: u64,
    },
    /// By its predecessor, whose slot it keeps. The predecessor must be active (`certificate-ended`). If a successor
    /// with the same public key exists, that one is returned; if there is one with another key that was never seen,
    /// it is revoked as superseded and replaced; if it was seen, `lineage-forked`.
    Renew {
        /// What is renewed.
        predecessor: CertificateRef,
        /// When the predecessor's overlap ends (never later than its expiry). A time that was set stays.
        retire_at: Timestamp,
    },
    /// For a running job that was enqueued with a certificate, by whoever holds its lease (`lease-lost`): a lineage of
    /// its own, without a slot. The end of that lease revokes it. At most [`JobCertificate::MAX`] of a job are in force
    /// at a time (`limit-reached`).
    Job {
        /// The lease, by its number.
        attempt: u32,
        /// Who holds it.
        holder: PrincipalId,
    },
}

/// A signed certificate that waits to be recorded; it leaves the server only after that.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// The record. For `Renew` its `lineage_id` is the predecessor's.
    pub certificate: Certificate,
    /// How it came to be.
    pub kind: IssuanceKind,
    /// The principal's version on which the decision rests: another version is `version-conflict`, a principal that
    /// is not active `principal-not-active`.
    pub principal_version: u64,
    /// Kept so that a retry gets the same certificate.
    pub request: Option<RequestKey>,
    /// Written in the same transaction; its time is the transaction's `now`.
    pub audit: AuditEntry,
}

/// What recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issued {
    /// It was recorded.
    New,
    /// An earlier attempt was: this is its certificate. Nothing was written.
    Existing(Box<Certificate>),
}

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// One certificate.
    Certificate(CertificateRef),
    /// Every unexpired certificate of a principal.
    Principal(PrincipalId),
}

/// Which certificates to list; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFilter {
    /// Of this principal.
    pub principal_id: Option<PrincipalId>,
    /// Expiring before this, and not before `now`.
    pub expires_before: Option<Timestamp>,
    /// Revoked or not.
    pub revoked: Option<bool>,
    /// Active at `now` only.
    pub active: bool,
    /// For the comparisons above.
    pub now: Timestamp,
}

/// What stands behind a presented certificate: its record and its principal's, read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The record.
    pub certificate: Certificate,
    /// The principal that the record names.
    pub principal: Principal,
}

/// Keeps certificates. Every revocation also appends to the change feed, in the same transaction.
#[async_trait]
pub trait CertificateStore: Send + Sync {
    /// Records a signed certificate, with all the checks that [`IssuanceKind`] names, in one transaction: serial
    /// unique to the issuer, principal active and at the expected version, slot free
    /// (`too-many-certificates`), request id, audit entry.
    async fn record_issued(&self, issuance: Issuance) -> Result<Issued>;

    /// The certificate and its principal, by primary key and consistently; what authentication reads.
    async fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>>;

    /// As [`CertificateStore::identity`] for up to 1,000 certificates, each read for itself, in the order given: what
    /// live connections are looked at again by.
    async fn identities(&self, references: &[CertificateRef]) -> Result<Vec<Option<Identity>>>;

    /// Notes that the certificate authenticated for the first time, if it is neither noted nor revoked. Returns
    /// false if it is revoked by now (it was replaced while unseen).
    async fn mark_seen(&self, reference: &CertificateRef, now: Timestamp) -> Result<bool>;

    /// The certificates of this serial number: one, unless two issuers chose the same.
    async fn get_by_serial(&self, serial: &Serial) -> Result<Vec<Certificate>>;

    /// The certificate of this fingerprint.
    async fn get_by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>>;

    /// Certificates, newest first; with `expires_before`, those that expire first come first.
    async fn list_certificates(
        &self,
        filter: &CertificateFilter,
        page: &PageRequest,
    ) -> Result<Page<Certificate>>;

    /// The references of what [`CertificateStore::revoke`] would revoke now, at most `limit`.
    async fn would_revoke(
        &self,
        target: &RevocationTarget,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<CertificateRef>>;

    /// Revokes what is unexpired and unrevoked at the audit entry's time, and returns it. Revoking again is no
    /// error and returns nothing.
    async fn revoke(
        &self,
        target: &RevocationTarget,
        reason: RevocationReason,
        audit: AuditEntry,
    ) -> Result<Vec<CertificateRef>>;

    /// The unrevoked certificates that expire soonest after `now`, at most `limit`, over all principals.
    async fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>>;
}
