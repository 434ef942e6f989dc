//! From a configuration to an open environment: settings, key files, the master key, stores and issuers. The one crate
//! that knows which backend is which. It listens nowhere and prints nothing.

pub mod config;
pub mod duration;
mod suggest;

pub use config::Config;
