//! `[tls]`: the profile, and where the server's certificate comes from.

use std::{path::PathBuf, time::Duration};

use airunner_core::Result;
use airunner_net::TlsProfile;

use super::source::Source;

/// Where PEM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemSource {
    /// A file, read anew when it changes.
    File(PathBuf),
    /// An environment variable that holds it.
    Variable(&'static str),
    /// A parameter of SSM, read anew when its version changes.
    Parameter(String),
}

/// What a source that is a parameter of SSM begins with.
const SSM: &str = "ssm:";
/// How often parameters are looked at.
const POLL: Duration = Duration::from_secs(30);

/// What the listeners show.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    profile: TlsProfile,
    cert: Option<PemSource>,
    key: Option<PemSource>,
    ca: Option<PemSource>,
    key_passphrase_file: Option<PathBuf>,
    poll: Duration,
}

impl TlsConfig {
    pub(super) fn validate(source: &Source, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let pem = |key, name: &'static str| -> Result<Option<PemSource>> {
            let in_variable =
                || variable(name).filter(|text| !text.is_empty()).map(|_| PemSource::Variable(name));
            match source.text(key)?.and_then(|text| text.strip_prefix(SSM)) {
                Some(parameter) if parameter.starts_with('/') && parameter.len() > 1 => {
                    Ok(Some(PemSource::Parameter(parameter.to_owned())))
                }
                Some(parameter) => {
                    let why = format!(
                        "names the SSM parameter {parameter:?}, and must be as ssm:/airunner/prod/server-cert"
                    );
                    Err(source.refuse(key, why))
                }
                None => Ok(source.path(key)?.map(PemSource::File).or_else(in_variable)),
            }
        };
        let config = Self {
            profile: source.parsed("tls.profile")?.unwrap_or_default(),
            cert: pem("tls.cert", "AIRUNNER_SERVER_CERT")?,
            key: pem("tls.key", "AIRUNNER_SERVER_KEY")?,
            ca: pem("tls.ca", "AIRUNNER_CA_CERT")?,
            key_passphrase_file: source.path("tls.key_passphrase_file")?,
            poll: source
                .duration("tls.poll", Duration::from_secs(1)..=Duration::from_hours(1))?
                .unwrap_or(POLL),
        };
        match (&config.cert, &config.key) {
            (Some(_), None) => Err(source.refuse("tls.cert", "is set without tls.key: set both or neither")),
            (None, Some(_)) => Err(source.refuse("tls.key", "is set without tls.cert: set both or neither")),
            _ => Ok(config),
        }
    }

    /// What TLS is allowed.
    pub fn profile(&self) -> TlsProfile {
        self.profile
    }

    /// The server's certificate with its chain, and its key; none where the server is to issue its own.
    pub fn identity(&self) -> Option<(&PemSource, &PemSource)> {
        self.cert.as_ref().zip(self.key.as_ref())
    }

    /// Whether one of them is a parameter of SSM.
    pub fn reads_parameters(&self) -> bool {
        let all = [&self.cert, &self.key, &self.ca];
        all.into_iter().flatten().any(|source| matches!(source, PemSource::Parameter(_)))
    }

    /// The roots that the store's own must be among.
    pub fn ca(&self) -> Option<&PemSource> {
        self.ca.as_ref()
    }

    /// How often parameters of SSM are looked at; longer while SSM does not answer.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// What the key is encrypted under, where it is.
    pub fn key_passphrase_file(&self) -> Option<&PathBuf> {
        self.key_passphrase_file.as_ref()
    }
}
