//! Certificates, as they come off a connection and out of files.

use airunner_core::{Fingerprint, Label, PrincipalId};
use airunner_pki::{
    IssuerCertificate, ParsedCertificate, certificate_to_pem, certificates_from_pem, parse_certificate,
    sha256, verify_issued_by,
};
use airunner_testkit::TestCa;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::{
    material::{CA, LEAF, changed, pem},
    refusal,
};

const REFUSALS: [Label; 2] = [Label::InvalidArgument, Label::KeyNotAccepted];

/// A certificate, or (after a zero) changes to a good one. What reads is what the bytes say; nothing but what the CA
/// signed verifies as its own.
pub fn run(input: &[u8]) {
    let other = changed(&LEAF, input);
    let bytes = other.as_deref().unwrap_or(input);
    let is_ours = bytes == *LEAF || bytes == CA.issuing().der();
    assert!(is_ours || verify_issued_by(bytes, CA.issuing()).is_err(), "what the CA did not sign verifies");
    parses(bytes);
    if let Err(error) = IssuerCertificate::parse(bytes) {
        refusal::holds(&error, &REFUSALS);
    }
    texts(bytes);
}

/// A leaf and a CA's, in both forms.
pub fn seeds() -> Vec<Vec<u8>> {
    let server = TestCa::new().server(&["a.example", "10.0.0.1"]).der().to_vec();
    let ders = vec![LEAF.clone(), server, CA.issuing().der().to_vec(), CA.root().der().to_vec()];
    let mut seeds: Vec<_> = ders.iter().map(|der| pem("CERTIFICATE", der)).collect();
    seeds.extend(ders);
    seeds.push(vec![0, 0, 20, 0x31, 0, 90, 7]);
    seeds
}

fn parses(bytes: &[u8]) {
    let parsed = match parse_certificate(bytes, CA.arc()) {
        Ok(parsed) => parsed,
        Err(error) => return refusal::holds(&error, &REFUSALS),
    };
    assert_eq!(parsed.fingerprint, Fingerprint::from_bytes(sha256(bytes)));
    agrees(bytes, &parsed);
    if let Some((_, id)) = &parsed.principal {
        assert_eq!(id.as_str().parse::<PrincipalId>().as_ref().ok(), Some(id));
    }
    let again = parse_certificate(bytes, CA.arc()).expect("the same bytes");
    assert_eq!(format!("{again:?}"), format!("{parsed:?}"));
    let listed = certificates_from_pem(certificate_to_pem(bytes).as_bytes()).expect("its own PEM");
    assert_eq!(listed, [bytes]);
    assert!(parse_certificate(&[bytes, &[0]].concat(), CA.arc()).is_err(), "a byte after it is taken");
}

/// What the handshake reads of a certificate, which is read there by another library, is what we read of it.
fn agrees(bytes: &[u8], parsed: &ParsedCertificate) {
    let serial = parsed.serial.as_bytes();
    assert!((1..=20).contains(&serial.len()), "{:?}", parsed.serial);
    let der = CertificateDer::from(bytes);
    let Ok(theirs) = EndEntityCert::try_from(&der) else { return };
    let without_sign = |serial: &[u8]| serial.strip_prefix(&[0]).unwrap_or(serial).to_vec();
    assert_eq!(without_sign(theirs.serial()), without_sign(serial));
    assert_eq!(theirs.subject_public_key_info().as_ref(), parsed.public_key.spki());
    let names: Vec<_> = theirs.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let ours: Vec<_> = parsed.dns_names.iter().map(|name| name.to_string().to_ascii_lowercase()).collect();
    assert_eq!(names, ours);
}

fn texts(bytes: &[u8]) {
    match certificates_from_pem(bytes) {
        Ok(listed) => {
            assert!(!listed.is_empty());
            let text: String = listed.iter().map(|der| certificate_to_pem(der)).collect();
            assert_eq!(certificates_from_pem(text.as_bytes()).expect("what was just written"), listed);
        }
        Err(error) => refusal::holds(&error, &[Label::InvalidArgument]),
    }
}
