//! How a row names a certificate: `ISSUER~SERIAL`.

use airunner_core::{CertificateRef, Error, Result};

/// The text for a reference.
pub fn write(reference: &CertificateRef) -> String {
    format!("{}~{}", reference.issuer_id, reference.serial)
}

/// The reference that a text names; `internal` where it names none.
pub fn read(text: &str) -> Result<CertificateRef> {
    let Some((issuer, serial)) = text.split_once('~') else {
        return Err(Error::internal(format!("{text:?} names no certificate")));
    };
    Ok(CertificateRef { issuer_id: issuer.parse()?, serial: serial.parse()? })
}
