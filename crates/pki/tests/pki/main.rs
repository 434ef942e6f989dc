//! The crate as others use it, judged by software that we did not write: openssl and webpki.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod csr;
mod hostile;
mod key_file;
mod openssl;
mod profile;
mod signer;
