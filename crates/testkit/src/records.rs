//! Records with sane defaults, for tests that care about one field of many: take one and change that field.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that names what can't exist fails by panicking"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airunner_core::{
    Actor, AuditEntry, AuditOutcome, Certificate, CertificateRef, DataKey, DataKeyId, EnrollmentId,
    EnrollmentToken, Fingerprint, Issuance, IssuanceKind, Issuer, IssuerId, IssuerKind, IssuerState, Job,
    JobId, JobSpec, JobState, KeyAlgorithm, KeyPurpose, KeyState, Keyring, LineageId, MasterKeyRecord,
    Principal, PrincipalId, PrincipalStatus, PrincipalType, Profile, QueueName, RequestKey, Sealed,
    SecureRandom, Serial, ServerId, ServerRow, Timestamp,
};
use ring::digest::{SHA256, digest};

use crate::clock::FakeClock;

/// The issuer of certificates that name no other.
pub const ISSUER: IssuerId = IssuerId::from_bytes([0x11; 16]);

/// The id that `text` spells.
pub fn id(text: &str) -> PrincipalId {
    text.parse().expect("a principal id")
}

/// The queue that `text` spells.
pub fn queue(text: &str) -> QueueName {
    text.parse().expect("a queue name")
}

/// The SHA-256 of `text`.
pub fn fingerprint(text: &str) -> Fingerprint {
    Fingerprint::from_bytes(sha256(text.as_bytes()))
}

/// An active worker of this id, created at [`FakeClock::START`] by `bootstrap`.
pub fn principal(id: &str) -> Principal {
    Principal {
        id: self::id(id),
        principal_type: PrincipalType::Worker,
        status: PrincipalStatus::Active,
        roles: BTreeSet::new(),
        enrol_scope: None,
        dns_names: Vec::new(),
        created_at: FakeClock::START,
        created_by: "bootstrap".to_owned(),
        suspended_at: None,
        suspended_reason: String::new(),
        email: String::new(),
        description: String::new(),
        max_certificates: Principal::DEFAULT_MAX_CERTIFICATES,
        validity: None,
        metadata: BTreeMap::new(),
        version: 1,
    }
}

/// An active principal of this id and type.
pub fn principal_of(id: &str, principal_type: PrincipalType) -> Principal {
    Principal { principal_type, ..principal(id) }
}

/// A client certificate of `principal`, the first of a new lineage, good for a day from `now`. Its key, serial number
/// and bytes are drawn from `random`.
pub fn certificate(principal: &Principal, now: Timestamp, random: &dyn SecureRandom) -> Certificate {
    let der: Vec<u8> = random.array::<600>().to_vec();
    Certificate {
        serial: Serial::new(now, random),
        issuer_id: ISSUER,
        principal_id: principal.id.clone(),
        principal_type: principal.principal_type,
        fingerprint: Fingerprint::from_bytes(sha256(&der)),
        public_key: Fingerprint::from_bytes(random.array()),
        subject_dn: format!("CN={}", principal.id),
        profile: Profile::from(principal.principal_type),
        labels: principal.metadata.clone(),
        issued_at: now,
        expires_at: now.plus(Duration::from_hours(24)),
        retire_at: None,
        first_seen_at: None,
        lineage_id: LineageId::new(now, random),
        predecessor: None,
        revocation: None,
        job: None,
        description: String::new(),
        der,
    }
}

/// A certificate that succeeds `predecessor`: of its lineage, with a key of its own.
pub fn successor(predecessor: &Certificate, now: Timestamp, random: &dyn SecureRandom) -> Certificate {
    let holder = principal_of(predecessor.principal_id.as_str(), predecessor.principal_type);
    Certificate {
        lineage_id: predecessor.lineage_id,
        predecessor: Some(predecessor.reference()),
        ..certificate(&holder, now, random)
    }
}

/// `certificate` as an admin would have it issued, to a principal of version 1, at the certificate's time of issue.
pub fn issuance(certificate: Certificate) -> Issuance {
    let audit = audit("certificate.issue", &certificate.serial.to_string(), certificate.issued_at);
    Issuance { certificate, kind: IssuanceKind::Issue, principal_version: 1, request: None, audit }
}

/// `certificate` as the renewal of `predecessor`, whose overlap lasts an hour.
pub fn renewal(certificate: Certificate, predecessor: CertificateRef) -> Issuance {
    let retire_at = certificate.issued_at.plus(Duration::from_hours(1));
    Issuance { kind: IssuanceKind::Renew { predecessor, retire_at }, ..issuance(certificate) }
}

