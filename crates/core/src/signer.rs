//! The port behind which a private key stands: a file's key now, a KMS or a PKCS#11 token by the same trait.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;

/// A key's type, which fixes the digest of its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 5758 section 3.2).
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// ECDSA on P-521 with SHA-512.
    EcdsaP521,
    /// Ed25519 (RFC 8410).
    Ed25519,
}

impl KeyAlgorithm {
    /// The name that settings and messages use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "P-256",
            Self::EcdsaP384 => "P-384",
            Self::EcdsaP521 => "P-521",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// Holds a private key and signs with it.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The key's type.
    fn algorithm(&self) -> KeyAlgorithm;

    /// The public half: a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    fn public_key(&self) -> &[u8];

    /// Signs `message` with the digest that `algorithm` fixes. The signature is as X.509 wants it: a DER
    /// ECDSA-Sig-Value (RFC 3279 section 2.2.3), or 64 bytes for Ed25519.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// Holds private keys that never leave it, as a KMS does, and lends signers over them.
#[async_trait]
pub trait KeyHolder: Send + Sync + 'static {
    /// The signer over the key of this name, which is the holder's own and lasting (in KMS an ARN).
    async fn signer(&self, name: &str) -> Result<Arc<dyn Signer>>;
}
