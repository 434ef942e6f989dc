//! Private keys in files: PEM (PKCS#8), encrypted where there is a passphrase, closed to others. Their form is
//! `airunner-pki`'s business.

use std::path::Path;

use airunner_core::{Error, Result, Secret};
use airunner_pki::PrivateKey;

use crate::files::{self, Access};

/// The text of a key file, not yet opened.
///
/// # Errors
/// `not-found` where there is none; `file` where it is open to others or can't be read.
pub fn read(path: &Path) -> Result<Secret> {
    files::read_secret(path)?.ok_or_else(|| Error::not_found("private key", path.display()))
}

/// Opens a private key, none where the file is not there.
///
/// # Errors
/// `file`, naming the path: open to others, encrypted without a (or under another) passphrase, or no key of ours.
pub fn find(path: &Path, passphrase: Option<&Secret>) -> Result<Option<PrivateKey>> {
    let Some(pem) = files::read_secret(path)? else { return Ok(None) };
    let named = |error: Error| Error::new(error.label(), format!("{}: {error}", path.display()));
    PrivateKey::from_pem(pem.expose(), passphrase).map(Some).map_err(named)
}

/// Opens a private key that must be there.
///
/// # Errors
/// As [`find`], and `not-found` where there is none.
pub fn open(path: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey> {
    find(path, passphrase)?.ok_or_else(|| Error::not_found("private key", path.display()))
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
    use airunner_core::{KeyAlgorithm, Label};

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        write(&path, &key, None).unwrap();
        assert_eq!(open(&path, None).unwrap().public_key(), key.public_key());
        assert_eq!(is_encrypted(&path).unwrap(), Some(false));

        let passphrase = Secret::new(b"correct horse".to_vec());
        write(&path, &key, Some(&passphrase)).unwrap();
        assert_eq!(is_encrypted(&path).unwrap(), Some(true));
        assert_eq!(open(&path, Some(&passphrase)).unwrap().public_key(), key.public_key());
        for wrong in [None, Some(&Secret::new(b"battery".to_vec()))] {
            let error = open(&path, wrong).unwrap_err();
            assert!(error.message().starts_with(&path.display().to_string()), "{error}");
            assert!(error.message().contains("passphrase"), "{error}");
        }
    }

    #[test]
    fn no_file_and_no_key_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(find(&path, None).unwrap().is_none());
        assert_eq!(is_encrypted(&path).unwrap(), None);
        assert_eq!(open(&path, None).unwrap_err().label(), Label::NotFound);
        assert_eq!(read(&path).unwrap_err().label(), Label::NotFound);
        files::write(&path, b"nonsense", Access::Secret).unwrap();
        assert_eq!(find(&path, None).unwrap_err().label(), Label::File);
    }
}
