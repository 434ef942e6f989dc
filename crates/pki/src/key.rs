//! Private keys in memory: made, taken from PKCS#8, and signed with. Their PEM files are `key_file`'s.

use std::fmt;

use airunner_core::{Error, KeyAlgorithm, Label, Result, Secret, Signer};
use async_trait::async_trait;
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    },
};
use pkcs8::{ObjectIdentifier, PrivateKeyInfo};

use crate::{SubjectPublicKey, foreign_key, key_file};

/// A private key in memory, parsed once and wiped when dropped. `Debug` prints its public half only.
pub struct PrivateKey {
    pair: KeyPair,
    pkcs8: Secret,
    public: SubjectPublicKey,
}

enum KeyPair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// A new key, from the crypto library's own randomness: it takes no other.
    ///
    /// # Errors
    /// `internal` if the library has no randomness or memory.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self> {
        Self::new(match ecdsa(algorithm) {
            Some(ecdsa) => KeyPair::Ecdsa(EcdsaKeyPair::generate(ecdsa).map_err(Error::internal)?),
            None => KeyPair::Ed25519(Ed25519KeyPair::generate().map_err(Error::internal)?),
        })
    }

    /// Reads a key file: one PEM block, `PRIVATE KEY` (PKCS#8, RFC 5958) or `ENCRYPTED PRIVATE KEY` (PBES2, RFC 8018
    /// section 6.2) with its passphrase. A passphrase that is not needed is not looked at.
    ///
    /// # Errors
    /// `file`, saying which it is: a missing or a wrong passphrase, an old form of key (with the openssl command that
    /// converts it), a key of a type that is not used here, no key at all, or garbage.
    pub fn from_pem(pem: &[u8], passphrase: Option<&Secret>) -> Result<Self> {
        key_file::open(pem, passphrase)
    }

    /// Writes a key file: `PRIVATE KEY`, or with a passphrase `ENCRYPTED PRIVATE KEY` (PBES2: PBKDF2 with HMAC-SHA-256,
    /// 600,000 iterations, a random salt; AES-256-CBC). Encryption takes tenths of a second, by design.
    ///
    /// # Errors
    /// `file` for an empty passphrase; `internal` if the library has no randomness.
    pub fn to_pem(&self, passphrase: Option<&Secret>) -> Result<Secret> {
        key_file::write(&self.pkcs8, passphrase)
    }

    /// Reads a PKCS#8 PrivateKeyInfo (RFC 5958 section 2). A public key in it must belong to the private one.
    ///
    /// # Errors
    /// `file` if it is malformed or a key of a type that is not used here, which is named.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let algorithm = algorithm(der)?;
        let broken = |_| refuse(&format!("the {} key in it is damaged", algorithm.as_str()));
        Self::new(match ecdsa(algorithm) {
            Some(ecdsa) => KeyPair::Ecdsa(EcdsaKeyPair::from_pkcs8(ecdsa, der).map_err(broken)?),
            None => KeyPair::Ed25519(Ed25519KeyPair::from_pkcs8(der).map_err(broken)?),
        })
    }

    /// The key as PKCS#8 (version 1, which every OpenSSL reads), not encrypted.
    pub fn to_pkcs8(&self) -> Secret {
        self.pkcs8.clone()
    }

    /// The key's type.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public.algorithm()
    }

    /// The public half: a DER SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        self.public.spki()
    }

    /// The public half, as a certificate holds it.
    pub fn subject_public_key(&self) -> &SubjectPublicKey {
        &self.public
    }

    /// `Signer::sign` without the wait: a key in memory signs at once.
    ///
    /// # Errors
    /// `internal` if the library has no randomness.
    pub fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature = match &self.pair {
            KeyPair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            KeyPair::Ed25519(pair) => pair.try_sign(message),
        };
        Ok(signature.map_err(Error::internal)?.as_ref().to_vec())
    }

    fn new(pair: KeyPair) -> Result<Self> {
        let (pkcs8, spki) = match &pair {
            KeyPair::Ecdsa(pair) => (pair.to_pkcs8v1(), pair.public_key().as_der()),
            KeyPair::Ed25519(pair) => (pair.to_pkcs8v1(), pair.public_key().as_der()),
        };
        Ok(Self {
            pkcs8: Secret::new(pkcs8.map_err(Error::internal)?.as_ref().to_vec()),
            public: SubjectPublicKey::recognize(spki.map_err(Error::internal)?.as_ref())?,
            pair,
        })
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

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.public)
    }
}

fn ecdsa(algorithm: KeyAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => Some(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP521 => Some(&ECDSA_P521_SHA512_ASN1_SIGNING),
        KeyAlgorithm::Ed25519 => None,
    }
}

fn algorithm(pkcs8: &[u8]) -> Result<KeyAlgorithm> {
    let info =
        PrivateKeyInfo::try_from(pkcs8).map_err(|_| refuse("it is damaged: there is no PKCS#8 key in it"))?;
    let oid = info.algorithm.oid.to_string();
    match oid.as_str() {
        ED25519 => return Ok(KeyAlgorithm::Ed25519),
        foreign_key::EC_PUBLIC_KEY => {}
        other => return Err(not_used(&foreign_key::algorithm_name(other))),
    }
    let curve =
        info.algorithm.parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    match curve.map(|curve| curve.to_string()).as_deref() {
        Some("1.2.840.10045.3.1.7") => Ok(KeyAlgorithm::EcdsaP256),
        Some("1.3.132.0.34") => Ok(KeyAlgorithm::EcdsaP384),
        Some("1.3.132.0.35") => Ok(KeyAlgorithm::EcdsaP521),
        Some(other) => Err(not_used(&format!("an EC key {}", foreign_key::curve_name(other)))),
        None => Err(not_used("an EC key without a named curve")),
    }
}

/// RFC 8410 section 3.
const ED25519: &str = "1.3.101.112";

fn not_used(name: &str) -> Error {
    refuse(&format!(
        "it is {name}, and keys here are P-256, P-384, P-521 or Ed25519; make one with \
         `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE`"
    ))
}

/// An error about a private key; whoever read the file adds its path.
pub(crate) fn refuse(what: &str) -> Error {
    Error::new(Label::File, format!("the private key can't be used: {what}"))
}
