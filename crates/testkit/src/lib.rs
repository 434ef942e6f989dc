//! Test PKI, fake clock, seeded randomness, and the conformance suites of stores and signers.

mod pki;
pub mod signer;

pub use pki::{TestCa, TestLeaf, sign};
