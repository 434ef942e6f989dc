//! Step 6: reads back what a server and its first admin will need, and holds it against the store.

use airunner_app::App;
use airunner_core::{Error, Label, Result, Timestamp};
use airunner_net::TlsIdentity;
use airunner_pki::{IssuerCertificate, certificates_from_pem, verify_issued_by};

use super::{
    Credentials, Outcome, VERIFICATION, Work,
    pair::{self, Found},
};
use crate::{Home, PairFiles, files};

impl Work<'_> {
    /// Checks keys, chains, dates and the trust bundle.
    pub(super) async fn verification(&mut self, app: &App) -> Result<()> {
        let Some(home) = self.ground.home else { return Ok(()) };
        let roots = read_roots(home, app)?;
        let now = self.ground.clock.now();
        let admin = home.admin();
        self.check(&self.read_files(&admin)?, &admin.cert.display().to_string(), &roots, now)?;
        if self.parameters().is_some() {
            self.check(&self.uploaded().await?, "the server's certificate in SSM", &roots, now)?;
        } else {
            let server = home.server();
            self.check(&self.read_files(&server)?, &server.cert.display().to_string(), &roots, now)?;
        }
        if let Some(cloud) = self.ground.cloud {
            cloud.check_clock()?;
        }
        self.report(VERIFICATION, Outcome::Verified, "keys, chains, dates, permissions, trust bundle")
    }

    fn read_files(&self, paths: &PairFiles) -> Result<Credentials> {
        match pair::read(paths, self.passphrase(), self.ground.config.ca().oid_arc())? {
            Found::Pair(pair) => Ok(pair),
            Found::Nothing | Found::Parts => {
                Err(broken(&paths.cert.display().to_string(), "is not the certificate of the key beside it"))
            }
        }
    }

    fn check(
        &self,
        pair: &Credentials,
        what: &str,
        roots: &[IssuerCertificate],
        now: Timestamp,
    ) -> Result<()> {
        check_chain(what, pair, roots, now)?;
        // Also that the profile allows the key.
        let profile = self.ground.config.tls().profile();
        TlsIdentity::from_der(pair.chain.clone(), &pair.key.to_pkcs8(), profile)?;
        Ok(())
    }
}

fn read_roots(home: &Home, app: &App) -> Result<Vec<IssuerCertificate>> {
    let path = home.ca();
    let pem = files::read(&path)?.unwrap_or_default();
    let missing =
        |why: &str| Error::new(Label::File, format!("{} {why}: run bootstrap again", path.display()));
    let ders = certificates_from_pem(&pem).map_err(|error| missing(&format!("holds no roots ({error})")))?;
    let trusted = app.issuers().current().root()?.record.der.clone();
    if !ders.contains(&trusted) {
        return Err(missing("lacks the root of the store"));
    }
    ders.iter().map(|der| IssuerCertificate::parse(der)).collect()
}

fn check_chain(what: &str, pair: &Credentials, roots: &[IssuerCertificate], now: Timestamp) -> Result<()> {
    if pair.not_after <= now {
        return Err(broken(what, "has ended"));
    }
    let mut below = pair.chain.first().ok_or_else(|| broken(what, "is empty"))?;
    for above in &pair.chain[1..] {
        verify_issued_by(below, &IssuerCertificate::parse(above)?)?;
        below = above;
    }
    if roots.iter().any(|root| verify_issued_by(below, root).is_ok()) {
        return Ok(());
    }
    Err(broken(what, "does not stand under a root of ca.pem"))
}

fn broken(what: &str, why: &str) -> Error {
    Error::new(Label::File, format!("{what} {why}: run bootstrap again with --force"))
}
