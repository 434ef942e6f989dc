//! Certificates read back.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use std::net::IpAddr;

use airunner_core::{DnsName, Fingerprint, PrincipalId, PrincipalType, Result, Serial, Timestamp};

use crate::{IssuerCertificate, OidArc, SubjectPublicKey};

#[derive(Clone, Debug)]
pub struct ParsedCertificate {
    pub serial: Serial,
    pub fingerprint: Fingerprint,
    pub authority_key_id: Option<Vec<u8>>,
    pub subject_dn: String,
    pub common_name: Option<String>,
    pub public_key: SubjectPublicKey,
    pub principal: Option<(PrincipalType, PrincipalId)>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub is_ca: bool,
    pub dns_names: Vec<DnsName>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub emails: Vec<String>,
}
pub fn parse_certificate(der: &[u8], arc: &OidArc) -> Result<ParsedCertificate> {
    todo!()
}
pub fn verify_issued_by(leaf_der: &[u8], issuer: &IssuerCertificate) -> Result<()> {
    todo!()
}
