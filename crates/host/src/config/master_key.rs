//! `[master_key]`: what wraps the data keys. The key itself is opened in `master_key.rs`.

use std::path::PathBuf;

use airunner_core::Result;

use super::{source::Source, store::Backend};

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKeyConfig {
    /// A passphrase in the environment variable of this name.
    PassphraseEnv(String),
    /// A file of 32 random bytes.
    Keyfile(PathBuf),
    /// A symmetric KMS key of this name, mostly an alias.
    KmsKey(String),
}

impl MasterKeyConfig {
    pub(super) fn validate(source: &Source, backend: Backend) -> Result<Option<Self>> {
        let variable = source.text("master_key.passphrase_env")?;
        let keyfile = source.path("master_key.keyfile")?;
        if let Some(name) = source.text("master_key.kms_key")? {
            if variable.is_some() || keyfile.is_some() {
                return Err(source.refuse(
                    "master_key.kms_key",
                    "is not the only one that is set: the master key comes from exactly one",
                ));
            }
            check_kms_name(source, "master_key.kms_key", name)?;
            return Ok(Some(Self::KmsKey(name.to_owned())));
        }
        match (variable, keyfile) {
            (Some(_), Some(_)) => Err(source.refuse(
                "master_key.keyfile",
                "and master_key.passphrase_env are both set: the master key comes from exactly one",
            )),
            (Some(name), None) if is_variable(name) => Ok(Some(Self::PassphraseEnv(name.to_owned()))),
            (Some(_), None) => Err(source.refuse(
                "master_key.passphrase_env",
                "is the name of an environment variable (letters, digits, _), never the passphrase itself",
            )),
            (None, Some(path)) => Ok(Some(Self::Keyfile(path))),
            (None, None) if backend == Backend::Memory => Ok(None),
            (None, None) => Err(source.refuse(
                "master_key.keyfile",
                "is not set, nor is master_key.passphrase_env or kms_key: set one; `airunner-cli bootstrap` makes a key \
                 file",
            )),
        }
    }
}

/// A KMS key is named by an alias, an id or an ARN.
pub(super) fn check_kms_name(source: &Source, key: &str, name: &str) -> Result<()> {
    let is_id = name.len() == 36 && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let is_alias = name.strip_prefix("alias/").is_some_and(|rest| !rest.is_empty());
    if is_alias || is_id || (name.starts_with("arn:") && name.contains(":kms:")) {
        return Ok(());
    }
    Err(source.refuse(key, format!("is {name:?}, and must be alias/NAME, the id of a KMS key, or its ARN")))
}

fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
