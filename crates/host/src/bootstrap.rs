//! The steps that make an environment: CA, server certificate, first admin and its certificate; and the look at what a
//! server will need. Each finds what is there or makes it, so that running them again, or after an interruption, ends
//! in the same place. Configuration, master key and database of the local environment are `local.rs`.

mod admin;
mod authority;
mod foresee;
mod pair;
mod server;
mod upload;
mod verify;

use std::{fmt, sync::Arc, time::Duration};

use airunner_app::{
    App,
    bootstrap::{RENEW_WITHIN, Site, Step},
};
use airunner_core::{
    Clock, Error, KeyAlgorithm, Label, PrincipalId, Result, Secret, SecureRandom, Stores, Timestamp,
};
use airunner_net::TlsProfile;
use airunner_pki::PrivateKey;

use crate::{
    Cloud, Config, Home, MasterKey,
    config::Backend,
    files::{self, Access},
    open::{outside_keys, settings},
};

pub(crate) use authority::Root;
pub(crate) use foresee::foresee;

/// The names of the steps.
pub(crate) const AUTHORITY: &str = "certificate authority";
pub(crate) const SERVER: &str = "server certificate";
pub(crate) const ADMIN: &str = "admin principal";
pub(crate) const ADMIN_CERTIFICATE: &str = "admin certificate";
pub(crate) const UPLOAD: &str = "upload";
pub(crate) const VERIFICATION: &str = "verification";
const STEPS: [&str; 6] = [AUTHORITY, SERVER, ADMIN, ADMIN_CERTIFICATE, UPLOAD, VERIFICATION];

/// What is wanted of a bootstrap.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first admin.
    pub admin: PrincipalId,
    /// One CA that signs leaves directly, in place of a root and an issuing CA.
    pub single_ca: bool,
    /// Replace the server's and the admin's certificate, however long they last.
    pub force: bool,
    /// Make a new CA in place of the one that is there: every certificate stops counting.
    pub force_new_ca: bool,
    /// Make what is missing in AWS.
    pub create: bool,
    /// Encrypts the private keys, and opens them.
    pub key_passphrase: Option<Secret>,
}

impl Plan {
    /// A first admin called `admin`, and nothing replaced.
    ///
    /// # Errors
    /// None that can be caused.
    pub fn first_admin() -> Result<Self> {
        Ok(Self {
            admin: "admin".parse()?,
            single_ca: false,
            force: false,
            force_new_ca: false,
            create: false,
            key_passphrase: None,
        })
    }
}

/// Where an environment is made.
#[derive(Clone)]
pub struct Ground<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// Its store.
    pub stores: &'a Stores,
    /// What wraps its keys.
    pub master_key: &'a MasterKey,
    /// Where its files are; none keeps everything in memory.
    pub home: Option<&'a Home>,
    /// AWS, where some part of it is there.
    pub cloud: Option<&'a Cloud>,
    /// Hears of each step once it is done, and may stop there; the next run goes on.
    pub watch: &'a (dyn Fn(&StepReport) -> Result<()> + Sync),
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn SecureRandom>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Found,
    /// It was made.
    Made,
    /// Another was there and gave way.
    Replaced,
    /// It was put where servers look for it.
    Uploaded,
    /// There is nothing to do in this environment.
    NotNeeded,
    /// It was looked at, and is as it must be.
    Verified,
}

impl Outcome {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Made => "made",
            Self::Replaced => "replaced",
            Self::Uploaded => "uploaded",
            Self::NotNeeded => "not needed",
            Self::Verified => "verified",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Step> for Outcome {
    fn from(step: Step) -> Self {
        match step {
            Step::Found => Self::Found,
            Step::Made => Self::Made,
            Step::Replaced => Self::Replaced,
        }
    }
}

/// One step of a bootstrap, done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// What it is about.
    pub what: &'static str,
    /// What it came to.
    pub outcome: Outcome,
    /// Which, where, until when.
    pub detail: String,
}

impl StepReport {
    /// Which of the six steps it is; none for what only goes with them.
    pub fn number(&self) -> Option<u8> {
        STEPS.iter().position(|what| *what == self.what).and_then(|at| u8::try_from(at + 1).ok())
    }
}

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Credentials {
    /// The leaf, then what is above it but the root, DER.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// When the leaf ends.
    pub not_after: Timestamp,
}

/// An environment that was made, or found to be whole.
pub struct Bootstrapped {
    /// Its use cases.
    pub app: Arc<App>,
    /// The server's certificate.
    pub server: Credentials,
    /// The first admin's.
    pub admin: Credentials,
    /// What each step came to.
    pub steps: Vec<StepReport>,
    /// What someone should see to before long.
    pub warnings: Vec<String>,
}

