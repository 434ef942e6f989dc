//! From a configuration to an open environment: settings, key files, the master key, stores and issuers. The one crate
//! that knows which backend is which. It listens nowhere and prints nothing.

pub mod bootstrap;
#[cfg_attr(not(feature = "aws"), path = "no_cloud.rs")]
mod cloud;
#[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only AWS makes some of them"))]
mod cloud_parts;
pub mod config;
pub mod duration;
pub mod files;
mod home;
pub mod key_file;
pub mod local;
mod master_key;
mod open;
mod suggest;

pub use cloud::Cloud;
pub use config::{Config, GitConfig};
pub use home::{Home, HomeLock, PairFiles};
pub use master_key::MasterKey;
pub use open::{
    OpenHost, OpenStores, environment_variable, open_app, open_stores, server_addresses, server_names,
    settings,
};
