//! Renewal: a new key, its certificate by the authority of the old one, and the exchange on the disk and in the client.

use airunner_core::{KeyAlgorithm, Timestamp};
use airunner_net::TlsProfile;
use airunner_pki::create_csr;
use airunner_proto::ca::v1::{GetTrustBundleRequest, RenewCertificateRequest};

use crate::{
    Client, IdentityFiles, LoadedIdentity, Result,
    enroll::{blocking, incomplete},
    identity::{Issued, PendingKey},
};

/// What renewal came to.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The identity that is current now, on the disk and in the client.
    pub identity: LoadedIdentity,
    /// When the old certificate ends; none where another process had renewed it already.
    pub predecessor_retire_at: Option<Timestamp>,
}

/// Renews the identity in `files` over `client`, whose connections show it, and exchanges it in both.
///
/// One process at a time renews a folder. Where another did while this one waited for its turn, its result is taken.
/// After a crash or a lost answer the same call finishes: it asks again with the same key.
///
/// # Errors
/// `lineage-forked` where this certificate was renewed elsewhere; the denials of a revoked or suspended identity;
/// `file`.
pub async fn renew(files: &IdentityFiles, client: &Client) -> Result<Renewed> {
    let lock = files.lock(&**client.clock()).await?;
    let current = load(files).await?;
    let shown = client.identity().map(|shown| shown.serial());
    if shown != Some(current.serial()) {
        client.replace_identity(current.clone())?;
        if shown.is_some() {
            return Ok(Renewed { identity: current, predecessor_retire_at: None });
        }
    }
    let (lock, key) = {
        let (files, serial, algorithm) = (files.clone(), current.serial(), algorithm(client, &current));
        let pending = PendingKey::Renewal(serial);
        blocking(move || files.pending_key(&lock, pending, algorithm).map(|key| (lock, key))).await?
    };
    let bundle = client.certificates().get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner();
    let request = RenewCertificateRequest { csr: create_csr(&key)? };
    let answer = client.certificates().renew_certificate(request).await?.into_inner();
    let certificate = answer.certificate.ok_or_else(|| incomplete("certificate"))?;
    let identity = {
        let files = files.clone();
        blocking(move || {
            let (chain_pem, roots_pem) = (&answer.chain_pem, &bundle.roots_pem);
            let issued = Issued { key: &key, certificate_pem: &certificate.pem, chain_pem, roots_pem };
            files.install(&lock, &issued)
        })
        .await?
    };
    client.replace_identity(identity.clone())?;
    let retire_at = answer.predecessor_retire_at.map(|at| {
        Timestamp::from_millis(
            at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000)),
        )
    });
    Ok(Renewed { identity, predecessor_retire_at: retire_at })
}

async fn load(files: &IdentityFiles) -> Result<LoadedIdentity> {
    let files = files.clone();
    blocking(move || files.load()).await
}

/// The type of the old key, or what the profile allows where that has changed.
fn algorithm(client: &Client, current: &LoadedIdentity) -> KeyAlgorithm {
    match (client.profile(), current.certificate().public_key.algorithm()) {
        (TlsProfile::P384, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Ed25519) => KeyAlgorithm::EcdsaP384,
        (_, algorithm) => algorithm,
    }
}
