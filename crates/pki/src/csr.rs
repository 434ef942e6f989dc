//! CSRs.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::{KeyAlgorithm, Result};

use crate::{PrivateKey, SubjectPublicKey};

pub fn create_csr(key: &PrivateKey) -> Result<Vec<u8>> {
    todo!()
}

#[derive(Clone, Debug, Default)]
pub struct AcceptedKeys;
impl AcceptedKeys {
    pub fn new(algorithms: impl IntoIterator<Item = KeyAlgorithm>) -> Self {
        todo!()
    }
    pub fn p384_profile() -> Self {
        todo!()
    }
    pub fn contains(&self, algorithm: KeyAlgorithm) -> bool {
        todo!()
    }
}
pub struct VerifiedCsr;
impl VerifiedCsr {
    pub fn public_key(&self) -> &SubjectPublicKey {
        todo!()
    }
}
pub fn verify_csr(bytes: &[u8], accepted: &AcceptedKeys) -> Result<VerifiedCsr> {
    todo!()
}
