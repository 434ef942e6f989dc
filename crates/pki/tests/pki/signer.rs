//! A key in memory is a signer like any other.

use std::sync::Arc;

use airunner_core::KeyAlgorithm;
use airunner_pki::PrivateKey;
use airunner_testkit::signer_conformance;

fn signer(algorithm: KeyAlgorithm) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(algorithm).unwrap())
}

signer_conformance!(p256, signer(KeyAlgorithm::EcdsaP256));
signer_conformance!(p384, signer(KeyAlgorithm::EcdsaP384));
signer_conformance!(p521, signer(KeyAlgorithm::EcdsaP521));
signer_conformance!(ed25519, signer(KeyAlgorithm::Ed25519));
