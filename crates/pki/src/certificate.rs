//! Profiles and preparation.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use std::net::IpAddr;

use airunner_core::{DnsName, PrincipalId, PrincipalType, Profile, Result, Serial, Timestamp};

use crate::{IssuerCertificate, OidArc, Prepared, SubjectPublicKey};

#[derive(Clone, Debug)]
pub struct LeafParams {
    pub serial: Serial,
    pub public_key: SubjectPublicKey,
    pub common_name: String,
    pub profile: Profile,
    pub uri: Option<String>,
    pub dns_names: Vec<DnsName>,
    pub ip_addresses: Vec<IpAddr>,
    pub email: Option<String>,
    pub principal: Option<(PrincipalType, PrincipalId)>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

#[derive(Clone, Debug)]
pub struct CaParams {
    pub serial: Serial,
    pub subject: String,
    pub public_key: SubjectPublicKey,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

pub fn prepare_leaf(issuer: &IssuerCertificate, params: &LeafParams, arc: &OidArc) -> Result<Prepared> {
    todo!()
}
pub fn prepare_root(params: &CaParams) -> Result<Prepared> {
    todo!()
}
pub fn prepare_single(params: &CaParams) -> Result<Prepared> {
    todo!()
}
pub fn prepare_issuing(root: &IssuerCertificate, params: &CaParams) -> Result<Prepared> {
    todo!()
}
