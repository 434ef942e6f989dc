//! PEM.
#![expect(missing_docs, clippy::todo, unused_variables, reason = "being filled in")]
use airunner_core::Result;

pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    todo!()
}
pub fn certificate_to_pem(der: &[u8]) -> String {
    todo!()
}
