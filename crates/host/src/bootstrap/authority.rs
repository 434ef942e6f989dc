//! Step 1: the keyring and the CA. The root's key is in a file, or, where it has been taken away to a safe place, not
//! here at all: then a CA that is found is left as it is.

use std::sync::Arc;

use airunner_app::{
    App,
    bootstrap::{CaPlan, ROOT_WARNING, Step, ensure_ca, ensure_keyring},
    issuer::is_past_half_life,
    seal::Sealer,
};
use airunner_core::{Error, Issuer, IssuerKind, KeyAlgorithm, Label, Result, Signer};
use airunner_net::TlsProfile;
use airunner_pki::{IssuerCertificate, PrivateKey};

use super::{Work, day, keep_public};
use crate::{Home, files, key_file};

/// Where the root's key is.
enum RootKey {
    Here(PrivateKey),
    /// The CA is in the store, and its key in no file (or in one that was not opened).
    Away(&'static str),
}

impl Work<'_> {
    pub(super) async fn authority(&mut self) -> Result<Arc<App>> {
        let master_key = self.ground.master_key;
        let (_, sealer) =
            ensure_keyring(self.site(), master_key, master_key.kind(), master_key.salt().to_vec()).await?;
        let there = self.ground.stores.issuers.list_issuers().await?;
        self.check_there(&there)?;
        if let Some(home) = self.ground.home {
            self.settle_root_key(home, &there)?;
        }
        let root_key = self.root_key(&there)?;
        let (step, note) = match &root_key {
            RootKey::Here(key) => (self.make_or_find(&sealer, key).await?, ""),
            RootKey::Away(note) => (Step::Found, *note),
        };
        if let (Some(home), Step::Replaced) = (self.ground.home, step) {
            files::rename(&home.pending_ca_key(), &home.ca_key())?;
        }
        let app = self.open_app().await?;
        self.write_authority(&app)?;
        self.report_authority(&app, step, note)?;
        Ok(app)
    }

    async fn make_or_find(&self, sealer: &Sealer, key: &PrivateKey) -> Result<Step> {
        let secret = key.to_pkcs8();
        let plan = CaPlan {
            environment: self.ground.config.environment().as_str(),
            root: key,
            single: self.plan.single_ca.then_some(&secret),
            algorithm: self.algorithm(),
            replace: self.plan.force_new_ca,
        };
        ensure_ca(self.site(), sealer, &plan).await
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

    fn root_key(&self, there: &[Issuer]) -> Result<RootKey> {
        let generate = || PrivateKey::generate(self.algorithm());
        let Some(home) = self.ground.home else { return generate().map(RootKey::Here) };
        if !there.is_empty() && self.plan.force_new_ca {
            let key = generate()?;
            key_file::write(&home.pending_ca_key(), &key, self.passphrase())?;
            return Ok(RootKey::Here(key));
        }
        if !there.is_empty()
            && self.passphrase().is_none()
            && key_file::is_encrypted(&home.ca_key())? == Some(true)
        {
            return Ok(RootKey::Away("; its key is encrypted and was not opened"));
        }
        match key_file::find(&home.ca_key(), self.passphrase())? {
            Some(key) => Ok(RootKey::Here(key)),
            None if !there.is_empty() => Ok(RootKey::Away("; its key is not here")),
            None => {
                // Before the CA is in the store, so that an interruption leaves a key without a CA and never the
                // reverse.
                let key = generate()?;
                key_file::write(&home.ca_key(), &key, self.passphrase())?;
                Ok(RootKey::Here(key))
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
        );
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

fn is_root_of(key: &PrivateKey, issuers: &[Issuer]) -> Result<bool> {
    let Some(root) = issuers.iter().find(|issuer| issuer.kind.is_root()) else { return Ok(false) };
    Ok(IssuerCertificate::parse(&root.der)?.public_key().spki() == Signer::public_key(key))
}
