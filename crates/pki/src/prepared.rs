//! Signing what was prepared.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::{Fingerprint, Result, Serial, Signer, Timestamp};

pub struct Prepared;
impl Prepared {
    pub async fn sign(self, signer: &dyn Signer) -> Result<SignedCertificate> {
        todo!()
    }
}
#[derive(Clone, Debug)]
pub struct SignedCertificate;
impl SignedCertificate {
    pub fn der(&self) -> &[u8] {
        todo!()
    }
    pub fn fingerprint(&self) -> Fingerprint {
        todo!()
    }
    pub fn subject_dn(&self) -> &str {
        todo!()
    }
    pub fn serial(&self) -> Serial {
        todo!()
    }
    pub fn not_after(&self) -> Timestamp {
        todo!()
    }
    pub fn into_der(self) -> Vec<u8> {
        todo!()
    }
}
