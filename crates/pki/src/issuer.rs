//! Issuer certificates.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::{Fingerprint, KeyAlgorithm, Result, Timestamp};

use crate::SubjectPublicKey;

#[derive(Clone, Debug)]
pub struct IssuerCertificate;
impl IssuerCertificate {
    pub fn parse(der: &[u8]) -> Result<Self> {
        todo!()
    }
    pub fn der(&self) -> &[u8] {
        todo!()
    }
    pub fn subject_key_id(&self) -> &[u8] {
        todo!()
    }
    pub fn subject_dn(&self) -> &str {
        todo!()
    }
    pub fn public_key(&self) -> &SubjectPublicKey {
        todo!()
    }
    pub fn algorithm(&self) -> KeyAlgorithm {
        todo!()
    }
    pub fn not_before(&self) -> Timestamp {
        todo!()
    }
    pub fn not_after(&self) -> Timestamp {
        todo!()
    }
    pub fn fingerprint(&self) -> Fingerprint {
        todo!()
    }
    pub fn is_self_signed(&self) -> bool {
        todo!()
    }
}
