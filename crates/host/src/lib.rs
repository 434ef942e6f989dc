//! Opens what a configuration names: stores, signers, master key, issuers.
pub mod key_file;
