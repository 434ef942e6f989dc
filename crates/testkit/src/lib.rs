//! Test PKI, fake clock, seeded randomness, and the conformance suites of stores and signers.

pub mod clock;
pub mod conformance;
pub mod emulator;
pub mod job_model;
mod pki;
pub mod random;
pub mod records;
pub mod signer;

pub use pki::{TestCa, TestLeaf, sign};
