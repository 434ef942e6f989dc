//! Opens what a configuration names: the store, the master key, and the environment over them. What an environment
//! does is `airunner-app`'s; making one is `bootstrap.rs`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use airunner_app::{App, Settings, issuer::OutsideKeys};
use airunner_core::{Clock, DnsName, Error, Keyring, Label, Result, SecureRandom, Stores};
use airunner_store::{MemoryStore, SqliteOptions, SqliteStore, output::Measured};

use crate::{
    Cloud, Config, Home, MasterKey,
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
/// `cloud` is needed where the store or its output is in AWS: see [`Cloud::of`].
///
/// # Errors
/// `file`, `store-unavailable`; what AWS says.
pub async fn open_stores(
    config: &Config,
    cloud: Option<&Cloud>,
    random: Arc<dyn SecureRandom>,
) -> Result<OpenStores> {
    let mut open = open_backend(config, cloud, random).await?;
    if let (Backend::Sqlite, Some(_), Some(cloud)) =
        (config.store().backend(), config.store().bucket(), cloud)
    {
        let output = Measured::new(cloud.output(config).await?, open.stores.measures.clone());
        open.stores.output = Arc::new(output);
    }
    Ok(open)
}

async fn open_backend(
    config: &Config,
    cloud: Option<&Cloud>,
    random: Arc<dyn SecureRandom>,
) -> Result<OpenStores> {
    let limit = config.jobs().output_limit();
    match config.store().backend() {
        Backend::DynamoDb => {
            let cloud = cloud.ok_or_else(|| Error::internal("tables in DynamoDB need AWS"))?;
            Ok(OpenStores { stores: cloud.stores(config, random).await?, sqlite: None })
        }
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
        job_validity: config.jobs().certificate_validity(),
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
    /// AWS, where some part of the environment is there.
    pub cloud: Option<Cloud>,
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
    let cloud = Cloud::of(config).await?;
    let stores = open_stores(config, cloud.as_ref(), random.clone()).await?;
    if config.store().backend() == Backend::Memory {
        let master_key = MasterKey::ephemeral(random.clone())?;

        let ground = Ground {
            config,
            stores: stores.stores(),
            master_key: &master_key,
            home,
            cloud: cloud.as_ref(),
            watch: &|_| Ok(()),
            clock,
            random,
        };
        let made = bootstrap::in_memory(ground, &Plan::first_admin()?).await?;
        return Ok(OpenHost { app: made.app.clone(), stores, made: Some(made), cloud });
    }
    let keyring = stores.stores().keyring.get_keyring().await?;
    let keyring = keyring.ok_or_else(|| not_bootstrapped(config))?;
    let master_key =
        open_master_key(config, Some(&keyring), variable, random.clone(), cloud.as_ref()).await?;
    let outside = outside_keys(config, cloud.as_ref()).await?;
    if let Some(cloud) = &cloud {
        cloud.check_clock()?;
    }
    let stores_of_app = stores.stores().clone();
    let app = App::open_with(stores_of_app, clock, random, &master_key, settings(config), outside).await?;
    Ok(OpenHost { app: Arc::new(app), stores, made: None, cloud })
}

/// Opens the master key that `config` names, see [`MasterKey::open`].
pub(crate) async fn open_master_key(
    config: &Config,
    keyring: Option<&Keyring>,
    variable: &dyn Fn(&str) -> Option<String>,
    random: Arc<dyn SecureRandom>,
    cloud: Option<&Cloud>,
) -> Result<MasterKey> {
    let source: &MasterKeyConfig = config.master_key().ok_or_else(|| {
        Error::new(Label::Config, "master_key is not set: name a keyfile or a passphrase_env")
    })?;
    MasterKey::open(source, keyring, variable, random, cloud).await
}

/// The issuers' keys that are not in the store.
pub(crate) async fn outside_keys(config: &Config, cloud: Option<&Cloud>) -> Result<OutsideKeys> {
    match cloud {
        Some(cloud) => cloud.outside_keys(config).await,
        None => Ok(OutsideKeys::default()),
    }
}

fn not_bootstrapped(config: &Config) -> Error {
    let store = match config.store().backend() {
        Backend::DynamoDb => format!("in DynamoDB ({} {})", config.store().prefix(), config.environment()),
        Backend::Memory | Backend::Sqlite => config.store().path().display().to_string(),
    };
    let environment = config.environment();
    Error::new(
        Label::NoIssuer,
        format!(
            "the store {store} holds no environment yet: run `airunner-cli bootstrap --environment={environment}`"
        ),
    )
}
