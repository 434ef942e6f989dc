//! Issuers: which CAs are trusted, which one signs, and the trust bundle that clients pin. Making a CA is
//! `bootstrap.rs`; encoding is `airunner-pki`.

use std::{fmt, sync::Arc};

use airunner_core::{
    Error, Fingerprint, Issuer, IssuerId, IssuerState, KeyPurpose, Label, Result, Signer, Stores, Timestamp,
};
use airunner_pki::{IssuerCertificate, PrivateKey, certificate_to_pem, sha256};
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::seal::{Place, Sealer};

/// An issuer's record with its certificate, parsed.
pub struct LoadedIssuer {
    /// The record.
    pub record: Issuer,
    /// The certificate.
    pub certificate: IssuerCertificate,
}

/// The issuer that signs leaves now.
#[derive(Clone)]
pub struct SigningIssuer {
    /// The issuer.
    pub issuer: Arc<LoadedIssuer>,
    /// Its key.
    pub signer: Arc<dyn Signer>,
}

/// What clients pin: PEM, and a hash that names the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// Roots that are trusted.
    pub roots_pem: String,
    /// Issuing CAs whose leaves are accepted.
    pub issuing_pem: String,
    /// SHA-256 over both, hex.
    pub hash: String,
}

/// The issuers at one moment.
pub struct IssuerSet {
    issuers: Vec<Arc<LoadedIssuer>>,
    signing: Option<SigningIssuer>,
    bundle: TrustBundle,
}

impl IssuerSet {
    /// Every issuer that is not destroyed.
    pub fn issuers(&self) -> &[Arc<LoadedIssuer>] {
        &self.issuers
    }

    /// The anchors of client verification: DER of the issuing CAs that are active or retired.
    pub fn anchors(&self) -> Vec<Vec<u8>> {
        self.leaf_signers().map(|issuer| issuer.record.der.clone()).collect()
    }

    /// The trust bundle.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What signs leaves.
    ///
    /// # Errors
    /// `no-issuer` before bootstrap.
    pub fn signing(&self) -> Result<&SigningIssuer> {
        self.signing.as_ref().ok_or_else(no_issuer)
    }

    /// The issuer of this id.
    pub fn get(&self, id: &IssuerId) -> Option<&Arc<LoadedIssuer>> {
        self.issuers.iter().find(|issuer| issuer.record.id == *id)
    }

    /// The root that anchors the signing CA, DER.
    ///
    /// # Errors
    /// `no-issuer` before bootstrap.
    pub fn root(&self) -> Result<&Arc<LoadedIssuer>> {
        let signing = &self.signing()?.issuer;
        signing.record.parent.map_or(Some(signing), |parent| self.get(&parent)).ok_or_else(no_issuer)
    }

    /// What a leaf of `issuer` is sent along with, PEM: the issuing CA; nothing where the root signs.
    pub fn chain_pem(&self, issuer: &IssuerId) -> String {
        self.get(issuer)
            .filter(|issuer| !issuer.record.kind.is_root())
            .map(|issuer| certificate_to_pem(&issuer.record.der))
            .unwrap_or_default()
    }

    fn leaf_signers(&self) -> impl Iterator<Item = &Arc<LoadedIssuer>> {
        self.issuers.iter().filter(|issuer| {
            issuer.record.kind.signs_leaves()
                && matches!(issuer.record.state, IssuerState::Active | IssuerState::Retired)
        })
    }
}

impl fmt::Debug for IssuerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerSet({} issuers)", self.issuers.len())
    }
}

/// The issuers, kept up to date by the change feed.
pub struct Issuers {
    current: ArcSwap<IssuerSet>,
    changed: watch::Sender<()>,
}

impl Issuers {
    /// Loads the issuers and opens the signing key.
    pub(crate) async fn load(stores: &Stores, sealer: &Sealer) -> Result<Self> {
        let set = load_set(stores, sealer).await?;
        set.signing()?;
        Ok(Self { current: ArcSwap::from_pointee(set), changed: watch::Sender::new(()) })
    }

    /// The issuers now.
    pub fn current(&self) -> Arc<IssuerSet> {
        self.current.load_full()
    }

    /// Tells of every change after now.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The issuer whose key has this identifier (a leaf's AKI), if its leaves are accepted.
    pub fn id_of_key(&self, key_id: &[u8]) -> Option<IssuerId> {
        let set = self.current.load();
        set.leaf_signers()
            .find(|issuer| issuer.certificate.subject_key_id() == key_id)
            .map(|issuer| issuer.record.id)
    }

    pub(crate) async fn reload(&self, stores: &Stores, sealer: &Sealer) -> Result<()> {
        self.current.store(Arc::new(load_set(stores, sealer).await?));
        self.changed.send_replace(());
        Ok(())
    }
}

async fn load_set(stores: &Stores, sealer: &Sealer) -> Result<IssuerSet> {
    let mut issuers = Vec::new();
    let mut signing = None;
    for record in stores.issuers.list_issuers().await? {
        let issuer = Arc::new(LoadedIssuer { certificate: IssuerCertificate::parse(&record.der)?, record });
        if issuer.record.kind.signs_leaves() && issuer.record.state == IssuerState::Active {
            let signer = open_key(&issuer.record, sealer)?;
            signing = Some(SigningIssuer { issuer: issuer.clone(), signer: Arc::new(signer) });
        }
        issuers.push(issuer);
    }
    let bundle = bundle_of(&issuers);
    Ok(IssuerSet { issuers, signing, bundle })
}

/// Where an issuer's private key is sealed.
pub(crate) fn key_place(id: &str) -> Place<'_> {
    Place { table: "issuers", row: id, field: "key" }
}

fn open_key(record: &Issuer, sealer: &Sealer) -> Result<PrivateKey> {
    let sealed = record.sealed_key.as_ref().ok_or_else(|| {
        Error::new(Label::NoIssuer, format!("the key of issuer {} is not in the store", record.id))
    })?;
    let id = record.id.to_string();
    PrivateKey::from_pkcs8(sealer.open_sealed(KeyPurpose::IssuingKey, key_place(&id), sealed)?.expose())
}

fn bundle_of(issuers: &[Arc<LoadedIssuer>]) -> TrustBundle {
    let pem_of = |wanted: &dyn Fn(&Issuer) -> bool| -> String {
        let chosen = issuers.iter().filter(|issuer| wanted(&issuer.record));
        chosen.map(|issuer| certificate_to_pem(&issuer.record.der)).collect()
    };
    let trusted = |record: &Issuer| matches!(record.state, IssuerState::Active | IssuerState::Retired);
    let roots_pem = pem_of(&|record| record.kind.is_root() && trusted(record));
    let issuing_pem =
        pem_of(&|record| record.kind.signs_leaves() && !record.kind.is_root() && trusted(record));
    let hash = Fingerprint::from_bytes(sha256(format!("{roots_pem}\n{issuing_pem}").as_bytes())).to_hex();
    TrustBundle { roots_pem, issuing_pem, hash }
}

/// When a CA certificate is past half its life: its successor is due.
pub fn is_past_half_life(record: &Issuer, now: Timestamp) -> bool {
    now.since(record.created_at) * 2 >= record.expires_at.since(record.created_at)
}

pub(crate) fn no_issuer() -> Error {
    Error::new(Label::NoIssuer, "this store has no certificate authority yet: run `airunner-cli bootstrap`")
}
