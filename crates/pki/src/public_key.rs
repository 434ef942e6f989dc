//! Public keys.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::{Fingerprint, KeyAlgorithm, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPublicKey;
impl SubjectPublicKey {
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        todo!()
    }
    pub fn algorithm(&self) -> KeyAlgorithm {
        todo!()
    }
    pub fn spki(&self) -> &[u8] {
        todo!()
    }
    pub fn fingerprint(&self) -> Fingerprint {
        todo!()
    }
    /// With the key's own digest (`Signer::sign` makes such signatures).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        todo!()
    }
}
