//! An environment made from one folder: the local one is all in it, that of `dev` and `prod` has there only what its
//! admin needs, and the rest in AWS. The steps over the store are `bootstrap.rs`; here is what they need first, and the
//! operations that open root key and store by themselves.

mod parts;
mod server_toml;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use airunner_app::bootstrap::{IssuingKey, Site, ensure_keyring, renew_issuer};
use airunner_core::{Clock, DnsName, Error, IssuerId, Label, Result, Secret, SecureRandom};
use airunner_net::TlsProfile;

use crate::{
    Cloud, Config, Home, MasterKey,
    bootstrap::{self, Bootstrapped, Ground, Outcome, Plan, Root, StepReport},
    config::{Backend, Environment, FlagSetting, IssuerPlace, MasterKeyConfig, PemSource, RootPlace},
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
    /// What is wanted in AWS; ignored by the local environment.
    pub cloud: CloudPlan,
    /// The steps over the store.
    pub steps: Plan,
}

/// What is wanted of an environment in AWS.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloudPlan {
    /// Where the root's key is to be, in a new environment.
    pub signer: RootSigner,
    /// Where the issuing CA's key is to be, in a new environment.
    pub issuer: IssuerPlace,
    /// Whether servers are to use the root's key, in a new environment.
    pub online: bool,
    /// Make every part that is missing.
    pub create: bool,
    /// Make the keys that are missing.
    pub create_key: bool,
}

/// Where a root's key is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootSigner {
    /// In KMS, which it never leaves.
    #[default]
    Kms,
    /// Made here, and kept in Secrets Manager.
    File,
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
    /// Settings of the command line, over those of the file and the variables.
    pub flags: Vec<FlagSetting>,
    /// Hears of each step once it is done, and may stop there; the next run goes on.
    pub watch: &'a (dyn Fn(&StepReport) -> Result<()> + Sync),
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn SecureRandom>,
}

/// Makes the environment of `home`, or finds it whole; two at once take turns, but for those on two machines, of which
/// one makes what both find. Blocks while it reads and writes files.
///
/// # Errors
/// `config` where the configuration that is there contradicts the plan, or is wrong; `aws-missing` for a part that is
/// to be made elsewhere; and as [`bootstrap::run`].
pub async fn bootstrap(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<Local> {
    let _lock = home.lock()?;
    let mut steps = Steps { done: Vec::new(), watch: means.watch };
    let (outcome, config) = configure(home, plan, means).await?;
    steps.add(CONFIGURATION, outcome, home.server_toml().display().to_string())?;
    let cloud = Cloud::of(&config).await?;
    if let Some(cloud) = &cloud {
        parts::ensure(cloud, &config, plan, false, &mut steps).await?;
    }
    let stores = open_stores(&config, cloud.as_ref(), means.random.clone()).await?;
    let open = Open { home, config: &config, cloud: cloud.as_ref(), stores: &stores };
    let made = open.over_store(plan, means, &mut steps).await;
    // Whatever came of it, the store is closed in order.
    stores.close();
    let made = made?;
    steps.done.extend(made.steps);
    Ok(Local { config, steps: steps.done, warnings: made.warnings })
}

/// What [`bootstrap`] would do; changes nothing.
///
/// # Errors
/// As [`bootstrap`].
pub async fn foresee(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<Local> {
    let mut steps = Steps { done: Vec::new(), watch: means.watch };
    let has_config = home.server_toml().exists();
    let config =
        if has_config { load(home, means)? } else { server_toml::compose(home, plan, means).await?.1 };
    if has_config {
        server_toml::check(&config, plan)?;
    }
    let found = |is_there: bool| if is_there { Outcome::Found } else { Outcome::Made };
    steps.add(CONFIGURATION, found(has_config), home.server_toml().display().to_string())?;
    let cloud = Cloud::of(&config).await?;
    let mut is_whole = has_config;
    if let Some(cloud) = &cloud {
        is_whole = parts::ensure(cloud, &config, plan, true, &mut steps).await?;
    }
    match config.master_key() {
        Some(MasterKeyConfig::KmsKey(_)) => {}
        Some(MasterKeyConfig::Keyfile(path)) => {
            is_whole &= path.exists();
            steps.add(MASTER_KEY, found(path.exists()), described(&config))?;
        }
        _ => steps.add(MASTER_KEY, Outcome::Found, described(&config))?,
    }
    if is_whole && has_store(&config) {
        let stores = open_stores(&config, cloud.as_ref(), means.random.clone()).await?;
        let open = Open { home, config: &config, cloud: cloud.as_ref(), stores: &stores };
        let foreseen = open.foresee(plan, means).await;
        stores.close();
        steps.done.extend(foreseen?);
    } else {
        let all = [bootstrap::AUTHORITY, bootstrap::SERVER, bootstrap::ADMIN, bootstrap::ADMIN_CERTIFICATE];
        for what in all {
            steps.add(what, Outcome::Made, String::new())?;
        }
        if cloud.is_some() {
            steps.add(bootstrap::UPLOAD, Outcome::Uploaded, String::new())?;
        }
    }
    Ok(Local { config, steps: steps.done, warnings: Vec::new() })
}

/// Replaces the server's certificate now, whatever is left of its life, where servers look for it. Returns what was
/// done.
///
/// # Errors
/// As [`bootstrap`]; `file` where there is no environment in `home`.
pub async fn rotate_server(home: &Home, means: &Means<'_>) -> Result<Rotated> {
    let (config, cloud, stores) = open_existing(home, means).await?;
    let open = Open { home, config: &config, cloud: cloud.as_ref(), stores: &stores };
    let rotated = async {
        let _lock = home.lock()?;
        let master_key = open.master_key(means).await?;
        bootstrap::rotate_server(open.ground(&master_key, means), key_passphrase(&config)?).await
    };
    let rotated = rotated.await;
    stores.close();
    let (cert, key) = match config.tls().identity() {
        Some((PemSource::Parameter(cert), PemSource::Parameter(key))) => (cert.clone(), key.clone()),
        _ => (home.server().cert.display().to_string(), home.server().key.display().to_string()),
    };
    Ok(Rotated { step: rotated?, cert, key })
}

/// A server's certificate that was replaced.
#[derive(Debug)]
pub struct Rotated {
    /// What came of it.
    pub step: StepReport,
    /// Where servers find the certificate: a file, or a parameter of SSM.
    pub cert: String,
    /// Where they find its key.
    pub key: String,
}

/// Makes a successor of the issuing CA, signed by the root's key: the file in `home`, KMS, or the secret, as `[root]`
/// says. It is active at once; the old one retires and what it signed goes on counting. Where the issuing CA's key is
/// in KMS, its successor needs one of its own, which only `create_key` makes.
///
/// # Errors
/// `file` where the root key is not here; `no-issuer`, also where one CA signs leaves directly.
pub async fn renew_issuing_ca(
    home: &Home,
    key_passphrase: Option<&Secret>,
    create_key: bool,
    means: &Means<'_>,
) -> Result<IssuerId> {
    let (config, cloud, stores) = open_existing(home, means).await?;
    let open = Open { home, config: &config, cloud: cloud.as_ref(), stores: &stores };
    let renewed = async {
        let _lock = home.lock()?;
        open.renew_issuing_ca(key_passphrase, create_key, means).await
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
                "there is no environment in {}: run `airunner-cli bootstrap --environment=local` (or dev, or prod) first",
                home.path().display()
            ),
        ));
    }
    Config::load(Some(&path), means.variable, &means.flags)
}

