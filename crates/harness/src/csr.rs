//! Requests for certificates (PKCS#10), PEM and DER.

use airunner_core::{KeyAlgorithm, Label, PrincipalType};
use airunner_pki::{AcceptedKeys, VerifiedCsr, parse_certificate, prepare_leaf, verify_csr};
use airunner_testkit::sign;

use crate::{
    material::{CA, CSR, changed, csr, pem},
    refusal,
};

const ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521, KeyAlgorithm::Ed25519];
const REFUSALS: [Label; 4] =
    [Label::TooLarge, Label::CsrMalformed, Label::KeyNotAccepted, Label::CsrSignature];

/// A request, or (after a zero) changes to a good one. Either it proves its key, and a certificate for it has that key
/// and nothing else of the request; or it is refused by a label of its own.
pub fn run(input: &[u8]) {
    let Some(other) = changed(&CSR, input) else { return whole(input) };
    assert!(other == *CSR || verify(&other).is_err(), "a changed request proves a key");
    whole(&other);
}

/// Requests for keys of each type, in both forms.
pub fn seeds() -> Vec<Vec<u8>> {
    let ders: Vec<Vec<u8>> = ALGORITHMS.into_iter().map(csr).collect();
    let pems = ders.iter().map(|der| pem("CERTIFICATE REQUEST", der));
    let mut seeds: Vec<_> = pems.collect();
    seeds.extend(ders);
    seeds.push(vec![0, 0, 20, 0x31, 0, 90, 7]);
    seeds
}

fn whole(bytes: &[u8]) {
    match verify(bytes) {
        Ok(proven) => proves(bytes, &proven),
        Err(error) => {
            refusal::holds(&error, &REFUSALS);
            assert_eq!(error.field(), Some("csr"));
        }
    }
}

fn verify(bytes: &[u8]) -> airunner_core::Result<VerifiedCsr> {
    verify_csr(bytes, &AcceptedKeys::new(ALGORITHMS))
}

fn proves(bytes: &[u8], proven: &VerifiedCsr) {
    let none = verify_csr(bytes, &AcceptedKeys::new([])).expect_err("no key is accepted");
    assert_eq!(none.label(), Label::KeyNotAccepted);
    if bytes.first() == Some(&0x30) {
        let spki = proven.public_key().spki();
        assert!(bytes.windows(spki.len()).any(|window| window == spki), "another key than the request's");
        let text = pem("CERTIFICATE REQUEST", bytes);
        assert!(text.len() > 16 * 1024 || verify(&text).expect("the same in PEM") == *proven);
        let trailing = [bytes, &[0]].concat();
        assert!(verify(&trailing).is_err(), "a byte after the request is taken");
    }
    let mut params = CA.params(PrincipalType::User, "mallory", &CA.key());
    params.public_key = proven.public_key().clone();
    let leaf =
        sign(prepare_leaf(CA.issuing(), &params, CA.arc()).expect("a leaf that lints"), &*CA.issuing_key());
    let leaf = parse_certificate(leaf.der(), CA.arc()).expect("our own leaf");
    assert_eq!(&leaf.public_key, proven.public_key());
    assert_eq!(leaf.subject_dn, "CN=mallory");
    assert!(!leaf.is_ca && leaf.dns_names.is_empty() && leaf.emails.is_empty() && leaf.uris.len() == 1);
}
