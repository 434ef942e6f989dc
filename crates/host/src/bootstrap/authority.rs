//! Step 1: the keyring and the CA. The root's key is in a file, in KMS or in a secret, or, where it has been taken away
//! to a safe place, not here at all: then a CA that is found is left as it is.

use std::sync::Arc;

use airunner_app::{
    App,
    bootstrap::{CaPlan, IssuingKey, ROOT_WARNING, Step, ensure_ca, ensure_keyring},
    issuer::{held_key, is_past_half_life},
    seal::Sealer,
};
use airunner_core::{Error, Issuer, IssuerKind, KeyAlgorithm, Label, Result, Secret, Signer};
use airunner_net::TlsProfile;
use airunner_pki::{IssuerCertificate, PrivateKey};

use super::{Work, day, keep_public};
use crate::{
    Home,
    cloud_parts::{FoundParameter, HeldSigner},
    config::{IssuerPlace, RootPlace},
    files, key_file,
    local::issuing_alias,
};

/// Where the root's key is.
enum RootKey {
    Here(Root),
    /// The CA is in the store, and its key in no file (or in one that was not opened).
    Away(&'static str),
}

/// A root's key that can be used.
pub(crate) struct Root {
    pub(crate) signer: Arc<dyn Signer>,
    /// What is sealed where it signs leaves directly: the key, or its name.
    sealable: Secret,
}

impl From<PrivateKey> for Root {
    fn from(key: PrivateKey) -> Self {
        Self { sealable: key.to_pkcs8(), signer: Arc::new(key) }
    }
}

impl From<HeldSigner> for Root {
    fn from(HeldSigner { signer, name }: HeldSigner) -> Self {
        Self { signer, sealable: held_key(&name) }
    }
}

impl Work<'_> {
    pub(super) async fn authority(&mut self) -> Result<Arc<App>> {
        let master_key = self.ground.master_key;
        let (_, sealer) =
            ensure_keyring(self.site(), master_key, master_key.kind(), master_key.salt().to_vec()).await?;
        let there = self.ground.stores.issuers.list_issuers().await?;
        self.check_there(&there)?;
        let in_file = *self.ground.config.root().place() == RootPlace::File;
        if let (Some(home), true) = (self.ground.home, in_file) {
            self.settle_root_key(home, &there)?;
        }
        let (step, note) = match self.root_key(&there).await? {
            RootKey::Here(root) => (self.make_or_find(&sealer, &root, &there).await?, ""),
            RootKey::Away(note) => (Step::Found, note),
        };
        if let (Some(home), Step::Replaced, true) = (self.ground.home, step, in_file) {
            files::rename(&home.pending_ca_key(), &home.ca_key())?;
        }
        let app = self.open_app().await?;
        self.write_authority(&app)?;
        self.report_authority(&app, step, note)?;
        Ok(app)
    }

    async fn make_or_find(&self, sealer: &Sealer, root: &Root, there: &[Issuer]) -> Result<Step> {
        let config = self.ground.config;
        let is_made = there.is_empty() || self.plan.force_new_ca;
        let held = match (config.ca().issuer(), self.ground.cloud) {
            (IssuerPlace::Kms, Some(cloud)) if is_made && !self.plan.single_ca => {
                Some(cloud.signer(&issuing_alias(config.environment())).await?)
            }
            _ => None,
        };
        let sealed = IssuingKey::Sealed(self.algorithm());
        let plan = CaPlan {
            environment: config.environment().as_str(),
            root: &*root.signer,
            single: self.plan.single_ca.then_some(&root.sealable),
            issuing: held
                .as_ref()
                .map_or(sealed, |held| IssuingKey::Held { signer: &*held.signer, name: &held.name }),
            replace: self.plan.force_new_ca,
        };
        match ensure_ca(self.site(), sealer, &plan).await {
            // Of two that wrote the secret at once, the one whose key is the CA's puts it right.
            Err(error) if error.label() == Label::File && there.is_empty() => {
                let there = self.ground.stores.issuers.list_issuers().await?;
                match self.root_in_secret(&there).await? {
                    Some(RootKey::Here(root)) if is_root_of(&*root.signer, &there)? => Ok(Step::Found),
                    _ => Err(error),
                }
            }
            made => made,
        }
    }