/// The passphrase of the private keys that `config` names the file of.
///
/// # Errors
/// `file`.
pub fn key_passphrase(config: &Config) -> Result<Option<Secret>> {
    config.tls().key_passphrase_file().map(|path| files::read_passphrase(path)).transpose()
}

/// The alias of the issuing CA's key in KMS.
pub(crate) fn issuing_alias(environment: Environment) -> String {
    format!("alias/airunner-{environment}-issuing")
}

const CONFIGURATION: &str = "configuration";
const MASTER_KEY: &str = "master key";

/// The steps that are done.
struct Steps<'a> {
    done: Vec<StepReport>,
    watch: &'a (dyn Fn(&StepReport) -> Result<()> + Sync),
}

impl Steps<'_> {
    fn add(&mut self, what: &'static str, outcome: Outcome, detail: String) -> Result<()> {
        let report = StepReport { what, outcome, detail };
        let heard = (self.watch)(&report);
        self.done.push(report);
        heard
    }
}

/// An environment whose store is open.
struct Open<'a> {
    home: &'a Home,
    config: &'a Config,
    cloud: Option<&'a Cloud>,
    stores: &'a OpenStores,
}

impl<'a> Open<'a> {
    fn ground(&self, master_key: &'a MasterKey, means: &Means<'a>) -> Ground<'a> {
        Ground {
            config: self.config,
            stores: self.stores.stores(),
            master_key,
            home: Some(self.home),
            cloud: self.cloud,
            watch: means.watch,
            clock: means.clock.clone(),
            random: means.random.clone(),
        }
    }

    async fn over_store(
        &self,
        plan: &LocalPlan,
        means: &Means<'_>,
        steps: &mut Steps<'_>,
    ) -> Result<Bootstrapped> {
        let (outcome, master_key) = self.make_master_key(means).await?;
        if !matches!(self.config.master_key(), Some(MasterKeyConfig::KmsKey(_))) {
            steps.add(MASTER_KEY, outcome, described(self.config))?;
        }
        let inner = Plan {
            key_passphrase: key_passphrase(self.config)?,
            create: plan.cloud.create,
            ..plan.steps.clone()
        };
        bootstrap::run(self.ground(&master_key, means), &inner).await
    }

    async fn foresee(&self, plan: &LocalPlan, means: &Means<'_>) -> Result<Vec<StepReport>> {
        let master_key = self.master_key(means).await?;
        let plan = Plan { key_passphrase: key_passphrase(self.config)?, ..plan.steps.clone() };
        bootstrap::foresee(self.ground(&master_key, means), &plan).await
    }

    async fn renew_issuing_ca(
        &self,
        passphrase: Option<&Secret>,
        create_key: bool,
        means: &Means<'_>,
    ) -> Result<IssuerId> {
        let configured = key_passphrase(self.config)?;
        let root = self.root(passphrase.or(configured.as_ref())).await?;
        let master_key = self.master_key(means).await?;
        let site = Site { stores: self.stores.stores(), clock: &*means.clock, random: &*means.random };
        let (_, sealer) =
            ensure_keyring(site, &master_key, master_key.kind(), master_key.salt().to_vec()).await?;
        let held = match (self.config.ca().issuer(), self.cloud) {
            (IssuerPlace::Kms, Some(_)) if !create_key => {
                return Err(Error::new(
                    Label::AwsMissing,
                    "the issuing CA's key is in KMS, and its successor needs one of its own: add --create-key, which \
                     makes it and puts the alias on it",
                ));
            }
            (IssuerPlace::Kms, Some(cloud)) => {
                let alias = issuing_alias(self.config.environment());
                Some(cloud.replace_key(&alias, root.signer.algorithm()).await?)
            }
            _ => None,
        };
        let key = held.as_ref().map(|held| IssuingKey::Held { signer: &*held.signer, name: &held.name });
        let id = renew_issuer(site, &sealer, &*root.signer, key).await?;
        bootstrap::rewrite_bundle(self.ground(&master_key, means)).await?;
        Ok(id)
    }

    /// The root's key, which must be to hand.
    async fn root(&self, passphrase: Option<&Secret>) -> Result<Root> {
        match (self.config.root().place(), self.cloud) {
            (RootPlace::Kms(name), Some(cloud)) => Ok(cloud.signer(name).await?.into()),
            (RootPlace::Secret(name), Some(cloud)) => parts::root_of_secret(cloud, name, passphrase).await,
            _ => Ok(key_file::open(&self.home.ca_key(), passphrase)?.into()),
        }
    }

    async fn master_key(&self, means: &Means<'_>) -> Result<MasterKey> {
        let keyring = self.stores.stores().keyring.get_keyring().await?;
        let random = means.random.clone();
        open_master_key(self.config, keyring.as_ref(), means.variable, random, self.cloud).await
    }

    /// Opens the master key; makes its file where neither it nor anything under it exists.
    async fn make_master_key(&self, means: &Means<'_>) -> Result<(Outcome, MasterKey)> {
        let mut outcome = Outcome::Found;
        if let Some(MasterKeyConfig::Keyfile(path)) = self.config.master_key()
            && !path.exists()
            && self.stores.stores().keyring.get_keyring().await?.is_none()
        {
            MasterKey::create_file(path, &*means.random)?;
            outcome = Outcome::Made;
        }
        Ok((outcome, self.master_key(means).await?))
    }
}

