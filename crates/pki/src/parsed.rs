//! Certificates that already exist, read back: our own off a connection or a file, and foreign ones that an admin
//! registers. Chains are not built here: that is webpki's.

use std::net::IpAddr;

use airunner_core::{DnsName, Error, Fingerprint, PrincipalId, PrincipalType, Result, Serial, Timestamp};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
    time::ASN1Time,
};

use crate::{
    IssuerCertificate, OidArc, SubjectPublicKey, name,
    oid::{PrivateOid, standard},
    public_key::Digest,
    sha256,
    signed::assemble,
};

/// Bytes of a certificate at most.
const MAX_LEN: usize = 64 * 1024;

/// What we read off a certificate. That it parses says nothing of who signed it.
#[derive(Clone, Debug)]
pub struct ParsedCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// The SHA-256 of its DER.
    pub fingerprint: Fingerprint,
    /// The subject key identifier of its issuer, where it says so.
    pub authority_key_id: Option<Vec<u8>>,
    /// Its subject as text (RFC 4514).
    pub subject_dn: String,
    /// The first common name of its subject.
    pub common_name: Option<String>,
    /// Its key.
    pub public_key: SubjectPublicKey,
    /// Whom the two private extensions name; none where they are absent.
    pub principal: Option<(PrincipalType, PrincipalId)>,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when it counts.
    pub not_after: Timestamp,
    /// Whether it is a CA's.
    pub is_ca: bool,
    /// DNS names of its subjectAltName.
    pub dns_names: Vec<DnsName>,
    /// IP addresses of its subjectAltName.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs of its subjectAltName.
    pub uris: Vec<String>,
    /// Mail addresses (rfc822Name) of its subjectAltName.
    pub emails: Vec<String>,
}

/// Reads a certificate of at most 64 KiB, with the private extensions under `arc`. Other kinds of names in its
/// subjectAltName are passed over.
///
/// # Errors
/// `invalid-argument` (field `certificate`) if it is malformed, has an extension twice, a serial number that RFC 5280
/// section 4.1.2.2 forbids, or just one of the private extensions; `key-not-accepted` for its key.
pub fn parse_certificate(der: &[u8], arc: &OidArc) -> Result<ParsedCertificate> {
    let certificate = parse_x509(der)?;
    let mut parsed = ParsedCertificate {
        serial: serial(&certificate)?,
        fingerprint: Fingerprint::from_bytes(sha256(der)),
        authority_key_id: None,
        subject_dn: name::text(&certificate.subject),
        common_name: certificate
            .subject
            .iter_common_name()
            .next()
            .and_then(|cn| cn.as_str().ok())
            .map(str::to_owned),
        public_key: SubjectPublicKey::recognize(certificate.subject_pki.raw)?,
        principal: principal(&certificate, arc)?,
        not_before: timestamp(certificate.validity.not_before),
        not_after: timestamp(certificate.validity.not_after),
        is_ca: false,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        emails: Vec::new(),
    };
    if let Some(ParsedExtension::AuthorityKeyIdentifier(id)) =
        extension(&certificate, standard::AUTHORITY_KEY_ID)?
    {
        parsed.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
    }
    if let Some(ParsedExtension::BasicConstraints(constraints)) =
        extension(&certificate, standard::BASIC_CONSTRAINTS)?
    {
        parsed.is_ca = constraints.ca;
    }
    if let Some(ParsedExtension::SubjectAlternativeName(names)) =
        extension(&certificate, standard::SUBJECT_ALT_NAME)?
    {
        for name in &names.general_names {
            parsed.take_name(name)?;
        }
    }
    Ok(parsed)
}

impl ParsedCertificate {
    fn take_name(&mut self, name: &GeneralName<'_>) -> Result<()> {
        match name {
            GeneralName::DNSName(dns) => self.dns_names.push(dns.parse().map_err(of_certificate)?),
            GeneralName::IPAddress(bytes) => self.ip_addresses.push(ip_address(bytes)?),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(email) => self.emails.push((*email).to_owned()),
            GeneralName::Invalid(..) => return Err(malformed("it has a malformed subjectAltName")),
            _ => {}
        }
        Ok(())
    }
}

/// Checks that `issuer` signed the certificate: its name and its signature. Times, usages and revocation are not
/// looked at.
///
/// # Errors
/// `invalid-argument` (field `certificate`) if it did not.
pub fn verify_issued_by(leaf_der: &[u8], issuer: &IssuerCertificate) -> Result<()> {
    let certificate = parse_x509(leaf_der)?;
    if certificate.issuer.as_raw() != issuer.subject_raw() {
        let named = name::text(&certificate.issuer);
        return Err(Error::invalid(
            "certificate",
            format!("the certificate names another issuer, {named:?}, than {:?}", issuer.subject_dn()),
        ));
    }
    if !signature_verifies(&certificate, issuer.public_key()) {
        return Err(Error::invalid(
            "certificate",
            format!("the certificate's signature is not one by the key of {:?}", issuer.subject_dn()),
        ));
    }
    Ok(())
}

