//! Steps 3 and 4: the first admin and its certificate.

use airunner_app::{App, bootstrap::Step};
use airunner_core::{Certificate, CertificateFilter, PageRequest, Result};
use airunner_pki::{PrivateKey, certificates_from_pem, parse_certificate};

use super::{
    Credentials, Work, keep_public, margin,
    pair::{self, Found},
};
use crate::Home;

impl Work<'_> {
    pub(super) async fn admin_principal(&mut self, app: &App) -> Result<()> {
        let (step, admin) = app.ensure_admin(&self.plan.admin).await?;
        self.report(super::ADMIN, step, admin.id.to_string())
    }

    pub(super) async fn admin_certificate(&mut self, app: &App) -> Result<Credentials> {
        let (step, found) = self.find_admin_certificate(app).await?;
        let paths = self.ground.home.map(Home::admin);
        if let Some(found) = found {
            paths.as_ref().map(pair::forget_pending).transpose()?;
            self.finish_admin(app, step, &found)?;
            return Ok(found);
        }
        let key = pair::pending_key(paths.as_ref(), self.passphrase(), self.algorithm())?;
        let (certificate, chain_pem) = self.certificate_for(app, &key).await?;
        let mut chain = vec![certificate.der];
        if !chain_pem.is_empty() {
            chain.extend(certificates_from_pem(chain_pem.as_bytes())?);
        }
        let made = Credentials { chain, key, not_after: certificate.expires_at };
        if let Some(paths) = &paths {
            pair::settle(paths, &made.chain)?;
        }
        self.finish_admin(app, step, &made)?;
        Ok(made)
    }

    /// The certificate, if it is to stay; else whether another one is in the way.
    pub(super) async fn find_admin_certificate(&self, app: &App) -> Result<(Step, Option<Credentials>)> {
        let Some(paths) = self.ground.home.map(Home::admin) else { return Ok((Step::Made, None)) };
        match pair::read(&paths, self.passphrase(), self.ground.config.ca().oid_arc())? {
            Found::Nothing => Ok((Step::Made, None)),
            Found::Pair(found) if !self.plan.force && self.is_good(app, &found).await? => {
                Ok((Step::Found, Some(found)))
            }
            Found::Parts | Found::Pair(_) => Ok((Step::Replaced, None)),
        }
    }

    async fn is_good(&self, app: &App, found: &Credentials) -> Result<bool> {
        let parsed = parse_certificate(&found.chain[0], self.ground.config.ca().oid_arc())?;
        let names_admin = parsed.principal.as_ref().is_some_and(|(_, id)| *id == self.plan.admin);
        let life = parsed.not_after.since(parsed.not_before);
        Ok(names_admin
            && found.key.algorithm() == self.algorithm()
            && app.is_good_for(&found.chain[0], margin(life)).await?)
    }

    /// The certificate of this key: one that a run before an interruption got, so that it costs no second slot, or a
    /// new one.
    async fn certificate_for(&self, app: &App, key: &PrivateKey) -> Result<(Certificate, String)> {
        let filter = CertificateFilter {
            principal_id: Some(self.plan.admin.clone()),
            active: true,
            now: self.ground.clock.now(),
            ..CertificateFilter::default()
        };
        let page = PageRequest::first(PageRequest::MAX_SIZE);
        let active = self.ground.stores.certificates.list_certificates(&filter, &page).await?;
        let wanted = key.subject_public_key().fingerprint();
        if let Some(found) = active.items.into_iter().find(|certificate| certificate.public_key == wanted) {
            let issuers = app.issuers().current();
            if issuers.get(&found.issuer_id).is_some() {
                let chain = issuers.chain_pem(&found.issuer_id);
                return Ok((found, chain));
            }
        }
        let issued = app.issue_for(&self.plan.admin, key, true).await?;
        Ok((issued.certificate, issued.chain_pem))
    }

    fn finish_admin(&mut self, app: &App, step: Step, admin: &Credentials) -> Result<()> {
        let mut detail = pair::until(admin.not_after);
        if let Some(home) = self.ground.home {
            let issuers = app.issuers().current();
            let roots = &issuers.bundle().roots_pem;
            keep_public(&home.admin_ca(), roots)?;
            keep_public(&home.admin_bundle(), &format!("{}{roots}", pair::chain_pem(&admin.chain)))?;
            detail = format!("{}, {detail}", home.admin().cert.display());
        }
        self.report(super::ADMIN_CERTIFICATE, step, detail)
    }
}