async fn configure(home: &Home, plan: &LocalPlan, means: &Means<'_>) -> Result<(Outcome, Config)> {
    if home.server_toml().exists() {
        let config = load(home, means)?;
        server_toml::check(&config, plan)?;
        return Ok((Outcome::Found, config));
    }
    let (text, _) = server_toml::compose(home, plan, means).await?;
    files::write(&home.server_toml(), text.as_bytes(), files::Access::Public)?;
    // As the server will read it, with the environment variables over it.
    Ok((Outcome::Made, load(home, means)?))
}

async fn open_existing(home: &Home, means: &Means<'_>) -> Result<(Config, Option<Cloud>, OpenStores)> {
    let config = load(home, means)?;
    let cloud = Cloud::of(&config).await?;
    let stores = open_stores(&config, cloud.as_ref(), means.random.clone()).await?;
    Ok((config, cloud, stores))
}

/// Whether there may be something to look at without making it.
fn has_store(config: &Config) -> bool {
    config.store().backend() != Backend::Sqlite || config.store().path().exists()
}

fn described(config: &Config) -> String {
    match config.master_key() {
        Some(MasterKeyConfig::Keyfile(path)) => path.display().to_string(),
        Some(MasterKeyConfig::PassphraseEnv(name)) => format!("passphrase in {name}"),
        Some(MasterKeyConfig::KmsKey(name)) => format!("{name} in KMS"),
        None => String::new(),
    }
}
