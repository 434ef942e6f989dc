//! Issuers: which CAs are trusted, which one signs, and the trust bundle that clients pin. Making a CA is
//! `bootstrap.rs`; encoding is `airunner-pki`.

use std::{fmt, sync::Arc};

use airunner_core::{
    Error, Fingerprint, Issuer, IssuerId, IssuerState, KeyHolder, KeyPurpose, Label, Result, Secret, Signer,
    Stores, Timestamp,
};
use airunner_pki::{IssuerCertificate, PrivateKey, certificate_to_pem, sha256};
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    App,
    authn::Caller,
    authz::{Target, may},
    bootstrap::{Site, succeed},
    seal::{Place, Sealer},
    status,
};

/// What a sealed key begins with that is only the name of one. No PKCS#8 begins so.
const HELD: &[u8] = b"held:";

/// Keys of issuers that are not in the store.
#[derive(Clone, Default)]
pub struct OutsideKeys {
    /// Who holds the keys that the store has only the names of.
    pub holder: Option<Arc<dyn KeyHolder>>,
    /// The root's key, where this server may use it (`[root] online`).
    pub root: Option<Arc<dyn Signer>>,
}

impl fmt::Debug for OutsideKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutsideKeys(holder {}, root {})", self.holder.is_some(), self.root.is_some())
    }
}

/// What is sealed in place of a private key that never leaves its holder: its name there.
pub fn held_key(name: &str) -> Secret {
    Secret::new([HELD, name.as_bytes()].concat())
}

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
    pub(crate) async fn load(stores: &Stores, sealer: &Sealer, outside: &OutsideKeys) -> Result<Self> {
        let set = load_set(stores, sealer, outside, None).await?;
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

    pub(crate) async fn reload(&self, stores: &Stores, sealer: &Sealer, outside: &OutsideKeys) -> Result<()> {
        let signing = self.current().signing.clone();
        self.current.store(Arc::new(load_set(stores, sealer, outside, signing).await?));
        self.changed.send_replace(());
        Ok(())
    }
}

/// `open` is what signed until now: its key is not asked for again.
async fn load_set(
    stores: &Stores,
    sealer: &Sealer,
    outside: &OutsideKeys,
    open: Option<SigningIssuer>,
) -> Result<IssuerSet> {
    let mut issuers = Vec::new();
    let mut signing = None;
    for record in stores.issuers.list_issuers().await? {
        let issuer = Arc::new(LoadedIssuer { certificate: IssuerCertificate::parse(&record.der)?, record });
        if issuer.record.kind.signs_leaves() && issuer.record.state == IssuerState::Active {
            let signer = match &open {
                Some(open) if open.issuer.record.id == issuer.record.id => open.signer.clone(),
                _ => open_key(&issuer.record, sealer, outside).await?,
            };
            signing = Some(SigningIssuer { issuer: issuer.clone(), signer });
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

async fn open_key(record: &Issuer, sealer: &Sealer, outside: &OutsideKeys) -> Result<Arc<dyn Signer>> {
    let sealed = record.sealed_key.as_ref().ok_or_else(|| {
        Error::new(Label::NoIssuer, format!("the key of issuer {} is not in the store", record.id))
    })?;
    let id = record.id.to_string();
    let key = sealer.open_sealed(KeyPurpose::IssuingKey, key_place(&id), sealed)?;
    let Some(name) = key.expose().strip_prefix(HELD) else {
        return Ok(Arc::new(PrivateKey::from_pkcs8(key.expose())?));
    };
    let name = String::from_utf8_lossy(name);
    let holder = outside.holder.as_ref().ok_or_else(|| {
        Error::new(
            Label::Config,
            format!("the key of issuer {id} is held by KMS, as {name}: set [ca] issuer = \"kms\""),
        )
    })?;
    holder.signer(&name).await
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

impl App {
    /// Makes a successor of the issuing CA, signed by the root's key where this server may use it. It signs from now
    /// on; what its predecessor signed goes on counting.
    ///
    /// # Errors
    /// `root-offline` where the server may not use the root's key, or would have to make a key in KMS; `no-issuer`
    /// where one CA signs leaves directly; `version-conflict` where another was faster.
    pub async fn renew_issuer(&self, caller: &Caller) -> Result<Arc<LoadedIssuer>> {
        let permit = caller.permit::<may::CaManage>(Target::Any)?;
        let context = &self.context;
        let offline = |why: &str| {
            Error::new(
                Label::RootOffline,
                format!("{why}: run `airunner-cli ca renew-issuer` where that can be done"),
            )
        };
        let root = context.outside.root.as_ref().ok_or_else(|| {
            offline("this server may not use the root's key, for [root] online is not true")
        })?;
        if self.signs_with_held_key()? {
            return Err(offline("the issuing CA's key is held by KMS, and a server makes no key there"));
        }
        let site = Site { stores: &context.stores, clock: &*context.clock, random: &*context.random };
        let audit = permit.audit(context.now(), "ca.renew-issuer", "");
        let id = succeed(site, &context.sealer, &**root, None, audit).await?;
        status::catch_up(context).await?;
        self.issuers().current().get(&id).cloned().ok_or_else(no_issuer)
    }

    fn signs_with_held_key(&self) -> Result<bool> {
        let issuers = self.context.issuers.current();
        let record = &issuers.signing()?.issuer.record;
        let Some(sealed) = &record.sealed_key else { return Ok(false) };
        let id = record.id.to_string();
        let key = self.context.sealer.open_sealed(KeyPurpose::IssuingKey, key_place(&id), sealed)?;
        Ok(key.expose().starts_with(HELD))
    }
}

/// When a CA certificate is past half its life: its successor is due.
pub fn is_past_half_life(record: &Issuer, now: Timestamp) -> bool {
    now.since(record.created_at) * 2 >= record.expires_at.since(record.created_at)
}

pub(crate) fn no_issuer() -> Error {
    Error::new(Label::NoIssuer, "this store has no certificate authority yet: run `airunner-cli bootstrap`")
}
