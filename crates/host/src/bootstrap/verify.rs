//! Step 6: reads back from the files what a server and its first admin will need, and holds it against the store.

use airunner_app::App;
use airunner_core::{Error, Label, Result, Secret, Timestamp};
use airunner_net::TlsIdentity;
use airunner_pki::{IssuerCertificate, certificates_from_pem, verify_issued_by};

use super::{
    Credentials, Ground,
    pair::{self, Found},
};
use crate::{Home, PairFiles, files};

/// Checks keys, chains, dates and the trust bundle.
pub(crate) fn verify(ground: &Ground<'_>, home: &Home, app: &App, passphrase: Option<&Secret>) -> Result<()> {
    let roots = read_roots(home, app)?;
    let now = ground.clock.now();
    for paths in [home.server(), home.admin()] {
        let found = pair::read(&paths, passphrase, ground.config.ca().oid_arc())?;
        let Found::Pair(pair) = found else {
            return Err(broken(&paths, "is not the certificate of the key beside it"));
        };
        check_chain(&paths, &pair, &roots, now)?;
        // Also that the profile allows the key.
        TlsIdentity::from_der(pair.chain, &pair.key.to_pkcs8(), ground.config.tls().profile())?;
    }
    Ok(())
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

fn check_chain(
    paths: &PairFiles,
    pair: &Credentials,
    roots: &[IssuerCertificate],
    now: Timestamp,
) -> Result<()> {
    if pair.not_after <= now {
        return Err(broken(paths, "has ended"));
    }
    let mut below = pair.chain.first().ok_or_else(|| broken(paths, "is empty"))?;
    for above in &pair.chain[1..] {
        verify_issued_by(below, &IssuerCertificate::parse(above)?)?;
        below = above;
    }
    if roots.iter().any(|root| verify_issued_by(below, root).is_ok()) {
        return Ok(());
    }
    Err(broken(paths, "does not stand under a root of ca.pem"))
}

fn broken(paths: &PairFiles, what: &str) -> Error {
    Error::new(Label::File, format!("{} {what}: run bootstrap again with --force", paths.cert.display()))
}
