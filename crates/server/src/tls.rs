//! The server's own certificate: loaded, reloaded when its source changes, and replaced by a fresh one of our own
//! before it ends.

use std::{net::IpAddr, sync::Arc, time::Duration};

use airunner_app::App;
use airunner_core::{DnsName, Error, KeyAlgorithm, Label, Result, Secret, Timestamp};
use airunner_net::{ServerIdentity, TlsIdentity, TlsProfile};
use airunner_pki::{OidArc, PrivateKey, certificates_from_pem, parse_certificate};

use crate::{pem::PemPair, router::OwnNames};

/// How often it is looked whether a fresh leaf is due, where there is no source.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificate and its key come from.
#[derive(Clone, Debug)]
pub enum TlsSource {
    /// Chain and key, PEM.
    Pair(Box<PemPair>),
    /// Nowhere: the server issues itself one.
    Own,
}

/// What the certificate must say.
#[derive(Clone, Debug)]
pub struct TlsNames {
    /// DNS names, the domain first.
    pub dns: Vec<DnsName>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// The server's certificate, kept fresh.
pub struct ServerLeaf {
    app: Arc<App>,
    profile: TlsProfile,
    source: TlsSource,
    wanted: TlsNames,
    names: OwnNames,
    identity: ServerIdentity,
    loaded: Option<Loaded>,
}

/// What is served now.
struct Loaded {
    /// The source's bytes that it came from; none for one of our own.
    source: Option<(Vec<u8>, Vec<u8>)>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl ServerLeaf {
    /// Loads the certificate, or issues one where there is none or it is past two thirds of its life.
    ///
    /// # Errors
    /// `file` for a source that can't be read; what issuing says.
    pub async fn load(
        app: Arc<App>,
        profile: TlsProfile,
        source: TlsSource,
        wanted: TlsNames,
        names: OwnNames,
    ) -> Result<Self> {
        let mut first = None;
        let read = match read(&source).await {
            // A source that was named and is not there yet is said, and served around.
            Err(error) if error.kind() == airunner_core::Kind::NotFound => {
                tracing::warn!(?error, "the server certificate is missing");
                None
            }
            read => read?,
        };
        if let Some((chain, key)) = read {
            let (identity, loaded) = open(profile, &source, chain, key, &wanted_arc(&app))?;
            if !is_due(&loaded, app.clock().now()) {
                first = Some((identity, loaded));
            }
        }
        let (identity, loaded) = match first {
            Some(first) => first,
            None => issue(&app, profile, &wanted).await?,
        };
        names.replace(names_of(&identity, &wanted, &wanted_arc(&app)));
        let identity = ServerIdentity::new(identity);
        Ok(Self { app, profile, source, wanted, names, identity, loaded: Some(loaded) })
    }

    /// What the listeners serve.
    pub fn identity(&self) -> ServerIdentity {
        self.identity.clone()
    }

    /// Keeps the certificate fresh until it is dropped; `reload` asks for a look at the source now.
    pub async fn run(mut self, reload: Arc<tokio::sync::Notify>) {
        let mut failures = 0;
        loop {
            let pause = match &self.source {
                TlsSource::Pair(pair) => pair.pause(failures),
                TlsSource::Own => LOOK,
            };
            tokio::select! {
                () = reload.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let (is_read, stepped) = self.step().await;
            failures = if is_read { 0 } else { failures.saturating_add(1) };
            if let Err(error) = stepped {
                tracing::error!(?error, "the server certificate can't be renewed; the old one goes on");
            }
        }
    }

    /// Takes in a source that changed; else issues a fresh leaf when that is due. Says also whether the source could be
    /// read.
    async fn step(&mut self) -> (bool, Result<()>) {
        let read = read(&self.source).await;
        if let (Err(error), true) = (&read, matches!(self.source, TlsSource::Pair(_))) {
            tracing::debug!(?error, "the server certificate's source can't be read");
        }
        (read.is_ok(), self.take_in(read.ok().flatten()).await)
    }

    async fn take_in(&mut self, read: Option<(Vec<u8>, Secret)>) -> Result<()> {
        let now = self.app.clock().now();
        if let Some((chain, key)) = read {
            let bytes = Some((chain.clone(), key.expose().to_vec()));
            let is_new =
                self.loaded.as_ref().is_none_or(|loaded| loaded.source.is_some() && loaded.source != bytes);
            let was_own = self.loaded.as_ref().is_some_and(|loaded| loaded.source.is_none());
            if is_new || was_own {
                let (identity, loaded) =
                    open(self.profile, &self.source, chain, key, &wanted_arc(&self.app))?;
                if is_new || !is_due(&loaded, now) {
                    tracing::info!(not_after = %loaded.not_after, "the server certificate was reloaded");
                    self.replace(identity, loaded);
                    return Ok(());
                }
            }
        }
        if self.loaded.as_ref().is_none_or(|loaded| is_due(loaded, now)) {
            let (identity, loaded) = issue(&self.app, self.profile, &self.wanted).await?;
            self.replace(identity, loaded);
        }
        Ok(())
    }

    fn replace(&mut self, identity: TlsIdentity, loaded: Loaded) {
        self.names.replace(names_of(&identity, &self.wanted, &wanted_arc(&self.app)));
        self.identity.replace(identity);
        self.loaded = Some(loaded);
    }
}

fn wanted_arc(app: &App) -> OidArc {
    app.settings().oid_arc.clone()
}

async fn read(source: &TlsSource) -> Result<Option<(Vec<u8>, Secret)>> {
    match source {
        TlsSource::Own => Ok(None),
        TlsSource::Pair(pair) => pair.read().await.map(Some),
    }
}

fn open(
    profile: TlsProfile,
    source: &TlsSource,
    chain: Vec<u8>,
    key: Secret,
    arc: &OidArc,
) -> Result<(TlsIdentity, Loaded)> {
    let passphrase = match source {
        TlsSource::Pair(pair) => pair.passphrase.as_ref(),
        TlsSource::Own => None,
    };
    let private = PrivateKey::from_pem(key.expose(), passphrase)?;
    let certificates = certificates_from_pem(&chain)?;
    let leaf = certificates
        .first()
        .ok_or_else(|| Error::new(Label::File, "the server's chain holds no certificate"))?;
    let parsed = parse_certificate(leaf, arc)?;
    let identity = TlsIdentity::from_der(certificates, &private.to_pkcs8(), profile)?;
    let loaded = Loaded {
        source: Some((chain, key.expose().to_vec())),
        not_before: parsed.not_before,
        not_after: parsed.not_after,
    };
    Ok((identity, loaded))
}

async fn issue(app: &App, profile: TlsProfile, wanted: &TlsNames) -> Result<(TlsIdentity, Loaded)> {
    let algorithm = match profile {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    };
    let key = PrivateKey::generate(algorithm)?;
    let certificate = app.issue_server(&key, &wanted.dns, &wanted.addresses).await?;
    tracing::warn!(not_after = %certificate.not_after, "the server has issued itself a fresh certificate, whose key never leaves it");
    let identity = TlsIdentity::from_der(certificate.chain, &key.to_pkcs8(), profile)?;
    let loaded = Loaded { source: None, not_before: app.clock().now(), not_after: certificate.not_after };
    Ok((identity, loaded))
}

/// Past two thirds of its life.
fn is_due(loaded: &Loaded, now: Timestamp) -> bool {
    now.since(loaded.not_before) * 3 >= loaded.not_after.since(loaded.not_before) * 2
}

/// The names by which this server may be addressed: those in its certificate and those it is told.
fn names_of(identity: &TlsIdentity, wanted: &TlsNames, arc: &OidArc) -> Vec<String> {
    let leaf = identity.chain().first().and_then(|leaf| parse_certificate(leaf, arc).ok());
    let in_leaf = leaf.map(|leaf| leaf.dns_names).unwrap_or_default();
    in_leaf.iter().chain(&wanted.dns).map(ToString::to_string).collect()
}
