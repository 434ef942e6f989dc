//! Use cases of certificates: issue, register, renew, look up, revoke. What a certificate looks like is
//! `airunner-pki`'s business; here it is decided who gets one, for how long, and in which order things happen.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use airunner_core::{
    AuditEntry, Certificate, CertificateFilter, CertificateRef, CertifiedJob, Error, Fingerprint, Issuance,
    IssuanceKind, Issued, JobId, Label, LineageId, Page, PageRequest, Principal, PrincipalId,
    PrincipalStatus, PrincipalType, Profile, RequestId, RequestKey, Result, RevocationReason,
    RevocationTarget, Serial, StatusChange, Timestamp,
};
use airunner_pki::{
    LeafParams, ParsedCertificate, SubjectPublicKey, VerifiedCsr, parse_certificate, prepare_leaf, sha256,
    verify_csr, verify_issued_by,
};

use crate::{
    authn::Caller,
    authz::{PermissionSet, Target, may, refusal_entry, system_entry},
    context::{Context, OnFork, Settings, principal, retrying},
    principal::check_text,
    recent::for_principal,
    status::catch_up,
};

/// How far notBefore lies back, for verifiers whose clock is slow.
pub(crate) const BACKDATE: Duration = Duration::from_mins(1);
/// Certificates that one revocation names at most in its answer.
const MAX_NAMED: u32 = 10_000;

/// Certificates.
pub struct Certificates {
    context: Arc<Context>,
}

/// What an admin asks for.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// For whom.
    pub principal_id: PrincipalId,
    /// PKCS#10, PEM or DER.
    pub csr: Vec<u8>,
    /// A life shorter than the principal's; none is the principal's.
    pub validity: Option<Duration>,
    /// For people.
    pub description: String,
    /// Makes a retry harmless.
    pub request_id: Option<RequestId>,
}

/// A certificate with what is sent along.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The record.
    pub certificate: Certificate,
    /// The issuing CA, PEM; empty where the root signs.
    pub chain_pem: String,
}

/// A renewal.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The successor.
    pub issued: IssuedCertificate,
    /// When the predecessor ends.
    pub predecessor_retire_at: Timestamp,
}

/// Which certificate is meant.
#[derive(Clone, Debug)]
pub enum CertificateName {
    /// By serial number, which must be unique.
    Serial(Serial),
    /// By fingerprint.
    Fingerprint(Fingerprint),
}

/// What is to be revoked.
#[derive(Clone, Debug)]
pub enum RevokeTarget {
    /// One certificate.
    Certificate(CertificateName),
    /// Every unexpired certificate of a principal.
    Principal(PrincipalId),
}

impl Certificates {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Issues a certificate for the key that the CSR proves.
    ///
    /// # Errors
    /// `csr-malformed`, `csr-signature`, `key-not-accepted`; `not-found`, `principal-not-active`,
    /// `too-many-certificates`; `escalation` where the principal may more than the caller.
    pub async fn issue(&self, caller: &Caller, request: IssueRequest) -> Result<IssuedCertificate> {
        caller.permit::<may::CertsManage>(Target::Any).map(drop)?;
        check_text("description", &request.description)?;
        check_requested_validity(request.validity)?;
        let csr = verify_csr(&request.csr, &self.context.settings.accepted_keys)?;
        let (request, csr) = (&request, &csr);
        let issued = for_principal(&self.context, &request.principal_id, |subject| async move {
            let permit = caller.permit::<may::CertsManage>(Target::Any)?;
            caller.require_to_confer(PermissionSet::of_roles(&subject.effective_roles()))?;
            let now = self.context.now();
            let leaf = Leaf {
                principal: &subject,
                key: csr.public_key(),
                validity: request.validity,
                description: &request.description,
                kind: IssuanceKind::Issue,
                lineage: None,
                job: None,
                request: request
                    .request_id
                    .clone()
                    .map(|id| request_key(caller, "IssueCertificate", id, request)),
            };
            issue_leaf(&self.context, leaf, now, permit.audit(now, "certificate.issue", &subject.id)).await
        })
        .await?;
        self.context.counters.issued.fetch_add(1, Relaxed);
        Ok(issued)
    }