/// `certificate` as enrolled with `token`, whose creator has version 1.
pub fn enrolment(certificate: Certificate, token: &EnrollmentToken) -> Issuance {
    let kind = IssuanceKind::Enrol { token: token.id, creator: token.created_by.clone(), creator_version: 1 };
    Issuance { kind, ..issuance(certificate) }
}

/// An unused enrolment token for `principal`, good for an hour from `now`.
pub fn enrollment(
    principal: &Principal,
    creator: &Principal,
    now: Timestamp,
    random: &dyn SecureRandom,
) -> EnrollmentToken {
    EnrollmentToken {
        id: EnrollmentId::new(now, random),
        secret_hash: random.array(),
        principal_id: principal.id.clone(),
        principal_type: principal.principal_type,
        roles: principal.effective_roles(),
        created_by: creator.id.clone(),
        created_at: now,
        expires_at: now.plus(Duration::from_hours(1)),
        used_at: None,
        used_key: None,
        certificate: None,
        description: String::new(),
    }
}

/// Jobs that are not like others.
pub trait JobExt {
    /// The same job, but for what is to be run.
    #[must_use]
    fn with(self, change: impl FnOnce(&mut JobSpec)) -> Self;
}

/// A waiting job of `owner` that prints a line, in the default queue.
pub fn job(owner: &str, now: Timestamp, random: &dyn SecureRandom) -> Job {
    Job {
        id: JobId::new(now, random),
        queue: QueueName::default_queue(),
        owner: id(owner),
        spec: JobSpec { command: "echo".to_owned(), args: vec!["hello".to_owned()], ..JobSpec::default() },
        state: JobState::Scheduled,
        attempt: 0,
        handed_back: 0,
        lease: None,
        process_id: None,
        exit: None,
        reason: String::new(),
        usage: None,
        cancellation: None,
        certificates: Vec::new(),
        created_at: now,
        visible_at: now,
        rank: None,
        started_at: None,
        finished_at: None,
    }
}

impl JobExt for Job {
    fn with(mut self, change: impl FnOnce(&mut JobSpec)) -> Self {
        change(&mut self.spec);
        self
    }
}

/// An entry that says the admin `admin-1` did `action` to `target` at `at`.
pub fn audit(action: &str, target: &str, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        actor: Actor {
            principal: "admin-1".to_owned(),
            certificate: "0a".to_owned(),
            address: "127.0.0.1:9".to_owned(),
        },
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: AuditOutcome::Done,
        request_id: "r-1".to_owned(),
        detail: BTreeMap::new(),
    }
}

/// The request `id` of `caller`, for the method `Test`, whose content is `content`.
pub fn request(caller: &str, id: &str, content: &str) -> RequestKey {
    RequestKey {
        caller: self::id(caller),
        method: "Test",
        id: id.parse().expect("a request id"),
        content: sha256(content.as_bytes()),
    }
}

/// An active issuing CA made at `now`, good for a year.
pub fn issuer(now: Timestamp, random: &dyn SecureRandom) -> Issuer {
    Issuer {
        id: IssuerId::new(now, random),
        kind: IssuerKind::Issuing,
        state: IssuerState::Active,
        algorithm: KeyAlgorithm::EcdsaP256,
        der: random.array::<400>().to_vec(),
        sealed_key: Some(sealed(random)),
        parent: None,
        created_at: now,
        expires_at: now.plus(Duration::from_hours(24 * 365)),
    }
}

/// Random bytes that look sealed.
pub fn sealed(random: &dyn SecureRandom) -> Sealed {
    Sealed {
        key_id: DataKeyId::from_bytes(random.array()),
        nonce: random.array(),
        ciphertext: random.array::<64>().to_vec(),
    }
}

/// A keyring with a data key for each purpose.
pub fn keyring(now: Timestamp, random: &dyn SecureRandom) -> Keyring {
    let key = |purpose: &KeyPurpose| DataKey {
        id: DataKeyId::new(now, random),
        purpose: *purpose,
        wrapped: random.array::<48>().to_vec(),
        state: KeyState::Active,
        created_at: now,
    };
    Keyring {
        master: MasterKeyRecord {
            kind: "keyfile".to_owned(),
            salt: Vec::new(),
            check: random.array::<44>().to_vec(),
        },
        keys: KeyPurpose::ALL.iter().map(key).collect(),
        task_token_key: sealed(random),
    }
}

/// A server's first heartbeat.
pub fn server(now: Timestamp, random: &dyn SecureRandom) -> ServerRow {
    ServerRow {
        id: ServerId::new(now, random),
        address: "127.0.0.1:8443".to_owned(),
        version: "0.1.0".to_owned(),
        counter: 1,
        applied: 0,
        bundle_hash: String::new(),
        queues: Vec::new(),
        at: now,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}
