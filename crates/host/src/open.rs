//! Opens what a configuration names: the store, the master key, and the environment over them. What an environment
//! does is `airunner-app`'s; making one is `bootstrap.rs`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use airunner_app::{App, Settings};
use airunner_core::{Clock, DnsName, Error, Keyring, Label, Result, SecureRandom, Stores};
use airunner_store::{MemoryStore, SqliteOptions, SqliteStore};

use crate::{
    Config, Home, MasterKey,
    bootstrap::{self, Bootstrapped, Ground, Plan},
    config::{Backend, MasterKeyConfig},
};

/// Reads environment variables: what [`std::env::var`] says, none for one that is not UTF-8.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// An open store.
pub struct OpenStores {
    stores: Stores,
    sqlite: Option<SqliteStore>,
}

impl OpenStores {
    /// Its ports.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Whether the last process that had the store open did not close it: then [`OpenStores::quick_check`] is due, in
    /// the background.
    pub fn was_left_open(&self) -> bool {
        self.sqlite.as_ref().is_some_and(SqliteStore::had_log)
    }

    /// Looks for damage; takes seconds on a large store.
    ///
    /// # Errors
    /// `internal` where there is some.
    pub async fn quick_check(&self) -> Result<()> {
        match &self.sqlite {
            Some(store) => store.quick_check().await,
            None => Ok(()),
        }
    }

    /// Commits what waits and closes the store. Blocks until that is done.
    pub fn close(self) {
        if let Some(store) = self.sqlite {
            store.close();
        }
    }
}

/// Opens the store that `config` names; a SQLite file is made where there is none. Blocks for some milliseconds.
///
/// # Errors
/// `file`, `store-unavailable`.
pub fn open_stores(config: &Config) -> Result<OpenStores> {
    let limit = config.jobs().output_limit();
    match config.store().backend() {
        Backend::Memory => Ok(OpenStores { stores: MemoryStore::new(limit).stores(), sqlite: None }),
        Backend::Sqlite => {
            let mut options = SqliteOptions::new(config.store().path(), config.store().output_dir());
            options.output_limit = limit;
            let store = SqliteStore::open(options)?;
            Ok(OpenStores { stores: store.stores(), sqlite: Some(store) })
        }
    }
}

/// The settings of the use cases, as `config` has them.
pub fn settings(config: &Config) -> Settings {
    Settings {
        trust_domain: config.trust_domain().clone(),
        oid_arc: config.ca().oid_arc().clone(),
        accepted_keys: config.ca().accepted_keys().clone(),
        validity: config.ca().validity().clone(),
        overlap: config.ca().overlap(),
        on_fork: config.ca().on_fork(),
        unique_jobs: config.jobs().unique(),
        server_names: server_names(config),
        server_addresses: server_addresses(config),
        api_address: config.server().api_address(),
        public_address: config.server().public_address(),
    }
}

/// DNS names of the server's certificate: those that it is given, then `localhost`.
pub fn server_names(config: &Config) -> Vec<DnsName> {
    let mut names = config.server().names().to_vec();
    // It can't fail: the name is a constant one, and well-formed.
    let localhost = "localhost".parse::<DnsName>().ok();
    names.extend(localhost.filter(|localhost| !config.server().names().contains(localhost)));
    names
}

/// Addresses of the server's certificate: loopback, and those that it listens on by number.
pub fn server_addresses(config: &Config) -> Vec<IpAddr> {
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let listeners = [config.server().api_addr(), config.server().public_addr()];
    let named =
        listeners.iter().map(std::net::SocketAddr::ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    loopback.into_iter().chain(named.collect::<BTreeSet<_>>()).collect()
}

/// An open environment.
pub struct OpenHost {
    /// The use cases.
    pub app: Arc<App>,
    /// The store under them, to be closed last.
    pub stores: OpenStores,
    /// What was made at this start: with the memory backend, everything.
    pub made: Option<Bootstrapped>,
}

/// Opens the environment that `config` names. With the memory backend it is made first, and its credentials are in the
/// answer; where `home` is given they are also written there, so that the CLI finds them. Blocks while it reads files
/// and derives keys: call it before serving.
///
/// # Errors
/// `no-issuer` before bootstrap, `wrong-master-key`, `file`, and what the store says.
pub async fn open_app(
    config: &Config,
    home: Option<&Home>,
    variable: &dyn Fn(&str) -> Option<String>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
) -> Result<OpenHost> {
    let stores = open_stores(config)?;
    if config.store().backend() == Backend::Memory {
        let master_key = MasterKey::ephemeral(random.clone())?;
        let ground = Ground { config, stores: stores.stores(), master_key: &master_key, home, clock, random };
        let made = bootstrap::in_memory(ground, &Plan::first_admin()?).await?;
        return Ok(OpenHost { app: made.app.clone(), stores, made: Some(made) });
    }
    let keyring = stores.stores().keyring.get_keyring().await?;
    let keyring = keyring.ok_or_else(|| not_bootstrapped(config))?;
    let master_key = open_master_key(config, Some(&keyring), variable, random.clone())?;
    let app = App::open(stores.stores().clone(), clock, random, &master_key, settings(config)).await?;
    Ok(OpenHost { app: Arc::new(app), stores, made: None })
}

/// Opens the master key that `config` names, see [`MasterKey::open`].
pub(crate) fn open_master_key(
    config: &Config,
    keyring: Option<&Keyring>,
    variable: &dyn Fn(&str) -> Option<String>,
    random: Arc<dyn SecureRandom>,
) -> Result<MasterKey> {
    let source: &MasterKeyConfig = config.master_key().ok_or_else(|| {
        Error::new(Label::Config, "master_key is not set: name a keyfile or a passphrase_env")
    })?;
    MasterKey::open(source, keyring, variable, random)
}

fn not_bootstrapped(config: &Config) -> Error {
    Error::new(
        Label::NoIssuer,
        format!(
            "the store {} holds no environment yet: run `airunner-cli bootstrap --environment={}`",
            config.store().path().display(),
            config.environment()
        ),
    )
}
