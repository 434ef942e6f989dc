//! Certificate requests (PKCS#10, RFC 2986): ours are made here, those of others proven. Of a request only the public
//! key is ever used: names, extensions and attributes in it are neither copied nor looked at.

use airunner_core::{Error, KeyAlgorithm, Label, Result};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SignatureAlgorithm, SigningKey};
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer as _, x509::X509Version,
};

use crate::{PrivateKey, SubjectPublicKey, pem, public_key::Digest, signed::assemble};

/// Bytes of a request at most, PEM or DER.
const MAX_LEN: usize = 16 * 1024;

/// Makes a request for `key`, as DER: its public key, an empty subject, no attributes.
///
/// # Errors
/// `internal` if the library has no randomness.
pub fn create_csr(key: &PrivateKey) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&RequestKey(key)).map_err(Error::internal)?;
    Ok(csr.der().to_vec())
}

/// The key types that an environment accepts of those who ask for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedKeys(Vec<KeyAlgorithm>);

impl AcceptedKeys {
    /// These.
    pub fn new(algorithms: impl IntoIterator<Item = KeyAlgorithm>) -> Self {
        Self(algorithms.into_iter().collect())
    }

    /// Those of the `p384` profile: P-384 and P-521.
    pub fn p384_profile() -> Self {
        Self::new([KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521])
    }

    /// Whether `algorithm` is one of them.
    pub fn contains(&self, algorithm: KeyAlgorithm) -> bool {
        self.0.contains(&algorithm)
    }
}

impl Default for AcceptedKeys {
    /// P-256, P-384 and P-521.
    fn default() -> Self {
        Self::new([KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521])
    }
}

/// A public key whose holder has proven that it has the private one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    public_key: SubjectPublicKey,
}

impl VerifiedCsr {
    /// The proven key.
    pub fn public_key(&self) -> &SubjectPublicKey {
        &self.public_key
    }
}

/// Checks a request, PEM or DER, of at most 16 KiB: its form, its key, and its signature by that key (RFC 2986
/// section 4.2).
///
/// # Errors
/// `too-large`; `csr-malformed` if it can't be parsed, if bytes follow it, or for other PEM; `key-not-accepted`, naming
/// the key's type; `csr-signature` if the signature does not verify or is not by SHA-256, SHA-384 or SHA-512.
pub fn verify_csr(bytes: &[u8], accepted: &AcceptedKeys) -> Result<VerifiedCsr> {
    if bytes.len() > MAX_LEN {
        return Err(
            Error::new(Label::TooLarge, format!("a CSR has at most {MAX_LEN} bytes")).with_field("csr")
        );
    }
    // The length at the head of a DER request begins with a byte that UTF-8 can't have there.
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN ") => verify_der(&decode_pem(bytes)?, accepted),
        _ => verify_der(bytes, accepted),
    }
}

fn decode_pem(bytes: &[u8]) -> Result<Vec<u8>> {
    let blocks = pem::blocks(bytes).map_err(|message| malformed(&message))?;
    let [block] = blocks.as_slice() else {
        return Err(malformed("there are several PEM blocks where one request is wanted"));
    };
    // The second is what old tools write (RFC 7468 section 7).
    if !matches!(block.label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(malformed(&format!("the PEM block is a {:?}, not a CERTIFICATE REQUEST", block.label)));
    }
    block.decode().map(|der| der.to_vec()).map_err(|message| malformed(&message))
}

fn verify_der(der: &[u8], accepted: &AcceptedKeys) -> Result<VerifiedCsr> {
    let request = match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => request,
        Ok(_) => return Err(malformed("bytes follow it")),
        Err(_) => return Err(malformed("it is no PKCS#10 request in PEM or DER (RFC 2986)")),
    };
    let info = &request.certification_request_info;
    if info.version != X509Version::V1 {
        return Err(malformed("its version is not 1 (RFC 2986 section 4.1)"));
    }
    let public_key =
        SubjectPublicKey::recognize(info.subject_pki.raw).map_err(|error| error.with_field("csr"))?;
    let algorithm = public_key.algorithm();
    if !accepted.contains(algorithm) {
        let names: Vec<_> = accepted.0.iter().map(|accepted| accepted.as_str()).collect();
        let message = format!("{} keys are not accepted here: use {}", algorithm.as_str(), names.join(", "));
        return Err(Error::new(Label::KeyNotAccepted, message).with_field("csr"));
    }
    let Some(digest) = Digest::named_by(&request.signature_algorithm, algorithm) else {
        return Err(unproven("it is not signed with SHA-256, SHA-384 or SHA-512 by a key of its own type"));
    };
    let signature = &request.signature_value;
    if assemble(info.raw, digest.identifier(), &signature.data) != der {
        return Err(malformed("it is not in DER"));
    }
    if !public_key.verify_with(digest, info.raw, &signature.data) {
        // Only now is it worth the time to tell a bad key from a bad signature.
        SubjectPublicKey::from_spki(public_key.spki()).map_err(|error| error.with_field("csr"))?;
        return Err(unproven(
            "its signature does not verify under its own key: sign it with the key that it names",
        ));
    }
    Ok(VerifiedCsr { public_key })
}

fn malformed(what: &str) -> Error {
    Error::new(Label::CsrMalformed, format!("the CSR can't be read: {what}")).with_field("csr")
}

fn unproven(what: &str) -> Error {
    Error::new(Label::CsrSignature, format!("the CSR proves no key: {what}")).with_field("csr")
}

/// Signs a request of our own.
struct RequestKey<'a>(&'a PrivateKey);

impl SigningKey for RequestKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign_now(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl PublicKeyData for RequestKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.subject_public_key().der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(self.0.subject_public_key())
    }
}
