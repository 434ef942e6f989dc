//! `[tls]`: the profile, and where the server's certificate comes from.

use std::path::PathBuf;

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
}

/// What the listeners show.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    profile: TlsProfile,
    cert: Option<PemSource>,
    key: Option<PemSource>,
    ca: Option<PemSource>,
    key_passphrase_file: Option<PathBuf>,
}

impl TlsConfig {
    pub(super) fn validate(source: &Source, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let pem = |key, name: &'static str| -> Result<Option<PemSource>> {
            let in_variable =
                || variable(name).filter(|text| !text.is_empty()).map(|_| PemSource::Variable(name));
            Ok(source.path(key)?.map(PemSource::File).or_else(in_variable))
        };
        let config = Self {
            profile: source.parsed("tls.profile")?.unwrap_or_default(),
            cert: pem("tls.cert", "AIRUNNER_SERVER_CERT")?,
            key: pem("tls.key", "AIRUNNER_SERVER_KEY")?,
            ca: pem("tls.ca", "AIRUNNER_CA_CERT")?,
            key_passphrase_file: source.path("tls.key_passphrase_file")?,
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

    /// The roots that the store's own must be among.
    pub fn ca(&self) -> Option<&PemSource> {
        self.ca.as_ref()
    }

    /// What the key is encrypted under, where it is.
    pub fn key_passphrase_file(&self) -> Option<&PathBuf> {
        self.key_passphrase_file.as_ref()
    }
}
