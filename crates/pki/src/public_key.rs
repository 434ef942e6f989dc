//! Public keys that certificates may carry, in their one canonical encoding, and the signatures made with them. Which of
//! them an environment accepts is not decided here (see `csr`).

use airunner_core::{Error, Fingerprint, KeyAlgorithm, Label, Result};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::x509::AlgorithmIdentifier;

use crate::{foreign_key, sha256};

/// A public key of a type that we know, as a DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) in canonical form:
/// named curve, uncompressed point (RFC 5480 section 2), no parameters for Ed25519 (RFC 8410 section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectPublicKey {
    algorithm: KeyAlgorithm,
    spki: Box<[u8]>,
}

impl SubjectPublicKey {
    /// Reads a SubjectPublicKeyInfo, such as a `Signer` hands out, and checks that the point lies on its curve.
    ///
    /// # Errors
    /// `key-not-accepted`, naming what the key is, for every type and encoding but those four.
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        let key = Self::recognize(spki)?;
        ParsedPublicKey::new(verifier(key.algorithm, Digest::own(key.algorithm)), &key.spki).map_err(
            |_| {
                Error::new(
                    Label::KeyNotAccepted,
                    format!("the public key is not a point of the curve {}", key.algorithm.as_str()),
                )
            },
        )?;
        Ok(key)
    }

    /// Like `from_spki`, but the point itself is looked at only by the first `verify_with`.
    pub(crate) fn recognize(spki: &[u8]) -> Result<Self> {
        let known = FORMS
            .iter()
            .find(|form| spki.len() == form.prefix.len() + form.key_len && spki.starts_with(form.prefix));
        match known {
            Some(form) => Ok(Self { algorithm: form.algorithm, spki: spki.into() }),
            None => Err(foreign_key::refusal(spki)),
        }
    }

    /// The key's type.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_bytes(sha256(&self.spki))
    }

    /// Verifies a signature that was made with the digest that the key's type fixes, as every `Signer` makes them.
    ///
    /// # Errors
    /// `invalid-argument` if it does not verify.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        if self.verify_with(Digest::own(self.algorithm), message, signature) {
            Ok(())
        } else {
            Err(Error::invalid("signature", "the signature does not verify under the public key"))
        }
    }

    /// Whether `signature` over `message`, made with `digest`, verifies. False too for a point off the curve.
    pub(crate) fn verify_with(&self, digest: Digest, message: &[u8], signature: &[u8]) -> bool {
        let verifier = verifier(self.algorithm, digest);
        UnparsedPublicKey::new(verifier, &self.spki).verify(message, signature).is_ok()
    }

    /// The BIT STRING's content: the point, or Ed25519's 32 bytes.
    pub(crate) fn key_bits(&self) -> &[u8] {
        let form = form(self.algorithm);
        // An uncompressed point's leading 4 stands in the prefix so that no other form of point matches.
        let start = form.prefix.len() - usize::from(form.algorithm != KeyAlgorithm::Ed25519);
        &self.spki[start..]
    }

    /// The key's identifier: the leftmost 160 bits of the SHA-256 of the key bits (RFC 7093 section 2, method 1).
    pub(crate) fn key_id(&self) -> Vec<u8> {
        sha256(self.key_bits())[..20].to_vec()
    }
}

impl std::fmt::Debug for SubjectPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubjectPublicKey({} {})", self.algorithm.as_str(), self.fingerprint())
    }
}

/// The digests that a signature may be made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256,
    Sha384,
    Sha512,
    /// Ed25519 brings its own.
    Pure,
}

impl Digest {
    /// The digest that our own signatures by a key of this type are made with.
    pub(crate) fn own(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => Self::Sha256,
            KeyAlgorithm::EcdsaP384 => Self::Sha384,
            KeyAlgorithm::EcdsaP521 => Self::Sha512,
            KeyAlgorithm::Ed25519 => Self::Pure,
        }
    }

    /// The DER of the signatureAlgorithm that names it.
    pub(crate) fn identifier(self) -> &'static [u8] {
        match self {
            Self::Sha256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::Sha384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::Sha512 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
            Self::Pure => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        }
    }

    /// The digest that a signatureAlgorithm names, if it goes with a key of type `algorithm` and has no parameters
    /// (RFC 5758 section 3.2, RFC 8410 section 3).
    pub(crate) fn named_by(identifier: &AlgorithmIdentifier<'_>, algorithm: KeyAlgorithm) -> Option<Self> {
        let oid = identifier.algorithm.as_bytes();
        // An identifier is a SEQUENCE of the OID alone: two headers of two bytes, then its content.
        let names = |digest: &Self| digest.identifier()[4..] == *oid;
        let digest = [Self::Sha256, Self::Sha384, Self::Sha512, Self::Pure].into_iter().find(names)?;
        let fits = (digest == Self::Pure) == (algorithm == KeyAlgorithm::Ed25519);
        (fits && identifier.parameters.is_none()).then_some(digest)
    }
}

/// How a SubjectPublicKeyInfo of one type begins, and how many bytes follow.
struct Form {
    algorithm: KeyAlgorithm,
    prefix: &'static [u8],
    key_len: usize,
}

#[rustfmt::skip]
const FORMS: [Form; 4] = [
    Form { algorithm: KeyAlgorithm::EcdsaP256, key_len: 64, prefix: &[
        0x30, 89, 0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
        3, 66, 0, 4,
    ] },
    Form { algorithm: KeyAlgorithm::EcdsaP384, key_len: 96, prefix: &[
        0x30, 118, 0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34, 3, 98, 0, 4,
    ] },
    Form { algorithm: KeyAlgorithm::EcdsaP521, key_len: 132, prefix: &[
        0x30, 0x81, 155, 0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 35,
        3, 0x81, 134, 0, 4,
    ] },
    Form { algorithm: KeyAlgorithm::Ed25519, key_len: 32, prefix: &[
        0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0,
    ] },
];

fn form(algorithm: KeyAlgorithm) -> &'static Form {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => &FORMS[0],
        KeyAlgorithm::EcdsaP384 => &FORMS[1],
        KeyAlgorithm::EcdsaP521 => &FORMS[2],
        KeyAlgorithm::Ed25519 => &FORMS[3],
    }
}

fn verifier(algorithm: KeyAlgorithm, digest: Digest) -> &'static dyn VerificationAlgorithm {
    match (algorithm, digest) {
        (KeyAlgorithm::EcdsaP256, Digest::Sha384) => &ECDSA_P256_SHA384_ASN1,
        (KeyAlgorithm::EcdsaP256, Digest::Sha512) => &ECDSA_P256_SHA512_ASN1,
        (KeyAlgorithm::EcdsaP256, _) => &ECDSA_P256_SHA256_ASN1,
        (KeyAlgorithm::EcdsaP384, Digest::Sha256) => &ECDSA_P384_SHA256_ASN1,
        (KeyAlgorithm::EcdsaP384, Digest::Sha512) => &ECDSA_P384_SHA512_ASN1,
        (KeyAlgorithm::EcdsaP384, _) => &ECDSA_P384_SHA384_ASN1,
        (KeyAlgorithm::EcdsaP521, Digest::Sha256) => &ECDSA_P521_SHA256_ASN1,
        (KeyAlgorithm::EcdsaP521, Digest::Sha384) => &ECDSA_P521_SHA384_ASN1,
        (KeyAlgorithm::EcdsaP521, _) => &ECDSA_P521_SHA512_ASN1,
        (KeyAlgorithm::Ed25519, _) => &ED25519,
    }
}
