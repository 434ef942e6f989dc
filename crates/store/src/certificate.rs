//! The intents on certificates. How one comes to be recorded is in `issuance.rs`.

use airunner_core::{
    AuditEntry, Certificate, CertificateFilter, CertificateRef, CertificateStore, Error, Fingerprint,
    Identity, Intent, Issuance, Issued, IssuerId, Label, Page, PageRequest, Result, Revocation,
    RevocationReason, RevocationTarget, Serial, Timestamp,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    issuance,
    paging::Tokens,
    rows::{Place, Rows},
};

const TOKENS: Tokens = Tokens('c');

#[async_trait]
impl<E: Engine> CertificateStore for Ports<E> {
    async fn record_issued(&self, issuance: Issuance) -> Result<Issued> {
        self.write(Intent::RecordIssued, move |rows| issuance::record(rows, &issuance)).await
    }

    async fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>> {
        let reference = *reference;
        self.read(Intent::Identity, move |rows| rows.identity(&reference)).await
    }

    async fn identities(&self, references: &[CertificateRef]) -> Result<Vec<Option<Identity>>> {
        if references.len() > PageRequest::MAX_SIZE as usize {
            return Err(Error::new(Label::TooLarge, "ask for at most 1,000 certificates at a time"));
        }
        let references = references.to_vec();
        self.read(Intent::Identities, move |rows| rows.identities(&references)).await
    }

    async fn mark_seen(&self, reference: &CertificateRef, now: Timestamp) -> Result<bool> {
        let reference = *reference;
        self.write(Intent::MarkSeen, move |rows| mark_seen(rows, &reference, now)).await
    }

    async fn get_by_serial(&self, serial: &Serial) -> Result<Vec<Certificate>> {
        let serial = *serial;
        self.read(Intent::GetBySerial, move |rows| rows.certificates_of_serial(&serial)).await
    }

    async fn get_by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>> {
        let fingerprint = *fingerprint;
        self.read(Intent::GetByFingerprint, move |rows| rows.certificate_of_fingerprint(&fingerprint)).await
    }

    async fn list_certificates(
        &self,
        filter: &CertificateFilter,
        page: &PageRequest,
    ) -> Result<Page<Certificate>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(Intent::ListCertificates, move |rows| list(rows, &filter, &page)).await
    }

    async fn would_revoke(
        &self,
        target: &RevocationTarget,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<CertificateRef>> {
        let target = target.clone();
        self.read(Intent::WouldRevoke, move |rows| revocable(rows, &target, now, limit as usize)).await
    }

    async fn revoke(
        &self,
        target: &RevocationTarget,
        reason: RevocationReason,
        audit: AuditEntry,
    ) -> Result<Vec<CertificateRef>> {
        let (wanted, now) = (target.clone(), audit.at);
        let act = move |rows: &mut dyn Rows| revoke(rows, &wanted, reason, E::BATCH, &audit);
        let mut revoked = self.write(Intent::Revoke, act).await?;
        if revoked.len() >= E::BATCH {
            revoked.extend(self.revoke_rest(target.clone(), reason, now).await?);
        }
        Ok(revoked)
    }

    async fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        let limit = limit.min(PageRequest::MAX_SIZE);
        self.read(Intent::NearestExpiries, move |rows| rows.nearest_expiries(now, limit)).await
    }
}

impl<E: Engine> Ports<E> {
    /// Revokes what an act on a principal left over because it had more certificates than one transaction holds. The
    /// act and its audit entry stand by then, and nothing new is issued to whoever it denied.
    pub(crate) async fn revoke_rest(
        &self,
        target: RevocationTarget,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Vec<CertificateRef>> {
        let mut revoked = Vec::new();
        if E::BATCH == usize::MAX {
            return Ok(revoked);
        }
        loop {
            let wanted = target.clone();
            let act = move |rows: &mut dyn Rows| take_away(rows, &wanted, reason, E::BATCH, now);
            let some = self.write(Intent::Revoke, act).await?;
            if some.is_empty() {
                return Ok(revoked);
            }
            revoked.extend(some);
        }
    }
}

fn mark_seen(rows: &mut dyn Rows, reference: &CertificateRef, now: Timestamp) -> Result<bool> {
    let certificate = known(rows, reference)?;
    if certificate.revocation.is_none() && certificate.first_seen_at.is_none() {
        rows.set_first_seen(reference, now)?;
    }
    Ok(certificate.revocation.is_none())
}

fn list(rows: &dyn Rows, filter: &CertificateFilter, page: &PageRequest) -> Result<Page<Certificate>> {
    let after = TOKENS.read(page, Place::read)?;
    let wanted = |certificate: &Certificate| is_wanted(filter, certificate);
    TOKENS.collect(page, wanted, Place::write, |visit| rows.scan_certificates(filter, after, visit))
}

fn is_wanted(filter: &CertificateFilter, certificate: &Certificate) -> bool {
    let holder = filter.principal_id.as_ref();
    let expires = certificate.expires_at;
    holder.is_none_or(|id| id.folded() == certificate.principal_id.folded())
        && filter.expires_before.is_none_or(|before| filter.now <= expires && expires < before)
        && filter.revoked.is_none_or(|revoked| revoked == certificate.revocation.is_some())
        && (!filter.active || certificate.is_active(filter.now))
}

fn revocable(
    rows: &dyn Rows,
    target: &RevocationTarget,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<CertificateRef>> {
    match target {
        RevocationTarget::Principal(id) => {
            rows.standing(id)?.ok_or_else(|| Error::not_found("principal", id))?;
            rows.revocable(id, now, limit)
        }
        RevocationTarget::Certificate(reference) => {
            let certificate = known(rows, reference)?;
            let open = certificate.revocation.is_none() && certificate.expires_at > now && limit > 0;
            Ok(if open { vec![*reference] } else { Vec::new() })
        }
    }
}

fn revoke(
    rows: &mut dyn Rows,
    target: &RevocationTarget,
    reason: RevocationReason,
    batch: usize,
    audit: &AuditEntry,
) -> Result<Vec<CertificateRef>> {
    let references = take_away(rows, target, reason, batch, audit.at)?;
    rows.insert_audit(audit)?;
    Ok(references)
}

fn take_away(
    rows: &mut dyn Rows,
    target: &RevocationTarget,
    reason: RevocationReason,
    batch: usize,
    now: Timestamp,
) -> Result<Vec<CertificateRef>> {
    let references = revocable(rows, target, now, batch)?;
    for reference in &references {
        rows.revoke_certificate(reference, Revocation { at: now, reason })?;
    }
    Ok(references)
}

fn known(rows: &dyn Rows, reference: &CertificateRef) -> Result<Certificate> {
    let certificate = rows.certificate(reference)?;
    certificate.ok_or_else(|| Error::not_found("certificate", reference.serial))
}

/// The refusal of a serial number that its issuer has used.
pub fn serial_taken(serial: &Serial, issuer: &IssuerId) -> Error {
    Error::new(
        Label::AlreadyExists,
        format!("issuer {issuer} has a certificate of serial number {serial}: draw another and sign again"),
    )
}
