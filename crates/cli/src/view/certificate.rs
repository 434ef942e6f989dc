//! How a certificate looks.

use std::collections::BTreeMap;

use airunner_proto::ca::v1::{self as pb, RevocationReason};
use serde::Serialize;

use super::{cell, pairs, principal::principal_type, short, some, time, word};

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
    issued_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    retire_at: Option<String>,
    first_seen_at: Option<String>,
    lineage_id: String,
    predecessor: Option<String>,
    revoked: bool,
    revoked_at: Option<String>,
    revocation_reason: Option<String>,
    description: Option<String>,
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

    /// A row of a list.
    pub(crate) fn row(&self) -> [String; 5] {
        let (serial, principal) = (self.serial_number.clone(), self.principal_id.clone());
        let (expires, description) = (short(self.expires_at.as_ref()), cell(self.description.as_ref()));
        [serial, principal, self.status().to_owned(), expires, description]
    }

    /// What the record says; whether its time is over is beside it.
    fn status(&self) -> &'static str {
        match (self.revoked, &self.retire_at) {
            (true, _) => "revoked",
            (false, Some(_)) => "renewed",
            (false, None) => "issued",
        }
    }

    /// Everything, for people.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("serial number", self.serial_number.clone()),
            ("principal", self.principal_id.clone()),
            ("type", self.principal_type.clone()),
            ("profile", self.profile.clone()),
            ("subject", self.subject_dn.clone()),
            ("fingerprint", self.fingerprint.clone()),
            ("issuer", self.issuer_id.clone()),
            ("issued", cell(self.issued_at.as_ref())),
            ("expires", cell(self.expires_at.as_ref())),
            ("renewed, ends", cell(self.retire_at.as_ref())),
            ("first seen", cell(self.first_seen_at.as_ref())),
            ("lineage", self.lineage_id.clone()),
            ("renewed from", cell(self.predecessor.as_ref())),
            ("revoked", cell(self.revoked_at.as_ref())),
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
            pem: some(&certificate.pem),
        }
    }
}
