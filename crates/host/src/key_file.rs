//! Private keys in files: PEM (PKCS#8), encrypted where there is a passphrase, closed to others. Their form is
//! `airunner-pki`'s business.

use std::path::Path;

use airunner_core::{Error, Label, Result, Secret};
use airunner_pki::PrivateKey;

use crate::files::{self, Access};

/// Reads a private key, none where the file is not there.
///
/// # Errors
/// `file`, naming the path: open to others, encrypted without a (or under another) passphrase, or no key of ours.
pub fn read(path: &Path, passphrase: Option<&Secret>) -> Result<Option<PrivateKey>> {
    let Some(pem) = files::read_secret(path)? else { return Ok(None) };
    let named = |error: Error| Error::new(error.label(), format!("{}: {error}", path.display()));
    PrivateKey::from_pem(pem.expose(), passphrase).map(Some).map_err(named)
}

/// Reads a private key that must be there.
///
/// # Errors
/// As [`read`], and `file` where there is none.
pub fn require(path: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey> {
    read(path, passphrase)?
        .ok_or_else(|| Error::new(Label::File, format!("there is no private key {}", path.display())))
}

/// Writes a private key, mode 0600, encrypted where there is a passphrase.
///
/// # Errors
/// `file`.
pub fn write(path: &Path, key: &PrivateKey, passphrase: Option<&Secret>) -> Result<()> {
    files::write(path, key.to_pem(passphrase)?.expose(), Access::Secret)
}

/// Whether a key file is encrypted, from its first line; none where it is not there.
///
/// # Errors
/// `file`.
pub fn is_encrypted(path: &Path) -> Result<Option<bool>> {
    let encrypted = |pem: &Secret| {
        let text = String::from_utf8_lossy(pem.expose());
        text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    };
    Ok(files::read_secret(path)?.as_ref().map(encrypted))
}

#[cfg(test)]
mod tests {
    use airunner_core::KeyAlgorithm;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        write(&path, &key, None).unwrap();
        assert_eq!(require(&path, None).unwrap().public_key(), key.public_key());
        assert_eq!(is_encrypted(&path).unwrap(), Some(false));

        let passphrase = Secret::new(b"correct horse".to_vec());
        write(&path, &key, Some(&passphrase)).unwrap();
        assert_eq!(is_encrypted(&path).unwrap(), Some(true));
        assert_eq!(require(&path, Some(&passphrase)).unwrap().public_key(), key.public_key());
        for wrong in [None, Some(&Secret::new(b"battery".to_vec()))] {
            let error = require(&path, wrong).unwrap_err();
            assert!(error.message().starts_with(&path.display().to_string()), "{error}");
            assert!(error.message().contains("passphrase"), "{error}");
        }
    }

    #[test]
    fn no_file_and_no_key_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(read(&path, None).unwrap().is_none());
        assert_eq!(is_encrypted(&path).unwrap(), None);
        assert!(require(&path, None).unwrap_err().message().contains("there is no private key"));
        files::write(&path, b"nonsense", Access::Secret).unwrap();
        assert_eq!(read(&path, None).unwrap_err().label(), Label::File);
    }
}
