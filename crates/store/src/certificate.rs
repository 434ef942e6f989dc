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
    rows::{CertificatePlace, Rows},
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
        let target = target.clone();
        self.write(Intent::Revoke, move |rows| revoke(rows, &target, reason, &audit)).await
    }

    async fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        let limit = limit.min(PageRequest::MAX_SIZE);
        self.read(Intent::NearestExpiries, move |rows| rows.nearest_expiries(now, limit)).await
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
    let after = TOKENS.read(page, read_place)?;
    let wanted = |certificate: &Certificate| is_wanted(filter, certificate);
    TOKENS.collect(page, wanted, write_place, |visit| rows.scan_certificates(filter, after, visit))
}

fn write_place(place: &CertificatePlace) -> String {
    format!("{}.{}", place.expires_at.as_millis(), place.number)
}

fn read_place(text: &str) -> Option<CertificatePlace> {
    let (expires_at, number) = text.split_once('.')?;
    let expires_at = Timestamp::from_millis(expires_at.parse().ok()?);
    Some(CertificatePlace { expires_at, number: number.parse().ok()? })
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
    audit: &AuditEntry,
) -> Result<Vec<CertificateRef>> {
    let references = revocable(rows, target, audit.at, usize::MAX)?;
    for reference in &references {
        rows.revoke_certificate(reference, Revocation { at: audit.at, reason })?;
    }
    rows.insert_audit(audit)?;
    Ok(references)
}

fn known(rows: &dyn Rows, reference: &CertificateRef) -> Result<Certificate> {
    let certificate = rows.certificate(reference)?;
    certificate.ok_or_else(|| Error::not_found("certificate", reference.serial))
}

/// The refusal of a serial number that its issuer has used.
pub(crate) fn serial_taken(serial: &Serial, issuer: &IssuerId) -> Error {
    Error::new(
        Label::AlreadyExists,
        format!("issuer {issuer} has a certificate of serial number {serial}: draw another and sign again"),
    )
}