    /// Makes a certificate known that one of our issuers signed outside the server.
    ///
    /// # Errors
    /// `invalid-argument` naming what in it is not as ours are; `already-exists`.
    pub async fn register(
        &self,
        caller: &Caller,
        id: &PrincipalId,
        certificate: &[u8],
        description: &str,
    ) -> Result<Certificate> {
        caller.permit::<may::CertsManage>(Target::Any).map(drop)?;
        check_text("description", description)?;
        let der = &single_certificate(certificate)?;
        for_principal(&self.context, id, |subject| async move {
            let permit = caller.permit::<may::CertsManage>(Target::Any)?;
            caller.require_to_confer(PermissionSet::of_roles(&subject.effective_roles()))?;
            let now = self.context.now();
            let record = registered_record(&self.context, &subject, der, description, now)?;
            let mut audit = permit.audit(now, "certificate.register", &subject.id);
            audit.detail.insert("serial".to_owned(), record.serial.to_string());
            let issuance = Issuance {
                certificate: record.clone(),
                kind: IssuanceKind::Register,
                principal_version: subject.version,
                request: None,
                audit,
            };
            self.context.stores.certificates.record_issued(issuance).await.map(|_| record)
        })
        .await
    }

    /// Renews the caller's own certificate for the key that the CSR proves. A retry with the same key gets the same
    /// successor.
    ///
    /// # Errors
    /// `lineage-forked`, `certificate-ended`, those of a CSR.
    pub async fn renew(&self, caller: &Caller, csr: &[u8]) -> Result<Renewed> {
        caller.permit::<may::SelfService>(Target::Any).map(drop)?;
        if let Some(job) = caller.job() {
            return Err(Error::new(
                Label::PermissionDenied,
                format!("this is the certificate of job {}, which the worker that runs it renews", job.id),
            ));
        }
        let Some(reference) = caller.certificate() else {
            return Err(Error::new(
                Label::NoCertificate,
                "there is no certificate to renew on this connection",
            ));
        };
        let csr = verify_csr(csr, &self.context.settings.accepted_keys)?;
        let renewed = retrying(|| self.renew_once(caller, reference, &csr)).await;
        match &renewed {
            Ok(renewed) => {
                self.context.counters.renewed.fetch_add(1, Relaxed);
                for standing in self.context.live.of_certificate(&reference) {
                    standing.retire_at(renewed.predecessor_retire_at);
                }
            }
            Err(error) if error.label() == Label::LineageForked => self.note_fork(caller, reference).await?,
            Err(_) => {}
        }
        renewed
    }

    /// One certificate.
    ///
    /// # Errors
    /// `not-found`, `ambiguous-serial`.
    pub async fn get(&self, caller: &Caller, name: &CertificateName) -> Result<Certificate> {
        caller.permit::<may::PrincipalsRead>(Target::Any).map(drop)?;
        self.find(name).await
    }

