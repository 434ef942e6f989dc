//! A certificate and its key in two files, replaced so that an interruption at any point can be finished: the new key
//! waits beside the old one until its certificate is written.

use airunner_app::bootstrap::Step;
use airunner_core::{KeyAlgorithm, Result, Secret, Timestamp};
use airunner_pki::{OidArc, PrivateKey, certificate_to_pem, certificates_from_pem, parse_certificate};

use super::{Credentials, keep_public};
use crate::{PairFiles, files, key_file};

/// What two files held.
pub(super) enum Found {
    /// Neither is there.
    Nothing,
    /// Not both are there, or they don't belong together.
    Parts,
    /// A certificate with its key.
    Pair(Credentials),
}

impl Found {
    /// What making another comes to.
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Nothing => Step::Made,
            Self::Parts | Self::Pair(_) => Step::Replaced,
        }
    }
}

/// A certificate and a key as they were read, each PEM, if they belong together.
pub(super) fn of_pem(pem: &[u8], key: &Secret, arc: &OidArc) -> Found {
    let key = PrivateKey::from_pem(key.expose(), None).ok();
    key.and_then(|key| matched(pem, key, arc)).map_or(Found::Parts, Found::Pair)
}

/// Reads the two files.
pub(super) fn read(paths: &PairFiles, passphrase: Option<&Secret>, arc: &OidArc) -> Result<Found> {
    let key = key_file::find(&paths.key, passphrase)?;
    let pem = files::read(&paths.cert)?;
    match (pem, key) {
        (None, None) => Ok(Found::Nothing),
        (Some(pem), Some(key)) => Ok(matched(&pem, key, arc).map_or(Found::Parts, Found::Pair)),
        _ => Ok(Found::Parts),
    }
}

fn matched(pem: &[u8], key: PrivateKey, arc: &OidArc) -> Option<Credentials> {
    let chain = certificates_from_pem(pem).ok()?;
    let leaf = parse_certificate(chain.first()?, arc).ok()?;
    let belongs = leaf.public_key.spki() == key.public_key();
    belongs.then_some(Credentials { chain, key, not_after: leaf.not_after })
}

/// The key that an interrupted run left waiting, else a new one that waits from now on.
pub(super) fn pending_key(
    paths: Option<&PairFiles>,
    passphrase: Option<&Secret>,
    algorithm: KeyAlgorithm,
) -> Result<PrivateKey> {
    let Some(paths) = paths else { return PrivateKey::generate(algorithm) };
    let waiting = key_file::find(&paths.pending_key(), passphrase)?;
    if let Some(key) = waiting.filter(|key| key.algorithm() == algorithm) {
        return Ok(key);
    }
    let key = PrivateKey::generate(algorithm)?;
    key_file::write(&paths.pending_key(), &key, passphrase)?;
    Ok(key)
}

/// Writes the certificate, then gives the key that waited its place.
pub(super) fn settle(paths: &PairFiles, chain: &[Vec<u8>]) -> Result<()> {
    keep_public(&paths.cert, &chain_pem(chain))?;
    files::rename(&paths.pending_key(), &paths.key)
}

/// Removes a key that waits for nothing, after a run that was interrupted past its use.
pub(super) fn forget_pending(paths: &PairFiles) -> Result<()> {
    files::remove(&paths.pending_key())
}

pub(super) fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| certificate_to_pem(der)).collect()
}

/// What a report says of a certificate.
pub(super) fn until(not_after: Timestamp) -> String {
    format!("until {}", super::day(not_after))
}
