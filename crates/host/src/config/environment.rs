//! Which environment this is. What differs between them is decided where it matters.

use std::{fmt, str::FromStr};

use airunner_core::{Error, Label, Result, TrustDomain};

/// An environment: one CA, one registry, one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Environment {
    /// One machine, on loopback.
    Local,
    /// For development, shared.
    Dev,
    /// The real thing.
    Prod,
}

impl Environment {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Dev => "dev",
            Self::Prod => "prod",
        }
    }

    /// The trust domain where none is set.
    pub(crate) fn default_trust_domain(self) -> Result<TrustDomain> {
        format!("{self}.airunner.internal").parse()
    }
}

impl FromStr for Environment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "local" => Ok(Self::Local),
            "dev" => Ok(Self::Dev),
            "prod" => Ok(Self::Prod),
            _ => Err(Error::new(
                Label::Config,
                format!("there is no environment {text:?}: they are local, dev and prod"),
            )),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
