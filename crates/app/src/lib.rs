//! The use cases of airunner, its authentication and its authorization policy. No transport, no database and no
//! cloud is named here; of tokio only `tokio::sync` is used, and time passes by the clock that is handed in.

pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod certificate;
pub mod clock_reset;
mod context;
pub mod enrollment;
pub mod event;
pub mod explain;
pub mod fleet;
pub mod housekeeping;
pub mod issuer;
pub mod job;
pub mod live;
pub mod principal;
mod recent;
mod recheck;
mod retention;
pub mod seal;
pub mod status;
mod steady;
pub mod watch;

use std::sync::{Arc, OnceLock};

use airunner_core::{Clock, KeyPurpose, KeyWrap, Result, SecureRandom, Stores};

pub use context::{Counters, OnFork, RetentionPolicy, Settings};

use crate::{
    audit::Audit,
    authn::Authenticator,
    certificate::Certificates,
    context::Context,
    enrollment::Enrollments,
    event::Events,
    fleet::Fleet,
    housekeeping::Housekeeping,
    issuer::{Issuers, OutsideKeys},
    job::{Jobs, hub::JobHub, task_token::TaskTokens},
    live::Live,
    principal::Principals,
    recent::RecentPrincipals,
    seal::{Sealer, TASK_TOKEN_PLACE},
    status::{Follower, StatusView},
    steady::SteadyClock,
};

/// Everything that an environment can do, over one set of stores.
pub struct App {
    pub(crate) context: Arc<Context>,
    /// Turns connections into callers.
    pub authenticator: Authenticator,
    /// The registry.
    pub principals: Principals,
    /// Certificates.
    pub certificates: Certificates,
    /// Enrolment.
    pub enrollments: Enrollments,
    /// Jobs.
    pub jobs: Jobs,
    /// Events and output.
    pub events: Events,
    /// The audit log.
    pub audit: Audit,
    /// Follows the change feed.
    pub follower: Follower,
    /// This server among the others.
    pub fleet: Arc<Fleet>,
    /// Background work.
    pub housekeeping: Housekeeping,
}

impl App {
    /// Opens an environment that was bootstrapped: unwraps its keys, loads its issuers and every denial in force.
    ///
    /// # Errors
    /// `no-issuer` before bootstrap, `wrong-master-key`, and what the stores say.
    pub async fn open(
        stores: Stores,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
        wrap: &dyn KeyWrap,
        settings: Settings,
    ) -> Result<Self> {
        Self::open_with(stores, clock, random, wrap, settings, OutsideKeys::default()).await
    }

    /// As [`App::open`], where some issuers' keys are not in the store.
    ///
    /// # Errors
    /// As there; `config` where a key's holder is not among `outside`; what the holder says.
    pub async fn open_with(
        stores: Stores,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
        wrap: &dyn KeyWrap,
        settings: Settings,
        outside: OutsideKeys,
    ) -> Result<Self> {
        let keyring = stores.keyring.get_keyring().await?.ok_or_else(issuer::no_issuer)?;
        let sealer = Sealer::open(&keyring, wrap).await?;
        let task_tokens =
            sealer.open_sealed(KeyPurpose::TaskToken, TASK_TOKEN_PLACE, &keyring.task_token_key)?;
        let issuers = Issuers::load(&stores, &sealer, &outside).await?;
        let steady = Arc::new(SteadyClock::new(clock));
        let context = Arc::new(Context {
            stores,
            clock: steady.clone(),
            steady,
            random,
            settings,
            sealer,
            task_tokens: TaskTokens::new(&task_tokens),
            issuers,
            outside,
            live: Arc::new(Live::default()),
            status: StatusView::default(),
            recent: RecentPrincipals::default(),
            jobs: JobHub::default(),
            counters: Counters::default(),
            local_principal: OnceLock::new(),
        });
        status::reload(&context).await?;
        status::catch_up(&context).await?;
        let fleet = Arc::new(Fleet::new(context.clone()));
        Ok(Self {
            authenticator: Authenticator::new(context.clone()),
            principals: Principals::new(context.clone()),
            certificates: Certificates::new(context.clone()),
            enrollments: Enrollments::new(context.clone()),
            jobs: Jobs::new(context.clone(), fleet.clone()),
            events: Events::new(context.clone()),
            audit: Audit::new(context.clone()),
            follower: Follower::new(context.clone()),
            housekeeping: Housekeeping::new(context.clone(), fleet.clone()),
            fleet,
            context,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// The issuers, kept up to date.
    pub fn issuers(&self) -> &Issuers {
        &self.context.issuers
    }

    /// The denials that this server knows of.
    pub fn status(&self) -> &StatusView {
        &self.context.status
    }

    /// The live connections.
    pub fn live(&self) -> &Arc<Live> {
        &self.context.live
    }

    /// What is counted for the metrics.
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// The stores, for what only looks at them: metrics and readiness.
    pub fn stores(&self) -> &Stores {
        &self.context.stores
    }

    /// The clock that this server acts by: a leap ahead of its machine's is not in it.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.context.clock
    }

    /// Randomness.
    pub fn random(&self) -> &Arc<dyn SecureRandom> {
        &self.context.random
    }
}
