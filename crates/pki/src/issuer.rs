//! CA certificates as those who sign: what a leaf takes over from its issuer. Keys and states of issuers are elsewhere.

use std::sync::Arc;

use airunner_core::{Error, Fingerprint, KeyAlgorithm, Result, Timestamp};
use rcgen::{CertificateParams, KeyIdMethod};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension};

use crate::{
    SubjectPublicKey, name,
    oid::standard,
    parsed::{extension, parse_x509, signature_verifies, timestamp},
    sha256,
};

/// A CA certificate, parsed once; a clone is one reference more.
#[derive(Clone, Debug)]
pub struct IssuerCertificate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    der: Vec<u8>,
    subject_raw: Vec<u8>,
    subject_dn: String,
    public_key: SubjectPublicKey,
    subject_key_id: Vec<u8>,
    path_len: Option<u32>,
    not_before: Timestamp,
    not_after: Timestamp,
    self_signed: bool,
    /// Name and key identifier in the form that rcgen copies from; none where it can't write the name again.
    rcgen: Option<CertificateParams>,
}

impl IssuerCertificate {
    /// Reads a CA certificate of at most 64 KiB. Its key must be of a type that we know; where it has no subject key
    /// identifier, that of RFC 7093 section 2 (method 1) stands in.
    ///
    /// # Errors
    /// `invalid-argument` (field `certificate`) if it is malformed or no CA certificate that may sign (RFC 5280
    /// sections 4.2.1.3 and 4.2.1.9); `key-not-accepted` for the key.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let certificate = parse_x509(der)?;
        let (path_len, key_id) = authority(&certificate)?;
        let public_key = SubjectPublicKey::from_spki(certificate.subject_pki.raw)?;
        let subject_key_id = key_id.unwrap_or_else(|| public_key.key_id());
        let rcgen = name::reproduced(&certificate.subject).map(|distinguished_name| {
            let mut params = CertificateParams::default();
            params.distinguished_name = distinguished_name;
            params.key_identifier_method = KeyIdMethod::PreSpecified(subject_key_id.clone());
            params
        });
        let self_issued = certificate.subject.as_raw() == certificate.issuer.as_raw();
        Ok(Self(Arc::new(Inner {
            der: der.to_vec(),
            subject_raw: certificate.subject.as_raw().to_vec(),
            subject_dn: name::text(&certificate.subject),
            self_signed: self_issued && signature_verifies(&certificate, &public_key),
            subject_key_id,
            path_len,
            not_before: timestamp(certificate.validity.not_before),
            not_after: timestamp(certificate.validity.not_after),
            public_key,
            rcgen,
        })))
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// What the authority key identifier of its leaves is (RFC 5280 section 4.2.1.1).
    pub fn subject_key_id(&self) -> &[u8] {
        &self.0.subject_key_id
    }

    /// Its subject as text (RFC 4514).
    pub fn subject_dn(&self) -> &str {
        &self.0.subject_dn
    }

    /// Its key.
    pub fn public_key(&self) -> &SubjectPublicKey {
        &self.0.public_key
    }

    /// Its key's type, which fixes how it signs.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.public_key.algorithm()
    }

    /// From when it counts.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// Until when it counts; nothing that it signs lasts longer.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_bytes(sha256(&self.0.der))
    }

    /// Whether it is signed by its own key: a trust anchor, if anyone trusts it.
    pub fn is_self_signed(&self) -> bool {
        self.0.self_signed
    }

    /// Whether a CA may stand below it (RFC 5280 section 4.2.1.9).
    pub(crate) fn may_sign_issuers(&self) -> bool {
        self.0.path_len != Some(0)
    }

    /// The subject's DER, which is the issuer field of what it signs.
    pub(crate) fn subject_raw(&self) -> &[u8] {
        &self.0.subject_raw
    }

    /// Name and key identifier, to be copied into what it signs.
    pub(crate) fn rcgen_params(&self) -> Result<&CertificateParams> {
        self.0.rcgen.as_ref().ok_or_else(|| {
            Error::invalid(
                "certificate",
                "the issuer's name has a form in which we can't repeat it: its subject may have single-valued RDNs \
                 of different types, as UTF8String, PrintableString or IA5String",
            )
        })
    }
}

/// The path length that a certificate grants and its subject key identifier, if it is one of a CA that may sign.
fn authority(certificate: &X509Certificate<'_>) -> Result<(Option<u32>, Option<Vec<u8>>)> {
    let refuse = |message: &str| Error::invalid("certificate", message);
    let Some(ParsedExtension::BasicConstraints(constraints)) =
        extension(certificate, standard::BASIC_CONSTRAINTS)?
    else {
        return Err(refuse("this is no CA certificate: it has no basicConstraints"));
    };
    if !constraints.ca {
        return Err(refuse("this is no CA certificate: its basicConstraints say CA:FALSE"));
    }
    if let Some(ParsedExtension::KeyUsage(usage)) = extension(certificate, standard::KEY_USAGE)?
        && !usage.key_cert_sign()
    {
        return Err(refuse("this CA certificate may not sign certificates: its key usage lacks keyCertSign"));
    }
    let key_id = match extension(certificate, standard::SUBJECT_KEY_ID)? {
        Some(ParsedExtension::SubjectKeyIdentifier(id)) => Some(id.0.to_vec()),
        _ => None,
    };
    Ok((constraints.path_len_constraint, key_id))
}
