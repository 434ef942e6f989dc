//! How a certificate looks.

use std::collections::BTreeMap;

use airunner_core::Timestamp;
use airunner_proto::ca::v1::{self as pb, RevocationReason};
use serde::Serialize;

use super::{
    cell,
    moment::{Moment, beside, told},
    pairs,
    principal::principal_type,
    some, time, word,
};

/// A certificate, as the registry has it.
#[derive(Debug, Serialize)]
pub(crate) struct CertificateView {
    pub(crate) serial_number: String,
    issuer_id: String,
    pub(crate) principal_id: String,
    principal_type: String,
    fingerprint: String,
    subject_dn: String,
    profile: String,
    labels: BTreeMap<String, String>,
    issued_at: Option<Moment>,
    pub(crate) expires_at: Option<Moment>,
    retire_at: Option<Moment>,
    first_seen_at: Option<Moment>,
    lineage_id: String,
    predecessor: Option<String>,
    revoked: bool,
    revoked_at: Option<Moment>,
    revocation_reason: Option<String>,
    description: Option<String>,
    job_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pem: Option<String>,
}

impl CertificateView {
    /// What a list shows of one: all but the certificate itself.
    pub(crate) fn of_list(certificate: pb::Certificate) -> Self {
        Self { pem: None, ..Self::from(certificate) }
    }

    /// The headers of [`CertificateView::row`].
    pub(crate) const HEADERS: &[&str] = &["SERIAL NUMBER", "PRINCIPAL", "STATUS", "EXPIRES", "DESCRIPTION"];

    /// A row of a list, as it is at `now`.
    pub(crate) fn row(&self, now: Timestamp) -> [String; 5] {
        let (serial, principal) = (self.serial_number.clone(), self.principal_id.clone());
        let of_job = || self.job_id.as_ref().map(|id| format!("job {id}")).unwrap_or_default();
        let (expires, description) =
            (beside(self.expires_at, now), self.description.clone().unwrap_or_else(of_job));
        [serial, principal, self.status().to_owned(), expires, description]
    }

    /// One of those that an act would hit.
    pub(crate) fn line(&self, now: Timestamp) -> String {
        let expires = self.expires_at.map(|at| format!("expires {}", at.beside(now))).unwrap_or_default();
        format!("  {}  {}  {expires}", self.serial_number, self.principal_id)
    }

    /// What the record says; whether its time is over is beside it.
    fn status(&self) -> &'static str {
        match (self.revoked, &self.retire_at) {
            (true, _) => "revoked",
            (false, Some(_)) => "renewed",
            (false, None) => "issued",
        }
    }

    /// Everything, for people who look at `now`.
    pub(crate) fn fields(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        vec![
            ("serial number", self.serial_number.clone()),
            ("principal", self.principal_id.clone()),
            ("type", self.principal_type.clone()),
            ("profile", self.profile.clone()),
            ("job", cell(self.job_id.as_ref())),
            ("subject", self.subject_dn.clone()),
            ("fingerprint", self.fingerprint.clone()),
            ("issuer", self.issuer_id.clone()),
            ("issued", told(self.issued_at, now)),
            ("expires", told(self.expires_at, now)),
            ("renewed, ends", told(self.retire_at, now)),
            ("first seen", told(self.first_seen_at, now)),
            ("lineage", self.lineage_id.clone()),
            ("renewed from", cell(self.predecessor.as_ref())),
            ("revoked", told(self.revoked_at, now)),
            ("revoked because", cell(self.revocation_reason.as_ref())),
            ("labels", pairs(&self.labels)),
            ("description", cell(self.description.as_ref())),
        ]
    }
}

impl From<pb::Certificate> for CertificateView {
    fn from(certificate: pb::Certificate) -> Self {
        let reason = certificate.revocation_reason;
        let reason =
            certificate.revoked.then(|| word(reason, RevocationReason::as_str_name, "REVOCATION_REASON_"));
        Self {
            serial_number: certificate.serial_number,
            issuer_id: certificate.issuer_id,
            principal_id: certificate.principal_id,
            principal_type: principal_type(certificate.principal_type),
            fingerprint: certificate.fingerprint,
            subject_dn: certificate.subject_dn,
            profile: certificate.profile,
            labels: certificate.labels.into_iter().collect(),
            issued_at: time(certificate.issued_at.as_ref()),
            expires_at: time(certificate.expires_at.as_ref()),
            retire_at: time(certificate.retire_at.as_ref()),
            first_seen_at: time(certificate.first_seen_at.as_ref()),
            lineage_id: certificate.lineage_id,
            predecessor: some(&certificate.predecessor),
            revoked: certificate.revoked,
            revoked_at: time(certificate.revoked_at.as_ref()),
            revocation_reason: reason,
            description: some(&certificate.description),
            job_id: some(&certificate.job_id),
            pem: some(&certificate.pem),
        }
    }
}
