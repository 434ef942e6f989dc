//! The local environment: one folder with configuration, master key, database and certificates. The steps over the
//! store are `bootstrap.rs`; here are the files that they need first, and the operations that open root key and store
//! by themselves.

mod server_toml;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use airunner_app::bootstrap::{Site, ensure_keyring, renew_issuer};
use airunner_core::{Clock, DnsName, Error, IssuerId, Label, Result, Secret, SecureRandom};
use airunner_net::TlsProfile;

use crate::{
    Config, Home, MasterKey,
    bootstrap::{self, Bootstrapped, Ground, Outcome, Plan, StepReport},
    config::{Environment, MasterKeyConfig},
    files, key_file,
    open::{OpenStores, open_master_key, open_stores},
};

/// What is wanted of a local environment. What is not said is as the configuration has it, or its default.
#[derive(Clone, Debug)]
pub struct LocalPlan {
    /// Which environment.
    pub environment: Environment,
    /// The server's name, beside localhost.
    pub domain: Option<DnsName>,
    /// The TLS profile.
    pub profile: Option<TlsProfile>,
    /// Where the API listens.
    pub api_addr: Option<SocketAddr>,
    /// Where the public listener is.
    pub public_addr: Option<SocketAddr>,
    /// Where the plain listener is.
    pub plain_addr: Option<SocketAddr>,
    /// Where the metrics are.
    pub metrics_addr: Option<SocketAddr>,
    /// The file whose first line encrypts the private keys.
    pub key_passphrase_file: Option<PathBuf>,
    /// Whether jobs of the worker inside the server run as the server's user; the default unless it is root.
    pub same_user: bool,
    /// The steps over the store.
    pub steps: Plan,
}

/// A local environment, made or found.
pub struct Local {
    /// Its configuration.
    pub config: Config,
    /// What each step came to.
    pub steps: Vec<StepReport>,
    /// What someone should see to before long.
    pub warnings: Vec<String>,
}

/// What the files are read and written with.
#[derive(Clone)]
pub struct Means<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn SecureRandom>,
}

