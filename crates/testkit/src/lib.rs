//! Test PKI, fake clock, seeded randomness, and the conformance suites of stores and signers.

pub mod clock;
pub mod random;
pub mod records;
