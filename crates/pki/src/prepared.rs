//! From the bytes that were linted to a certificate: sign and assemble. Nothing is decided here any more, and nothing
//! encoded twice: what was linted is what is signed.

use airunner_core::{Error, Fingerprint, KeyAlgorithm, Label, Result, Serial, Signer, Timestamp};

use crate::{SubjectPublicKey, public_key::Digest, sha256, signed::assemble};

/// A certificate that lacks nothing but its signature. It exists only after the lint, can be signed once, and the bytes
/// in it can't be changed.
#[derive(Debug)]
#[must_use = "it is no certificate before it is signed"]
pub struct Prepared {
    pub(crate) tbs: Vec<u8>,
    pub(crate) issuer_key: SubjectPublicKey,
    pub(crate) subject_dn: String,
    pub(crate) serial: Serial,
    pub(crate) not_after: Timestamp,
}

impl Prepared {
    /// Awaits the signature and puts the certificate together (RFC 5280 section 4.1.1).
    ///
    /// # Errors
    /// `config` if `signer` does not hold the issuer's key; what the signer returns; `internal` if its signature is
    /// not of the issuer's algorithm.
    pub async fn sign(self, signer: &dyn Signer) -> Result<SignedCertificate> {
        if signer.public_key() != self.issuer_key.spki() {
            return Err(Error::new(
                Label::Config,
                "the CA's key is not that of the CA's certificate: configure the two that belong together",
            ));
        }
        let signature = signer.sign(&self.tbs).await?;
        if !has_form_of(self.issuer_key.algorithm(), &signature) {
            return Err(Error::internal(
                "the signer returned something else than a signature of its algorithm",
            ));
        }
        let identifier = Digest::own(self.issuer_key.algorithm()).identifier();
        let der = assemble(&self.tbs, identifier, &signature);
        Ok(SignedCertificate {
            fingerprint: Fingerprint::from_bytes(sha256(&der)),
            der,
            subject_dn: self.subject_dn,
            serial: self.serial,
            not_after: self.not_after,
        })
    }
}

/// A certificate that was just signed. It must not leave the server before the store has recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCertificate {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    subject_dn: String,
    serial: Serial,
    not_after: Timestamp,
}

impl SignedCertificate {
    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its subject as text (RFC 4514).
    pub fn subject_dn(&self) -> &str {
        &self.subject_dn
    }

    /// Its serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Until when it counts.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificate, without a copy.
    pub fn into_der(self) -> Vec<u8> {
        self.der
    }
}

/// A DER ECDSA-Sig-Value's frame (RFC 3279 section 2.2.3), or 64 bytes.
fn has_form_of(algorithm: KeyAlgorithm, signature: &[u8]) -> bool {
    match (algorithm, signature) {
        (KeyAlgorithm::Ed25519, _) => signature.len() == 64,
        (_, [0x30, len, rest @ ..]) if *len < 0x80 => usize::from(*len) == rest.len(),
        (KeyAlgorithm::EcdsaP521, [0x30, 0x81, len, rest @ ..]) => usize::from(*len) == rest.len(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_signature_is_seen() {
        assert!(has_form_of(KeyAlgorithm::EcdsaP256, &[0x30, 2, 2, 0]));
        assert!(!has_form_of(KeyAlgorithm::EcdsaP256, &[0x30, 3, 2, 0]));
        assert!(!has_form_of(KeyAlgorithm::EcdsaP256, &[7; 64]));
        assert!(!has_form_of(KeyAlgorithm::EcdsaP256, &[]));
        assert!(has_form_of(KeyAlgorithm::Ed25519, &[7; 64]));
        assert!(!has_form_of(KeyAlgorithm::Ed25519, &[7; 63]));
    }
}
