//! Opens what a configuration names: stores, signers, master key, issuers.
