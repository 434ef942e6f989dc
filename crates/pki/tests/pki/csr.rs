//! Requests of every accepted key type, with every digest allowed for it, come out as certificates of exactly their
//! own key: those that openssl made, and those of random keys.

use airunner_core::{KeyAlgorithm, Label, PrincipalType};
use airunner_pki::{
    AcceptedKeys, PrivateKey, SubjectPublicKey, create_csr, parse_certificate, prepare_leaf, verify_csr,
};
use airunner_testkit::{TestCa, sign};
use aws_lc_rs::{
    digest::{self, Digest},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING,
        ECDSA_P521_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    },
};
use proptest::prelude::*;

use crate::openssl::OpenSsl;

const ALL: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521, KeyAlgorithm::Ed25519];

/// What a certificate for this request has as its key, in PEM, according to openssl.
fn issued_key(ca: &TestCa, csr: &[u8]) -> (SubjectPublicKey, String) {
    let verified = verify_csr(csr, &AcceptedKeys::new(ALL)).unwrap();
    let mut params = ca.params(PrincipalType::Worker, "w", &ca.key());
    params.public_key = verified.public_key().clone();
    let certificate = sign(prepare_leaf(ca.issuing(), &params, ca.arc()).unwrap(), &*ca.issuing_key());
    let files = OpenSsl::new();
    files.write("cert.der", certificate.der());
    let pem = files.run("x509 -inform DER -in cert.der -noout -pubkey");
    (parse_certificate(certificate.der(), ca.arc()).unwrap().public_key, pem)
}

#[test]
fn openssl_requests_keep_their_key_with_every_digest() {
    let ca = TestCa::new();
    for curve in ["P-256", "P-384", "P-521"] {
        for digest in ["sha256", "sha384", "sha512"] {
            let files = OpenSsl::new();
            files.run(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out key.pem"));
            files.run(&format!("req -new -key key.pem -{digest} -subj /CN=root/O=x -out csr.pem"));
            files.run("req -in csr.pem -outform DER -out csr.der");
            let key = files.run("pkey -in key.pem -pubout");
            for csr in [files.read("csr.pem"), files.read("csr.der")] {
                assert_eq!(issued_key(&ca, &csr).1, key, "{curve} {digest}");
            }
        }
    }
    let files = OpenSsl::new();
    files.run("genpkey -algorithm ED25519 -out key.pem");
    files.run("req -new -key key.pem -subj /CN=x -out csr.pem");
    assert_eq!(issued_key(&ca, &files.read("csr.pem")).1, files.run("pkey -in key.pem -pubout"));
}

#[test]
fn our_own_requests_pass_here_and_at_openssl() {
    for algorithm in ALL {
        let key = PrivateKey::generate(algorithm).unwrap();
        let csr = create_csr(&key).unwrap();
        assert_eq!(verify_csr(&csr, &AcceptedKeys::new(ALL)).unwrap().public_key().spki(), key.public_key());
        let files = OpenSsl::new();
        files.write("csr.der", &csr);
        let text = files.run("req -inform DER -in csr.der -verify -noout -text");
        assert!(text.contains("Version: 1") && text.contains("Subject: \n"), "{text}");
    }
}

#[test]
fn only_the_accepted_types_pass() {
    let ed25519 = create_csr(&PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap()).unwrap();
    let error = verify_csr(&ed25519, &AcceptedKeys::default()).unwrap_err();
    assert_eq!(error.label(), Label::KeyNotAccepted);
    assert!(
        error.message().contains("Ed25519") && error.message().contains("P-256, P-384, P-521"),
        "{error}"
    );
    assert_eq!(error.field(), Some("csr"));

    let p256 = create_csr(&PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
    assert!(verify_csr(&p256, &AcceptedKeys::default()).is_ok());
    let error = verify_csr(&p256, &AcceptedKeys::p384_profile()).unwrap_err();
    assert_eq!(error.label(), Label::KeyNotAccepted);
    assert!(error.message().contains("P-256"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_keys_come_out_as_they_went_in(curve in 0..3_usize, hash in 0..3_usize, scalar in any::<[u8; 66]>()) {
        let ca = TestCa::new();
        let key = key_of_scalar(curve, scalar);
        let csr = request_with_digest(&key, hash);
        let issued = verify_csr(&csr, &AcceptedKeys::default()).unwrap();
        prop_assert_eq!(issued.public_key().spki(), key.public_key());
        let mut params = ca.params(PrincipalType::User, "u", &key);
        params.public_key = issued.public_key().clone();
        let certificate = sign(prepare_leaf(ca.issuing(), &params, ca.arc()).unwrap(), &*ca.issuing_key());
        let parsed = parse_certificate(certificate.der(), ca.arc()).unwrap();
        prop_assert_eq!(parsed.public_key.spki(), key.public_key());
    }
}

/// The key whose private number is made of these bytes, from the shortest PKCS#8 that says so (no public key in it).
fn key_of_scalar(curve: usize, mut scalar: [u8; 66]) -> PrivateKey {
    let (len, oid): (usize, &[u8]) = [
        (32, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7][..]),
        (48, &[6, 5, 0x2b, 0x81, 4, 0, 34]),
        (66, &[6, 5, 0x2b, 0x81, 4, 0, 35]),
    ][curve];
    // Below the order of each curve, and not 0.
    scalar[66 - len] = 0;
    scalar[65] |= 1;
    let private = tlv(0x30, &[&[2, 1, 1], tlv(4, &[&scalar[66 - len..]]).as_slice()]);
    let algorithm = tlv(0x30, &[&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], oid]);
    PrivateKey::from_pkcs8(&tlv(0x30, &[&[2, 1, 0], &algorithm, &tlv(4, &[&private])])).unwrap()
}

/// A request for `key` that is signed with SHA-256, SHA-384 or SHA-512, whichever its curve usually takes.
fn request_with_digest(key: &PrivateKey, hash: usize) -> Vec<u8> {
    let ours = create_csr(key).unwrap();
    // SEQUENCE { info, algorithm, signature }: the first thing in it is what is signed.
    let outer = header_len(&ours);
    let info = &ours[outer..];
    let content_len = if info[1] == 0x81 { info[2] } else { info[1] };
    let info = &info[..header_len(info) + usize::from(content_len)];
    let algorithm = tlv(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, [2, 3, 4][hash]]]);
    let hashed = digest::digest([&digest::SHA256, &digest::SHA384, &digest::SHA512][hash], info);
    let signature = sign_digest(key, hash, hashed.as_ref());
    tlv(0x30, &[info, &algorithm, &tlv(3, &[&[0], &signature])])
}