    /// Certificates, newest first.
    ///
    /// # Errors
    /// `page-token`.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: CertificateFilter,
        page: &PageRequest,
    ) -> Result<Page<Certificate>> {
        caller.permit::<may::PrincipalsRead>(Target::Any).map(drop)?;
        let filter = CertificateFilter { now: self.context.now(), ..filter };
        self.context.stores.certificates.list_certificates(&filter, page).await
    }

    /// Revokes, or with `dry_run` only says what would be. In force on this server when it returns.
    ///
    /// # Errors
    /// `not-found`, `ambiguous-serial`.
    pub async fn revoke(
        &self,
        caller: &Caller,
        target: &RevokeTarget,
        reason: RevocationReason,
        dry_run: bool,
    ) -> Result<Vec<CertificateRef>> {
        let permit = caller.permit::<may::CertsManage>(Target::Any)?;
        let now = self.context.now();
        let target = match target {
            RevokeTarget::Certificate(name) => {
                RevocationTarget::Certificate(self.find(name).await?.reference())
            }
            RevokeTarget::Principal(id) => {
                RevocationTarget::Principal(principal(&self.context, id).await?.id)
            }
        };
        if dry_run {
            return self.context.stores.certificates.would_revoke(&target, now, MAX_NAMED).await;
        }
        let named = match &target {
            RevocationTarget::Certificate(reference) => reference.serial.to_string(),
            RevocationTarget::Principal(id) => id.to_string(),
        };
        let mut audit = permit.audit(now, "certificate.revoke", named);
        audit.detail.insert("reason".to_owned(), reason.to_string());
        let revoked = self.context.stores.certificates.revoke(&target, reason, audit).await?;
        catch_up(&self.context).await?;
        self.context.counters.revoked.fetch_add(revoked.len() as u64, Relaxed);
        Ok(revoked)
    }

    async fn find(&self, name: &CertificateName) -> Result<Certificate> {
        match name {
            CertificateName::Fingerprint(fingerprint) => {
                let found = self.context.stores.certificates.get_by_fingerprint(fingerprint).await?;
                found.ok_or_else(|| Error::not_found("certificate", fingerprint))
            }
            CertificateName::Serial(serial) => {
                let mut found = self.context.stores.certificates.get_by_serial(serial).await?;
                match (found.pop(), found.is_empty()) {
                    (Some(certificate), true) => Ok(certificate),
                    (Some(_), false) => Err(Error::new(
                        Label::AmbiguousSerial,
                        format!("two issuers have signed a certificate {serial}: name it by its fingerprint"),
                    )),
                    (None, _) => Err(Error::not_found("certificate", serial)),
                }
            }
        }
    }

    async fn renew_once(
        &self,
        caller: &Caller,
        reference: CertificateRef,
        csr: &VerifiedCsr,
    ) -> Result<Renewed> {
        let permit = caller.permit::<may::SelfService>(Target::Any)?;
        let now = self.context.now();
        let identity = self.context.stores.certificates.identity(&reference).await?;
        let identity = identity.ok_or_else(|| Error::not_found("certificate", reference.serial))?;
        let predecessor = identity.certificate;
        let overlap_end = now.plus(self.context.settings.overlap);
        let retire_at = predecessor.retire_at.unwrap_or(overlap_end).min(predecessor.expires_at);
        let leaf = Leaf {
            principal: &identity.principal,
            key: csr.public_key(),
            validity: None,
            description: &predecessor.description,
            kind: IssuanceKind::Renew { predecessor: reference, retire_at },
            lineage: Some(predecessor.lineage_id),
            job: None,
            request: None,
        };
        let mut audit = permit.audit(now, "certificate.renew", &identity.principal.id);
        audit.detail.insert("predecessor".to_owned(), reference.serial.to_string());
        let issued = issue_leaf(&self.context, leaf, now, audit).await?;
        Ok(Renewed { issued, predecessor_retire_at: retire_at })
    }

    /// A second key renewed a certificate whose successor is in use: one of the two is not its owner's.
    async fn note_fork(&self, caller: &Caller, reference: CertificateRef) -> Result<()> {
        self.context.counters.forked.fetch_add(1, Relaxed);
        let now = self.context.now();
        let entry = refusal_entry(caller, now, "certificate.renew", reference.serial, Label::LineageForked);
        self.context.stores.audit.record(entry).await?;
        tracing::error!(principal = %caller.principal_id(), serial = %reference.serial, "a lineage was forked");
        if self.context.settings.on_fork == OnFork::Suspend {
            let change = StatusChange {
                status: PrincipalStatus::Suspended,
                reason: "a second key tried to renew a certificate that was renewed".to_owned(),
                revoke: None,
                keep_an_admin: true,
            };
            let audit = system_entry(now, "server", "principal.suspend", caller.principal_id());
            self.context.stores.principals.set_status(caller.principal_id(), change, audit).await?;
            catch_up(&self.context).await?;
        }
        Ok(())
    }
}

/// What a leaf is made of.
pub(crate) struct Leaf<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) key: &'a SubjectPublicKey,
    pub(crate) validity: Option<Duration>,
    pub(crate) description: &'a str,
    pub(crate) kind: IssuanceKind,
    pub(crate) lineage: Option<LineageId>,
    /// The job that it is to be, whose owner is the principal.
    pub(crate) job: Option<CertifiedJob>,
    pub(crate) request: Option<RequestKey>,
}

