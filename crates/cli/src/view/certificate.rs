//! Certificates.

use std::collections::BTreeMap;

use airunner_core::RevocationReason;
use airunner_proto::ca::v1 as pb;
use serde::Serialize;

use super::{Fields, pairs, principal::type_name, text, time};
use crate::report::Human;

/// A certificate as the registry has it.
#[derive(Serialize)]
pub(crate) struct CertificateView {
    pub(crate) serial_number: String,
    issuer_id: String,
    principal_id: String,
    principal_type: &'static str,
    fingerprint: String,
    subject_dn: String,
    profile: String,
    labels: BTreeMap<String, String>,
    issued_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retire_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen_at: Option<String>,
    lineage_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<String>,
    revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    pub(crate) pem: String,
}

impl From<pb::Certificate> for CertificateView {
    fn from(certificate: pb::Certificate) -> Self {
        Self {
            principal_type: type_name(certificate.principal_type),
            labels: certificate.labels.into_iter().collect(),
            issued_at: time(certificate.issued_at.as_ref()),
            expires_at: time(certificate.expires_at.as_ref()),
            retire_at: time(certificate.retire_at.as_ref()),
            first_seen_at: time(certificate.first_seen_at.as_ref()),
            predecessor: text(certificate.predecessor),
            revoked_at: time(certificate.revoked_at.as_ref()),
            revocation_reason: certificate.revoked.then(|| reason_name(certificate.revocation_reason)),
            revoked: certificate.revoked,
            description: text(certificate.description),
            serial_number: certificate.serial_number,
            issuer_id: certificate.issuer_id,
            principal_id: certificate.principal_id,
            fingerprint: certificate.fingerprint,
            subject_dn: certificate.subject_dn,
            profile: certificate.profile,
            lineage_id: certificate.lineage_id,
            pem: certificate.pem,
        }
    }
}

impl CertificateView {
    /// The head of a table of certificates.
    pub(crate) const HEAD: &'static [&'static str] =
        &["serial", "principal", "type", "issued", "expires", "status"];

    pub(crate) fn row(&self, now: &str) -> Vec<String> {
        vec![
            self.serial_number.clone(),
            self.principal_id.clone(),
            self.principal_type.to_owned(),
            self.issued_at.clone().unwrap_or_default(),
            self.expires_at.clone().unwrap_or_default(),
            self.status(now),
        ]
    }

    pub(crate) fn fields(&self, now: &str) -> Human {
        Fields::new()
            .with("serial", &self.serial_number)
            .with("principal", format!("{} ({})", self.principal_id, self.principal_type))
            .with("status", self.status(now))
            .with("subject", &self.subject_dn)
            .with("profile", &self.profile)
            .maybe("issued", self.issued_at.as_ref())
            .maybe("expires", self.expires_at.as_ref())
            .maybe("first seen", self.first_seen_at.as_ref())
            .maybe("retires", self.retire_at.as_ref())
            .maybe("predecessor", self.predecessor.as_ref())
            .with("lineage", &self.lineage_id)
            .with("issuer", &self.issuer_id)
            .with("SHA-256", &self.fingerprint)
            .list("labels", &pairs(&self.labels))
            .maybe("description", self.description.as_ref())
            .done()
    }

    /// A word for where it is in its life, at `now`. Times in RFC 3339 and UTC sort as texts.
    pub(crate) fn status(&self, now: &str) -> String {
        let is_past = |at: &Option<String>| at.as_deref().is_some_and(|at| at <= now);
        match self.revocation_reason {
            Some(reason) => format!("revoked ({reason})"),
            None if is_past(&self.expires_at) => "expired".to_owned(),
            None if is_past(&self.retire_at) => "retired".to_owned(),
            None => "active".to_owned(),
        }
    }
}

/// The number of a reason.
pub(crate) fn reason_number(reason: RevocationReason) -> i32 {
    use pb::RevocationReason as Wire;
    match reason {
        RevocationReason::Unspecified => Wire::Unspecified,
        RevocationReason::KeyCompromise => Wire::KeyCompromise,
        RevocationReason::CaCompromise => Wire::CaCompromise,
        RevocationReason::AffiliationChanged => Wire::AffiliationChanged,
        RevocationReason::Superseded => Wire::Superseded,
        RevocationReason::CessationOfOperation => Wire::CessationOfOperation,
        RevocationReason::CertificateHold => Wire::CertificateHold,
        RevocationReason::PrivilegeWithdrawn => Wire::PrivilegeWithdrawn,
        RevocationReason::AaCompromise => Wire::AaCompromise,
    }
    .into()
}

fn reason_name(number: i32) -> &'static str {
    RevocationReason::ALL
        .iter()
        .find(|reason| reason_number(**reason) == number)
        .map_or("unknown", |reason| reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_s_status_is_the_first_that_holds() {
        let wire = |revoked, expires: i64, retires: Option<i64>| {
            let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
            CertificateView::from(pb::Certificate {
                revoked,
                revocation_reason: 1,
                expires_at: Some(at(expires)),
                retire_at: retires.map(at),
                ..pb::Certificate::default()
            })
        };
        let now = airunner_core::Timestamp::from_millis(1_000_000).to_string();
        assert_eq!(wire(true, 500, None).status(&now), "revoked (keyCompromise)");
        assert_eq!(wire(false, 500, None).status(&now), "expired");
        assert_eq!(wire(false, 2_000, Some(900)).status(&now), "retired");
        assert_eq!(wire(false, 2_000, Some(1_900)).status(&now), "active");
    }
}
