//! Private keys.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::{KeyAlgorithm, Result, Secret, Signer};
use async_trait::async_trait;

pub struct PrivateKey;

impl PrivateKey {
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self> {
        todo!()
    }
    pub fn from_pem(pem: &[u8], passphrase: Option<&Secret>) -> Result<Self> {
        todo!()
    }
    pub fn to_pem(&self, passphrase: Option<&Secret>) -> Result<Secret> {
        todo!()
    }
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        todo!()
    }
    pub fn to_pkcs8(&self) -> Secret {
        todo!()
    }
    pub fn algorithm(&self) -> KeyAlgorithm {
        todo!()
    }
    pub fn public_key(&self) -> &[u8] {
        todo!()
    }
    pub fn subject_public_key(&self) -> &crate::SubjectPublicKey {
        todo!()
    }
    pub fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>> {
        todo!()
    }
}

#[async_trait]
impl Signer for PrivateKey {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm()
    }
    fn public_key(&self) -> &[u8] {
        self.public_key()
    }
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.sign_now(message)
    }
}