impl Leaf<'_> {
    /// What the certificate is to say.
    fn params(&self, context: &Context, serial: Serial, now: Timestamp, not_after: Timestamp) -> LeafParams {
        let principal = self.principal;
        let of_owner = LeafParams {
            serial,
            public_key: self.key.clone(),
            common_name: principal.id.to_string(),
            profile: principal.principal_type.into(),
            uri: Some(spiffe_id(context, principal)),
            dns_names: principal.dns_names.clone(),
            ip_addresses: Vec::new(),
            email: email_of(principal),
            principal: Some((principal.principal_type, principal.id.clone())),
            not_before: now.floor_second().minus(BACKDATE),
            not_after,
        };
        match &self.job {
            None => of_owner,
            Some(job) => LeafParams {
                common_name: job.id.to_string(),
                profile: Profile::Job,
                uri: Some(job_spiffe_id(context, &job.id)),
                dns_names: Vec::new(),
                email: None,
                ..of_owner
            },
        }
    }
}

/// The one way to a leaf: prepare and lint, sign, then one transaction; only after its commit does the certificate
/// leave. The caller has authorized, and `audit` says for what.
pub(crate) async fn issue_leaf(
    context: &Context,
    leaf: Leaf<'_>,
    now: Timestamp,
    mut audit: AuditEntry,
) -> Result<IssuedCertificate> {
    require_active(leaf.principal)?;
    let issuers = context.issuers.current();
    let signing = issuers.signing()?;
    let validity = leaf.validity.unwrap_or(Duration::MAX).min(context.settings.validity_of(leaf.principal));
    let not_after = now.floor_second().plus(validity).min(signing.issuer.certificate.not_after());
    let serial = Serial::new(now, &*context.random);
    let params = leaf.params(context, serial, now, not_after);
    let prepared = prepare_leaf(&signing.issuer.certificate, &params, &context.settings.oid_arc)?;
    let signed = prepared.sign(&*signing.signer).await?;
    audit.detail.insert("serial".to_owned(), serial.to_string());
    let certificate = Certificate {
        serial,
        issuer_id: signing.issuer.record.id,
        principal_id: leaf.principal.id.clone(),
        principal_type: leaf.principal.principal_type,
        fingerprint: signed.fingerprint(),
        public_key: leaf.key.fingerprint(),
        subject_dn: signed.subject_dn().to_owned(),
        profile: params.profile,
        labels: leaf.principal.metadata.clone(),
        issued_at: now,
        expires_at: not_after,
        retire_at: None,
        first_seen_at: None,
        lineage_id: leaf.lineage.unwrap_or_else(|| LineageId::new(now, &*context.random)),
        predecessor: predecessor_of(&leaf.kind),
        revocation: None,
        job: leaf.job,
        description: leaf.description.to_owned(),
        der: signed.into_der(),
    };
    let issuance = Issuance {
        certificate: certificate.clone(),
        kind: leaf.kind,
        principal_version: leaf.principal.version,
        request: leaf.request,
        audit,
    };
    let certificate = match context.stores.certificates.record_issued(issuance).await? {
        Issued::New => certificate,
        Issued::Existing(existing) => *existing,
    };
    Ok(IssuedCertificate { chain_pem: issuers.chain_pem(&certificate.issuer_id), certificate })
}

/// A job's SPIFFE id.
pub(crate) fn job_spiffe_id(context: &Context, id: &JobId) -> String {
    format!("spiffe://{}/job/{id}", context.settings.trust_domain)
}

/// The principal's SPIFFE id.
pub(crate) fn spiffe_id(context: &Context, principal: &Principal) -> String {
    let domain = &context.settings.trust_domain;
    format!("spiffe://{domain}/{}/{}", principal.principal_type, principal.id.uri_segment())
}

fn email_of(principal: &Principal) -> Option<String> {
    let has_email = principal.principal_type != PrincipalType::Service && !principal.email.is_empty();
    has_email.then(|| principal.email.clone())
}

fn predecessor_of(kind: &IssuanceKind) -> Option<CertificateRef> {
    match kind {
        IssuanceKind::Renew { predecessor, .. } => Some(*predecessor),
        IssuanceKind::Issue
        | IssuanceKind::Register
        | IssuanceKind::Enrol { .. }
        | IssuanceKind::Job { .. } => None,
    }
}