    /// What is there must be what was asked for, or be replaced on purpose.
    pub(super) fn check_there(&self, there: &[Issuer]) -> Result<()> {
        let Some(root) = there.iter().find(|issuer| issuer.kind.is_root()) else { return Ok(()) };
        if self.plan.force_new_ca {
            return Ok(());
        }
        let refuse = |what: &str| {
            Err(Error::new(
                Label::Config,
                format!(
                    "{what}: leave it as it is, or make a new CA with --force-new-ca, which ends every certificate"
                ),
            ))
        };
        if self.plan.single_ca && root.kind != IssuerKind::Single {
            return refuse(
                "the CA here has a root and an issuing CA, and --single-ca asks for one that is both",
            );
        }
        let is_weak = |issuer: &Issuer| issuer.algorithm == KeyAlgorithm::EcdsaP256;
        if self.ground.config.tls().profile() == TlsProfile::P384 && there.iter().any(is_weak) {
            return refuse("the CA here has P-256 keys, and the TLS profile p384 does not allow them");
        }
        Ok(())
    }

    /// Finishes what an interrupted `--force-new-ca` began: its key takes its place if its CA is in the store, and goes
    /// otherwise.
    fn settle_root_key(&self, home: &Home, there: &[Issuer]) -> Result<()> {
        let Some(waiting) = key_file::find(&home.pending_ca_key(), self.passphrase())? else { return Ok(()) };
        if is_root_of(&waiting, there)? {
            files::rename(&home.pending_ca_key(), &home.ca_key())
        } else {
            files::remove(&home.pending_ca_key())
        }
    }

    async fn root_key(&self, there: &[Issuer]) -> Result<RootKey> {
        if let Some(key) = self.root_in_kms(there).await? {
            return Ok(key);
        }
        if let Some(key) = self.root_in_secret(there).await? {
            return Ok(key);
        }
        self.root_in_file(there)
    }

    async fn root_in_kms(&self, there: &[Issuer]) -> Result<Option<RootKey>> {
        let (RootPlace::Kms(name), Some(cloud)) = (self.ground.config.root().place(), self.ground.cloud)
        else {
            return Ok(None);
        };
        let is_found = !there.is_empty() && !self.plan.force_new_ca;
        match cloud.signer(name).await {
            Ok(held) => Ok(Some(RootKey::Here(held.into()))),
            // A root that is kept disabled between its uses.
            Err(error) if is_found && matches!(error.label(), Label::AwsKey | Label::AwsDenied) => {
                Ok(Some(RootKey::Away("; its key in KMS can't be used now")))
            }
            Err(error) => Err(error),
        }
    }

    async fn root_in_secret(&self, there: &[Issuer]) -> Result<Option<RootKey>> {
        let (RootPlace::Secret(name), Some(cloud)) = (self.ground.config.root().place(), self.ground.cloud)
        else {
            return Ok(None);
        };
        let open = |pem: &Secret| PrivateKey::from_pem(pem.expose(), self.passphrase());
        let is_found = !there.is_empty() && !self.plan.force_new_ca;
        let current = cloud.find_secret(name, false).await?;
        let is_missing = matches!(current, FoundParameter::Missing);
        if let (FoundParameter::Value(pem), false) = (&current, self.plan.force_new_ca) {
            let key = open(pem)?;
            if there.is_empty() || is_root_of(&key, there)? {
                return Ok(Some(RootKey::Here(key.into())));
            }
            // An interrupted --force-new-ca, or another bootstrap, wrote over the key of the CA that counts.
            if let FoundParameter::Value(pem) = cloud.find_secret(name, true).await? {
                let key = open(&pem)?;
                if is_root_of(&key, there)? {
                    cloud.put_secret(name, &pem, false).await?;
                    return Ok(Some(RootKey::Here(key.into())));
                }
            }
            return Ok(Some(RootKey::Here(key.into())));
        }
        if is_found {
            return Ok(Some(RootKey::Away("; its key is not in its secret")));
        }
        if is_missing && !self.plan.create {
            return Err(cloud.missing_secret(name));
        }
        // Before the CA is in the store, so that an interruption leaves a key without a CA and never the reverse.
        let key = PrivateKey::generate(self.algorithm())?;
        match cloud.put_secret(name, &key.to_pem(self.passphrase())?, is_missing).await {
            // Another bootstrap was faster: its key counts.
            Err(error) if error.label() == Label::AlreadyExists => {
                match cloud.find_secret(name, false).await? {
                    FoundParameter::Value(pem) => Ok(Some(RootKey::Here(open(&pem)?.into()))),
                    _ => Err(error),
                }
            }
            put => put.map(|()| Some(RootKey::Here(key.into()))),
        }
    }

