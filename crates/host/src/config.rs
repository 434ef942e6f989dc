//! The configuration of a server: settings as written (`source`) become a [`Config`] that holds only what makes sense.
//! Nothing is opened here; a file that a setting names need not exist yet.

mod aws;
mod ca;
mod environment;
mod git;
mod jobs;
mod limits;
mod master_key;
mod root;
mod server;
mod source;
mod store;
mod tls;
mod worker;

use std::path::{Path, PathBuf};

use airunner_core::{Result, TrustDomain};

pub use aws::AwsConfig;
pub use ca::{CaConfig, IssuerPlace};
pub use environment::Environment;
pub use git::GitConfig;
pub use jobs::JobsConfig;
pub use limits::{LimitsConfig, Rate};
pub use master_key::MasterKeyConfig;
pub use root::{RootConfig, RootPlace};
pub use server::ServerConfig;
pub use source::FlagSetting;
pub use store::{Backend, StoreConfig};
pub use tls::{PemSource, TlsConfig};
pub use worker::WorkerConfig;

use source::Source;

/// The names of the settings of a section.
#[cfg(test)]
pub(crate) fn settings_of(section: &str) -> impl Iterator<Item = &'static str> {
    source::KEYS.iter().filter_map(move |key| key.strip_prefix(section)?.strip_prefix('.'))
}

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    file: Option<PathBuf>,
    environment: Environment,
    trust_domain: TrustDomain,
    server: ServerConfig,
    tls: TlsConfig,
    store: StoreConfig,
    master_key: Option<MasterKeyConfig>,
    ca: CaConfig,
    root: RootConfig,
    aws: AwsConfig,
    limits: LimitsConfig,
    jobs: JobsConfig,
    worker: WorkerConfig,
}

impl Config {
    /// Reads `file` (TOML, at most 1 MiB), lays the environment variables `AIRUNNER_SECTION_KEY` over it and `flags`
    /// over both, and validates the whole. An empty variable counts as not set. Relative paths in it are relative to
    /// the folder of `file`.
    ///
    /// # Errors
    /// `config` for an unknown key, a bad value or a weak parameter, with the key's name and its place: the line of
    /// the file, the variable or the flag. `file` where `file` can't be read.
    pub fn load(
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: &[FlagSetting],
    ) -> Result<Self> {
        Self::validate(&Source::read(file, variable, flags)?, variable)
    }

    /// Validates `text` as if it had been read from `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        Self::validate(&Source::new(Some((file, text)), &|_| None, &[])?, &|_| None)
    }

    fn validate(source: &Source, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let environment: Environment = source
            .parsed("environment")?
            .ok_or_else(|| source.refuse("environment", "is not set: it is local, dev or prod"))?;
        let trust_domain = match source.parsed("trust_domain")? {
            Some(domain) => domain,
            None => environment.default_trust_domain()?,
        };
        let tls = TlsConfig::validate(source, variable)?;
        let store = StoreConfig::validate(source)?;
        Ok(Self {
            file: source.file().map(Path::to_owned),
            environment,
            trust_domain,
            server: ServerConfig::validate(source)?,
            master_key: MasterKeyConfig::validate(source, store.backend())?,
            ca: CaConfig::validate(source, tls.profile())?,
            root: RootConfig::validate(source)?,
            aws: AwsConfig::validate(source)?,
            tls,
            store,
            limits: LimitsConfig::validate(source, environment)?,
            jobs: JobsConfig::validate(source)?,
            worker: WorkerConfig::validate(source, environment)?,
        })
    }

    /// The file it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Which environment this is.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// The authority of its SPIFFE ids; `ENVIRONMENT.airunner.internal` where it is not set.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// `[server]`.
    pub fn server(&self) -> &ServerConfig {
        &self.server
    }

    /// `[tls]`.
    pub fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    /// `[store]`.
    pub fn store(&self) -> &StoreConfig {
        &self.store
    }

    /// `[master_key]`; none with the memory backend, which makes one up.
    pub fn master_key(&self) -> Option<&MasterKeyConfig> {
        self.master_key.as_ref()
    }

    /// `[ca]`.
    pub fn ca(&self) -> &CaConfig {
        &self.ca
    }

    /// `[root]`.
    pub fn root(&self) -> &RootConfig {
        &self.root
    }

    /// `[aws]`.
    pub fn aws(&self) -> &AwsConfig {
        &self.aws
    }

    /// Whether some part of the environment is in AWS.
    pub fn uses_aws(&self) -> bool {
        self.store.backend() == Backend::DynamoDb
            || self.store.bucket().is_some()
            || self.tls.reads_parameters()
            || matches!(self.master_key, Some(MasterKeyConfig::KmsKey(_)))
            || self.ca.issuer() == IssuerPlace::Kms
            || *self.root.place() != RootPlace::File
    }

    /// `[limits]`.
    pub fn limits(&self) -> &LimitsConfig {
        &self.limits
    }

    /// `[jobs]`.
    pub fn jobs(&self) -> &JobsConfig {
        &self.jobs
    }

    /// `[worker]`.
    pub fn worker(&self) -> &WorkerConfig {
        &self.worker
    }

    /// The same with the addresses that the listeners really got, where their port was 0.
    #[must_use]
    pub fn with_bound(mut self, api: std::net::SocketAddr, public: std::net::SocketAddr) -> Self {
        self.server.set_bound(api, public);
        self
    }
}

#[cfg(test)]
mod tests;
