//! A CA, made once a process, and good things by it that inputs may change byte by byte.

use std::sync::LazyLock;

use airunner_core::PrincipalType;
use airunner_pki::{PrivateKey, certificate_to_pem, create_csr};
use airunner_testkit::TestCa;

pub(crate) static CA: LazyLock<TestCa> = LazyLock::new(TestCa::new);

/// A leaf of that CA.
pub(crate) static LEAF: LazyLock<Vec<u8>> =
    LazyLock::new(|| CA.client(PrincipalType::User, "alice").der().to_vec());

/// A request for a certificate.
pub(crate) static CSR: LazyLock<Vec<u8>> = LazyLock::new(|| csr(airunner_core::KeyAlgorithm::EcdsaP256));

pub(crate) fn csr(algorithm: airunner_core::KeyAlgorithm) -> Vec<u8> {
    create_csr(&PrivateKey::generate(algorithm).expect("a key")).expect("a request")
}

/// The PEM of something, as a certificate's is but for the words around it.
pub(crate) fn pem(words: &str, der: &[u8]) -> Vec<u8> {
    certificate_to_pem(der).replace("CERTIFICATE", words).into_bytes()
}

/// The first byte of an input that says what to change in something good, rather than be something itself. DER begins
/// with another, and so does PEM.
pub(crate) const CHANGES: u8 = 0;

/// What is left of `good` after the changes that an input says, three bytes each: where, and what stands there then.
/// Nothing for an input that stands for itself.
pub(crate) fn changed(good: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    let (&CHANGES, changes) = input.split_first()? else { return None };
    let mut bytes = good.to_vec();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
        bytes[place] = change[2];
    }
    Some(bytes)
}