    fn root_in_file(&self, there: &[Issuer]) -> Result<RootKey> {
        let generate = || PrivateKey::generate(self.algorithm());
        let Some(home) = self.ground.home else { return Ok(RootKey::Here(generate()?.into())) };
        if !there.is_empty() && self.plan.force_new_ca {
            let key = generate()?;
            key_file::write(&home.pending_ca_key(), &key, self.passphrase())?;
            return Ok(RootKey::Here(key.into()));
        }
        if !there.is_empty()
            && self.passphrase().is_none()
            && key_file::is_encrypted(&home.ca_key())? == Some(true)
        {
            return Ok(RootKey::Away("; its key is encrypted and was not opened"));
        }
        match key_file::find(&home.ca_key(), self.passphrase())? {
            Some(key) => Ok(RootKey::Here(key.into())),
            None if !there.is_empty() => Ok(RootKey::Away("; its key is not here")),
            None => {
                // Before the CA is in the store, so that an interruption leaves a key without a CA and never the
                // reverse.
                let key = generate()?;
                key_file::write(&home.ca_key(), &key, self.passphrase())?;
                Ok(RootKey::Here(key.into()))
            }
        }
    }

    /// Writes the roots and the issuing CAs as the store has them.
    pub(super) fn write_authority(&self, app: &App) -> Result<()> {
        let Some(home) = self.ground.home else { return Ok(()) };
        let issuers = app.issuers().current();
        let bundle = issuers.bundle();
        keep_public(&home.ca(), &bundle.roots_pem)?;
        if bundle.issuing_pem.is_empty() {
            return files::remove(&home.issuing());
        }
        keep_public(&home.issuing(), &bundle.issuing_pem)
    }

    fn report_authority(&mut self, app: &App, step: Step, note: &str) -> Result<()> {
        let issuers = app.issuers().current();
        let root = issuers.root()?;
        let now = self.ground.clock.now();
        let fingerprint = root.certificate.fingerprint().to_hex();
        self.report(
            super::AUTHORITY,
            step,
            format!(
                "{}, until {}, SHA-256 {fingerprint}{note}",
                root.certificate.subject_dn(),
                day(root.record.expires_at)
            ),
        )?;
        if step == Step::Replaced {
            self.warnings.push(
                "every certificate of the old CA has stopped counting: restart the servers, and enrol every principal \
                 but the admin anew"
                    .to_owned(),
            );
        }
        if root.record.expires_at < now.plus(ROOT_WARNING) {
            self.warnings.push(format!(
                "the root CA ends on {}: plan its successor now; bootstrap replaces it only with --force-new-ca, \
                 which ends every certificate",
                day(root.record.expires_at)
            ));
        }
        let signing = &issuers.signing()?.issuer.record;
        if signing.kind == IssuerKind::Issuing && is_past_half_life(signing, now) {
            self.warnings.push(format!(
                "the issuing CA is past half its life, which ends on {}: run `airunner-cli ca renew-issuer`",
                day(signing.expires_at)
            ));
        }
        Ok(())
    }
}

fn is_root_of(key: &dyn Signer, issuers: &[Issuer]) -> Result<bool> {
    let Some(root) = issuers.iter().find(|issuer| issuer.kind.is_root()) else { return Ok(false) };
    Ok(IssuerCertificate::parse(&root.der)?.public_key().spki() == key.public_key())
}