/// Takes the steps. With a `home`, whoever calls holds its lock.
///
/// # Errors
/// `file` where a file is open to others, can't be opened or does not belong to the store; `wrong-master-key`;
/// `principal-not-active` where the admin was suspended: bootstrap never undoes a denial.
pub async fn run(ground: Ground<'_>, plan: &Plan) -> Result<Bootstrapped> {
    let mut work = Work { ground, plan, steps: Vec::new(), warnings: Vec::new() };
    let app = work.authority().await?;
    let server = work.server(&app).await?;
    work.admin_principal(&app).await?;
    let admin = work.admin_certificate(&app).await?;
    if ground_is_lasting(&work.ground) {
        work.upload(&app, &server).await?;
        work.verification(&app).await?;
    }
    let Work { steps, warnings, .. } = work;
    Ok(Bootstrapped { app, server, admin, steps, warnings })
}

/// Takes the steps on a store that is gone with the process. Where a `home` is given, the credentials are written there.
///
/// # Errors
/// As [`run`]; `file` where `home` holds an environment that lasts.
pub async fn in_memory(ground: Ground<'_>, plan: &Plan) -> Result<Bootstrapped> {
    let Some(home) = ground.home else { return run(ground, plan).await };
    if home.master_key().exists() {
        return Err(Error::new(
            Label::File,
            format!(
                "{} holds an environment that lasts, and one in memory would write over its keys: choose another \
                 folder (AIRUNNER_HOME)",
                home.path().display()
            ),
        ));
    }
    let _lock = home.lock()?;
    run(ground, plan).await
}

/// Replaces the server's certificate, and nothing else.
pub(crate) async fn rotate_server(ground: Ground<'_>, key_passphrase: Option<Secret>) -> Result<StepReport> {
    let plan = Plan { force: true, key_passphrase, ..Plan::first_admin()? };
    let mut work = Work { ground, plan: &plan, steps: Vec::new(), warnings: Vec::new() };
    let app = work.open_app().await?;
    let server = work.server(&app).await?;
    let step = work.steps.pop();
    if work.parameters().is_some() {
        work.upload(&app, &server).await?;
    }
    step.ok_or_else(|| Error::internal("a step reports what it did"))
}

/// Writes the roots and the issuing CAs as the store has them now.
pub(crate) async fn rewrite_bundle(ground: Ground<'_>) -> Result<()> {
    let plan = Plan::first_admin()?;
    let work = Work { ground, plan: &plan, steps: Vec::new(), warnings: Vec::new() };
    work.write_authority(&*work.open_app().await?)
}

/// A bootstrap under way.
struct Work<'a> {
    ground: Ground<'a>,
    plan: &'a Plan,
    steps: Vec<StepReport>,
    warnings: Vec<String>,
}

impl Work<'_> {
    fn report(
        &mut self,
        what: &'static str,
        outcome: impl Into<Outcome>,
        detail: impl Into<String>,
    ) -> Result<()> {
        let report = StepReport { what, outcome: outcome.into(), detail: detail.into() };
        let heard = (self.ground.watch)(&report);
        self.steps.push(report);
        heard
    }

    fn site(&self) -> Site<'_> {
        Site { stores: self.ground.stores, clock: &*self.ground.clock, random: &*self.ground.random }
    }

    fn passphrase(&self) -> Option<&Secret> {
        self.plan.key_passphrase.as_ref()
    }

    fn algorithm(&self) -> KeyAlgorithm {
        match self.ground.config.tls().profile() {
            TlsProfile::Default => KeyAlgorithm::EcdsaP256,
            TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
        }
    }

    async fn open_app(&self) -> Result<Arc<App>> {
        let Ground { config, stores, master_key, cloud, clock, random, .. } = &self.ground;
        let outside = outside_keys(config, *cloud).await?;
        let (clock, random) = (clock.clone(), random.clone());
        let app = App::open_with((*stores).clone(), clock, random, *master_key, settings(config), outside);
        app.await.map(Arc::new)
    }
}

/// Whether what is made outlives the process, so that there is something to look back at.
fn ground_is_lasting(ground: &Ground<'_>) -> bool {
    ground.home.is_some() && ground.config.store().backend() != Backend::Memory
}

/// Before its end, a certificate is replaced this early: 7 days, or a quarter of a life that is shorter than 28.
fn margin(life: Duration) -> Duration {
    RENEW_WITHIN.min(life / 4)
}

/// Writes a public file unless it is so already: a second run changes nothing, not even a time.
fn keep_public(path: &std::path::Path, text: &str) -> Result<()> {
    if files::read(path)?.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    files::write(path, text.as_bytes(), Access::Public)
}

/// The day of a time, for people.
fn day(at: Timestamp) -> String {
    at.to_string().split('T').next().unwrap_or_default().to_owned()
}