/// Parses exactly one certificate; errors are sentences for whoever sent it.
pub(crate) fn parse_x509(der: &[u8]) -> Result<X509Certificate<'_>> {
    if der.len() > MAX_LEN {
        return Err(malformed(&format!("it has more than {MAX_LEN} bytes")));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(malformed("bytes follow it")),
        Err(_) => Err(malformed("it is not one in DER (RFC 5280 section 4.1)")),
    }
}

/// The extension `oid`, if it is there, once, and well-formed.
pub(crate) fn extension<'a, 'c>(
    certificate: &'a X509Certificate<'c>,
    oid: &[u8],
) -> Result<Option<&'a ParsedExtension<'c>>> {
    let mut found = None;
    for extension in certificate.extensions().iter().filter(|extension| extension.oid.as_bytes() == oid) {
        let broken = matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. });
        if broken || found.replace(extension.parsed_extension()).is_some() {
            return Err(malformed("one of its extensions is malformed or there twice"));
        }
    }
    Ok(found)
}

/// Whether `key` made the certificate's signature, with an algorithm that both of its places name (RFC 5280
/// section 4.1.1.2), in DER: whoever could change a byte of the frame would change the fingerprint.
pub(crate) fn signature_verifies(certificate: &X509Certificate<'_>, key: &SubjectPublicKey) -> bool {
    let (tbs, signature) = (&certificate.tbs_certificate, &certificate.signature_value);
    let Some(digest) = Digest::named_by(&certificate.signature_algorithm, key.algorithm()) else {
        return false;
    };
    certificate.signature_algorithm == tbs.signature
        && assemble(tbs.as_ref(), digest.identifier(), &signature.data) == certificate.as_raw()
        && key.verify_with(digest, tbs.as_ref(), &signature.data)
}

pub(crate) fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_millis(time.timestamp().saturating_mul(1_000))
}

fn malformed(what: &str) -> Error {
    Error::invalid("certificate", format!("the certificate can't be read: {what}"))
}

/// What is wrong with a name in the certificate is wrong with the certificate.
fn of_certificate(error: Error) -> Error {
    error.with_field("certificate")
}

fn serial(certificate: &X509Certificate<'_>) -> Result<Serial> {
    let raw = certificate.raw_serial();
    if raw.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(malformed("its serial number is negative"));
    }
    if let [0, next, ..] = raw
        && next & 0x80 == 0
    {
        return Err(malformed("its serial number is not in DER: it begins with zeros (X.690 section 8.3.2)"));
    }
    Serial::from_bytes(raw).map_err(of_certificate)
}

fn principal(
    certificate: &X509Certificate<'_>,
    arc: &OidArc,
) -> Result<Option<(PrincipalType, PrincipalId)>> {
    let principal_type = private_text(certificate, arc.principal_type())?;
    let principal_id = private_text(certificate, arc.principal_id())?;
    match (principal_type, principal_id) {
        (None, None) => Ok(None),
        (Some(principal_type), Some(principal_id)) => {
            let known = PrincipalType::ALL.iter().find(|known| known.as_str() == principal_type);
            let Some(known) = known else { return Err(malformed("it names no known principal type")) };
            Ok(Some((*known, principal_id.parse().map_err(of_certificate)?)))
        }
        _ => Err(malformed("it has one of the two extensions that name its principal, not both")),
    }
}

/// The value of a private extension: a DER UTF8String.
fn private_text<'a>(certificate: &'a X509Certificate<'_>, oid: &PrivateOid) -> Result<Option<&'a str>> {
    let mut found = None;
    for extension in certificate.extensions().iter().filter(|e| e.oid.as_bytes() == oid.content) {
        let text = match extension.value {
            [0x0c, len, text @ ..] if usize::from(*len) == text.len() && *len < 0x80 => {
                std::str::from_utf8(text).ok()
            }
            _ => None,
        };
        if text.is_none() || found.is_some() {
            return Err(malformed("an extension that names its principal is malformed or there twice"));
        }
        found = text;
    }
    Ok(found)
}

fn ip_address(bytes: &[u8]) -> Result<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).map_err(|_| malformed("an IP address in it has neither 4 nor 16 bytes"))
}
