//! X.509 for airunner: CSR checks, profiles, lint, prepare, sign and assemble. Nothing here reads a file, a clock or a
//! socket; the one thing awaited is the signer.

mod certificate;
mod csr;
mod encode;
mod foreign_key;
mod issuer;
mod key;
mod key_file;
mod lint;
mod name;
mod oid;
mod parsed;
mod pem;
mod prepared;
mod public_key;
mod signed;

pub use certificate::{CaParams, LeafParams, prepare_issuing, prepare_leaf, prepare_root, prepare_single};
pub use csr::{AcceptedKeys, VerifiedCsr, create_csr, verify_csr};
pub use issuer::IssuerCertificate;
pub use key::PrivateKey;
pub use oid::OidArc;
pub use parsed::{ParsedCertificate, parse_certificate, verify_issued_by};
pub use pem::{certificate_to_pem, certificates_from_pem};
pub use prepared::{Prepared, SignedCertificate};
pub use public_key::SubjectPublicKey;

/// The SHA-256 of `bytes` (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}