pub(crate) fn require_active(principal: &Principal) -> Result<()> {
    if principal.status == PrincipalStatus::Active {
        return Ok(());
    }
    Err(Error::new(
        Label::PrincipalNotActive,
        format!("the principal {} is {}: nothing is issued to it", principal.id, principal.status),
    ))
}

fn check_requested_validity(validity: Option<Duration>) -> Result<()> {
    let allowed = Settings::MIN_VALIDITY..=Settings::MAX_VALIDITY;
    if validity.is_none_or(|validity| allowed.contains(&validity)) {
        return Ok(());
    }
    Err(Error::invalid("validity", "a certificate's life is between 5 minutes and 90 days"))
}

fn request_key(caller: &Caller, method: &'static str, id: RequestId, request: &IssueRequest) -> RequestKey {
    let mut content = Vec::new();
    for part in [
        request.principal_id.as_str().as_bytes(),
        &request.csr,
        request.description.as_bytes(),
        format!("{:?}", request.validity).as_bytes(),
    ] {
        content.extend_from_slice(&(part.len() as u64).to_be_bytes());
        content.extend_from_slice(part);
    }
    RequestKey { caller: caller.principal_id().clone(), method, id, content: sha256(&content) }
}

fn single_certificate(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() > 64 * 1024 {
        return Err(Error::new(Label::TooLarge, "a certificate is at most 64 KiB").with_field("certificate"));
    }
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Ok(bytes.to_vec());
    }
    let mut all = airunner_pki::certificates_from_pem(bytes)
        .map_err(|error| Error::invalid("certificate", error.message().to_owned()))?;
    match (all.pop(), all.is_empty()) {
        (Some(der), true) => Ok(der),
        _ => Err(Error::invalid("certificate", "send one certificate, the leaf")),
    }
}

/// The record of a certificate that was signed elsewhere, once everything in it is as in our own.
fn registered_record(
    context: &Context,
    subject: &Principal,
    der: &[u8],
    description: &str,
    now: Timestamp,
) -> Result<Certificate> {
    let parsed = parse_certificate(der, &context.settings.oid_arc)
        .map_err(|error| Error::invalid("certificate", error.message().to_owned()))?;
    let issuers = context.issuers.current();
    let issuer_id = parsed.authority_key_id.as_deref().and_then(|key| context.issuers.id_of_key(key));
    let issuer = issuer_id.and_then(|id| issuers.get(&id)).ok_or_else(|| {
        Error::invalid("certificate", "none of this environment's issuing CAs signed this certificate")
    })?;
    verify_issued_by(der, &issuer.certificate)
        .map_err(|error| Error::invalid("certificate", error.message().to_owned()))?;
    check_registered(context, subject, &parsed, now)?;
    Ok(Certificate {
        serial: parsed.serial,
        issuer_id: issuer.record.id,
        principal_id: subject.id.clone(),
        principal_type: subject.principal_type,
        fingerprint: parsed.fingerprint,
        public_key: parsed.public_key.fingerprint(),
        subject_dn: parsed.subject_dn,
        profile: Profile::from(subject.principal_type),
        labels: subject.metadata.clone(),
        issued_at: now,
        expires_at: parsed.not_after,
        retire_at: None,
        first_seen_at: None,
        lineage_id: LineageId::new(now, &*context.random),
        predecessor: None,
        revocation: None,
        job: None,
        description: description.to_owned(),
        der: der.to_vec(),
    })
}

fn check_registered(
    context: &Context,
    subject: &Principal,
    parsed: &ParsedCertificate,
    now: Timestamp,
) -> Result<()> {
    let refuse = |why: String| Err(Error::invalid("certificate", why));
    require_active(subject)?;
    if parsed.is_ca {
        return refuse("a CA certificate is no principal's".to_owned());
    }
    if parsed.not_after <= now {
        return refuse("the certificate has expired".to_owned());
    }
    if parsed.principal != Some((subject.principal_type, subject.id.clone())) {
        let (domain, id) = (&context.settings.trust_domain, &subject.id);
        return refuse(format!("its extensions don't name {id} ({}) of {domain}", subject.principal_type));
    }
    let foreign = parsed.dns_names.iter().find(|name| !subject.dns_names.contains(name));
    foreign.map_or(Ok(()), |name| {
        refuse(format!("it names {name}, which is not among the principal's dns_names"))
    })
}
