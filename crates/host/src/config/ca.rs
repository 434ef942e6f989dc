//! `[ca]`: which keys are accepted, how long leaves live, what a fork leads to.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use airunner_app::{OnFork, Settings};
use airunner_core::{Error, KeyAlgorithm, Label, PrincipalType, Result};
use airunner_net::TlsProfile;
use airunner_pki::{AcceptedKeys, OidArc};

use super::source::Source;

/// How long a predecessor may go on counting after its renewal.
const MAX_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// The rules of issuance.
#[derive(Clone, Debug)]
pub struct CaConfig {
    accepted_keys: AcceptedKeys,
    on_fork: OnFork,
    overlap: Duration,
    validity: BTreeMap<PrincipalType, Duration>,
    oid_arc: OidArc,
    issuer: IssuerPlace,
}

/// Where the issuing CA's key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IssuerPlace {
    /// Sealed in the store, and held by every server.
    #[default]
    Store,
    /// In KMS, which signs every leaf.
    Kms,
}

impl CaConfig {
    pub(super) fn validate(source: &Source, profile: TlsProfile) -> Result<Self> {
        let mut validity = BTreeMap::new();
        for principal_type in PrincipalType::ALL {
            let key = format!("ca.validity.{principal_type}");
            if let Some(life) = source.duration(&key, Settings::MIN_VALIDITY..=Settings::MAX_VALIDITY)? {
                validity.insert(*principal_type, life);
            }
        }
        Ok(Self {
            accepted_keys: accepted_keys(source, profile)?,
            on_fork: on_fork(source)?,
            overlap: source
                .duration("ca.overlap", Duration::ZERO..=MAX_OVERLAP)?
                .unwrap_or(Settings::DEFAULT_OVERLAP),
            validity,
            oid_arc: source.parsed("ca.oid_arc")?.unwrap_or_default(),
            issuer: match source.text("ca.issuer")? {
                None | Some("store") => IssuerPlace::Store,
                Some("kms") => IssuerPlace::Kms,
                Some(other) => {
                    return Err(source.refuse("ca.issuer", format!("is {other:?}, and must be store or kms")));
                }
            },
        })
    }

    /// Where the issuing CA's key is.
    pub fn issuer(&self) -> IssuerPlace {
        self.issuer
    }

    /// Subject keys that are accepted.
    pub fn accepted_keys(&self) -> &AcceptedKeys {
        &self.accepted_keys
    }

    /// What a forked lineage leads to.
    pub fn on_fork(&self) -> OnFork {
        self.on_fork
    }

    /// How long a predecessor goes on counting after its renewal.
    pub fn overlap(&self) -> Duration {
        self.overlap
    }

    /// Life of leaves, by the type of their principal, where it is set.
    pub fn validity(&self) -> &BTreeMap<PrincipalType, Duration> {
        &self.validity
    }

    /// Under which the private extensions stand.
    pub fn oid_arc(&self) -> &OidArc {
        &self.oid_arc
    }
}

struct KeyName(KeyAlgorithm);

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = [
            KeyAlgorithm::EcdsaP256,
            KeyAlgorithm::EcdsaP384,
            KeyAlgorithm::EcdsaP521,
            KeyAlgorithm::Ed25519,
        ];
        known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text)).map(Self).ok_or_else(|| {
            Error::new(
                Label::Config,
                format!("there is no key type {text:?}: the types are P-256, P-384, P-521 and Ed25519"),
            )
        })
    }
}

fn accepted_keys(source: &Source, profile: TlsProfile) -> Result<AcceptedKeys> {
    let named: Option<Vec<KeyName>> = source.list("ca.accepted_keys", 4)?;
    if profile == TlsProfile::P384 {
        return Ok(AcceptedKeys::p384_profile());
    }
    match named {
        None => Ok(AcceptedKeys::default()),
        Some(names) if names.is_empty() => Err(source
            .refuse("ca.accepted_keys", "is empty, so that nobody could get a certificate: name a key type")),
        Some(names) => Ok(AcceptedKeys::new(names.into_iter().map(|name| name.0))),
    }
}

fn on_fork(source: &Source) -> Result<OnFork> {
    match source.text("ca.on_fork")? {
        None | Some("refuse") => Ok(OnFork::Refuse),
        Some("suspend") => Ok(OnFork::Suspend),
        Some(other) => {
            Err(source.refuse("ca.on_fork", format!("is {other:?}, and must be refuse or suspend")))
        }
    }
}