/// Makes the environment in `home`, or finds it whole; two at once take turns. Blocks while it reads and writes files.
///
/// # Errors
/// `config` where the configuration that is there contradicts the plan, or is wrong; and as [`bootstrap::run`].
pub async fn bootstrap(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<Local> {
    let _lock = home.lock()?;
    let mut steps = Vec::new();
    let (outcome, config) = configure(home, plan, means)?;
    steps.push(step(CONFIGURATION, outcome, home.server_toml().display().to_string()));
    let stores = open_stores(&config)?;
    let made = over_store(home, plan, means, &config, &stores, &mut steps).await;
    // Whatever came of it, the store is closed in order.
    stores.close();
    let warnings = made?.warnings;
    Ok(Local { config, steps, warnings })
}

async fn over_store(
    home: &Home,
    plan: &LocalPlan,
    means: &Means<'_>,
    config: &Config,
    stores: &OpenStores,
    steps: &mut Vec<StepReport>,
) -> Result<Bootstrapped> {
    let (outcome, master_key) = master_key(config, stores, means).await?;
    steps.push(step(MASTER_KEY, outcome, described(config)));
    let passphrase = key_passphrase(config)?;
    let inner = Plan { key_passphrase: passphrase.clone(), ..plan.steps.clone() };
    let ground = ground(home, config, stores, &master_key, means);
    let made = bootstrap::run(ground.clone(), &inner).await?;
    steps.extend(made.steps.iter().cloned());
    steps.push(step(bootstrap::UPLOAD, Outcome::NotNeeded, "this environment is in files".to_owned()));
    bootstrap::verify(&ground, home, &made.app, passphrase.as_ref())?;
    steps.push(step(
        bootstrap::VERIFICATION,
        Outcome::Verified,
        "keys, chains, dates, permissions, trust bundle".to_owned(),
    ));
    Ok(made)
}

/// What [`bootstrap`] would do; changes nothing.
///
/// # Errors
/// As [`bootstrap`].
pub async fn foresee(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<Local> {
    let mut steps = Vec::new();
    let has_config = home.server_toml().exists();
    let config = if has_config { load(home, means)? } else { server_toml::compose(home, plan)?.1 };
    if has_config {
        server_toml::check(&config, plan)?;
    }
    let found = |is_there: bool| if is_there { Outcome::Found } else { Outcome::Made };
    steps.push(step(CONFIGURATION, found(has_config), home.server_toml().display().to_string()));
    let has_key = match config.master_key() {
        Some(MasterKeyConfig::Keyfile(path)) => path.exists(),
        _ => true,
    };
    steps.push(step(MASTER_KEY, found(has_key), described(&config)));
    if has_config && has_key && config.store().path().exists() {
        let stores = open_stores(&config)?;
        let foreseen = foresee_steps(home, plan, means, &config, &stores).await;
        stores.close();
        steps.extend(foreseen?);
    } else {
        let all = [bootstrap::AUTHORITY, bootstrap::SERVER, bootstrap::ADMIN, bootstrap::ADMIN_CERTIFICATE];
        steps.extend(all.map(|what| step(what, Outcome::Made, String::new())));
    }
    Ok(Local { config, steps, warnings: Vec::new() })
}

async fn foresee_steps(
    home: &Home,
    plan: &LocalPlan,
    means: &Means<'_>,
    config: &Config,
    stores: &OpenStores,
) -> Result<Vec<StepReport>> {
    let keyring = stores.stores().keyring.get_keyring().await?;
    let master_key = open_master_key(config, keyring.as_ref(), means.variable, means.random.clone())?;
    let plan = Plan { key_passphrase: key_passphrase(config)?, ..plan.steps.clone() };
    bootstrap::foresee(ground(home, config, stores, &master_key, means), &plan).await
}

/// Replaces the server's certificate now, whatever is left of its life. Returns what was done.
///
/// # Errors
/// As [`bootstrap`]; `file` where there is no environment in `home`.
pub async fn rotate_server(home: &Home, means: &Means<'_>) -> Result<StepReport> {
    let (config, stores) = open_existing(home, means)?;
    let rotated = async {
        let _lock = home.lock()?;
        let master_key = require_master_key(&config, &stores, means).await?;
        let ground = ground(home, &config, &stores, &master_key, means);
        bootstrap::rotate_server(ground, key_passphrase(&config)?).await
    };
    let rotated = rotated.await;
    stores.close();
    rotated
}

/// Makes a successor of the issuing CA, signed by the root key in `home`. It is active at once; the old one retires and
/// what it signed goes on counting.
///
/// # Errors
/// `file` where the root key is not here; `no-issuer`, also where one CA signs leaves directly.
pub async fn renew_issuing_ca(
    home: &Home,
    key_passphrase: Option<&Secret>,
    means: &Means<'_>,
) -> Result<IssuerId> {
    let (config, stores) = open_existing(home, means)?;
    let renewed = async {
        let _lock = home.lock()?;
        let configured = self::key_passphrase(&config)?;
        let root = key_file::open(&home.ca_key(), key_passphrase.or(configured.as_ref()))?;
        let master_key = require_master_key(&config, &stores, means).await?;
        let site = Site { stores: stores.stores(), clock: &*means.clock, random: &*means.random };
        let (_, sealer) =
            ensure_keyring(site, &master_key, master_key.kind(), master_key.salt().to_vec()).await?;
        let id = renew_issuer(site, &sealer, config.environment().as_str(), &root).await?;
        bootstrap::rewrite_bundle(ground(home, &config, &stores, &master_key, means)).await?;
        Ok(id)
    };
    let renewed = renewed.await;
    stores.close();
    renewed
}

/// The configuration in `home`.
///
/// # Errors
/// `file` where there is none; `config`.
pub fn load(home: &Home, means: &Means<'_>) -> Result<Config> {
    let path = home.server_toml();
    if !path.exists() {
        return Err(Error::new(
            Label::File,
            format!(
                "there is no local environment in {}: run `airunner-cli bootstrap --environment=local` first",
                home.path().display()
            ),
        ));
    }
    Config::load(Some(&path), means.variable, &[])
}

/// The passphrase of the private keys that `config` names the file of.
///
/// # Errors
/// `file`.
pub fn key_passphrase(config: &Config) -> Result<Option<Secret>> {
    config.tls().key_passphrase_file().map(|path| files::read_passphrase(path)).transpose()
}

const CONFIGURATION: &str = "configuration";
const MASTER_KEY: &str = "master key";

fn step(what: &'static str, outcome: Outcome, detail: String) -> StepReport {
    StepReport { what, outcome, detail }
}

fn ground<'a>(
    home: &'a Home,
    config: &'a Config,
    stores: &'a OpenStores,
    master_key: &'a MasterKey,
    means: &Means<'_>,
) -> Ground<'a> {
    Ground {
        config,
        stores: stores.stores(),
        master_key,
        home: Some(home),
        clock: means.clock.clone(),
        random: means.random.clone(),
    }
}

fn configure(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<(Outcome, Config)> {
    if home.server_toml().exists() {
        let config = load(home, means)?;
        server_toml::check(&config, plan)?;
        return Ok((Outcome::Found, config));
    }
    let (text, _) = server_toml::compose(home, plan)?;
    files::write(&home.server_toml(), text.as_bytes(), files::Access::Public)?;
    // As the server will read it, with the environment variables over it.
    Ok((Outcome::Made, load(home, means)?))
}

fn open_existing(home: &Home, means: &Means<'_>) -> Result<(Config, OpenStores)> {
    let config = load(home, means)?;
    let stores = open_stores(&config)?;
    Ok((config, stores))
}

/// Opens the master key; makes its file where neither it nor anything under it exists.
async fn master_key(config: &Config, stores: &OpenStores, means: &Means<'_>) -> Result<(Outcome, MasterKey)> {
    let keyring = stores.stores().keyring.get_keyring().await?;
    let mut outcome = Outcome::Found;
    if let (Some(MasterKeyConfig::Keyfile(path)), None) = (config.master_key(), &keyring)
        && !path.exists()
    {
        MasterKey::create_file(path, &*means.random)?;
        outcome = Outcome::Made;
    }
    let key = open_master_key(config, keyring.as_ref(), means.variable, means.random.clone())?;
    Ok((outcome, key))
}

async fn require_master_key(config: &Config, stores: &OpenStores, means: &Means<'_>) -> Result<MasterKey> {
    let keyring = stores.stores().keyring.get_keyring().await?;
    open_master_key(config, keyring.as_ref(), means.variable, means.random.clone())
}

fn described(config: &Config) -> String {
    match config.master_key() {
        Some(MasterKeyConfig::Keyfile(path)) => path.display().to_string(),
        Some(MasterKeyConfig::PassphraseEnv(name)) => format!("passphrase in {name}"),
        None => String::new(),
    }
}