/// ECDSA takes of a digest as many leftmost bits as its curve has (FIPS 186-5 section 6.4.1), so any digest can stand
/// for the one that aws-lc would take for a curve: cut, or with zeros before it.
fn sign_digest(key: &PrivateKey, hash: usize, hashed: &[u8]) -> Vec<u8> {
    let (algorithm, digest_algorithm) = match (key.algorithm(), hash) {
        (KeyAlgorithm::EcdsaP256, _) => (&ECDSA_P256_SHA256_ASN1_SIGNING, &digest::SHA256),
        (KeyAlgorithm::EcdsaP384, _) => (&ECDSA_P384_SHA384_ASN1_SIGNING, &digest::SHA384),
        (_, 0) => (&ECDSA_P521_SHA256_ASN1_SIGNING, &digest::SHA256),
        (_, 1) => (&ECDSA_P521_SHA384_ASN1_SIGNING, &digest::SHA384),
        (_, _) => (&ECDSA_P521_SHA512_ASN1_SIGNING, &digest::SHA512),
    };
    let mut fitted = vec![0; digest_algorithm.output_len().saturating_sub(hashed.len())];
    fitted.extend_from_slice(&hashed[..hashed.len().min(digest_algorithm.output_len())]);
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.to_pkcs8().expose()).unwrap();
    let digest = Digest::import_less_safe(&fitted, digest_algorithm).unwrap();
    pair.sign_digest(&digest).unwrap().as_ref().to_vec()
}

/// The length of tag and length.
fn header_len(der: &[u8]) -> usize {
    if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = vec![tag];
    match u16::try_from(content.len()).unwrap().to_be_bytes() {
        [0, len @ 0..0x80] => der.push(len),
        [0, len] => der.extend([0x81, len]),
        [high, low] => der.extend([0x82, high, low]),
    }
    der.extend(content);
    der
}
