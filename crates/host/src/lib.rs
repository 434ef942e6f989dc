//! From a configuration to an open environment: settings, key files, the master key, stores and issuers. The one crate
//! that knows which backend is which. It listens nowhere and prints nothing.

pub mod config;
pub mod duration;
pub mod files;
mod home;
pub mod key_file;
mod master_key;
mod suggest;

pub use config::Config;
pub use home::{Home, HomeLock, PairFiles};
pub use master_key::MasterKey;
