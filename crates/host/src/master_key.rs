//! The master key, from a key file, from a passphrase, or in KMS. It wraps data keys and nothing else; what they seal is
//! `airunner-app`'s business.

use std::{fmt, path::Path, sync::Arc};

use airunner_core::{Error, KeyWrap, Keyring, Label, MasterKeyRecord, Result, Secret, SecureRandom};
use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use data_encoding::BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{
    Cloud,
    config::MasterKeyConfig,
    files::{self, Access},
};

/// Bytes of a master key.
const KEY_LEN: usize = 32;
/// Bytes of a passphrase's salt (RFC 9106 section 3.1).
const SALT_LEN: usize = 16;
/// Bytes of a passphrase at least.
const MIN_PASSPHRASE: usize = 8;
/// Argon2id (RFC 9106): 64 MiB, three passes, one lane: its second recommended option, with one lane.
const ARGON2: (u32, u32, u32) = (64 * 1024, 3, 1);

/// A master key, ready to wrap data keys. `Debug` prints its kind only.
pub struct MasterKey {
    wrap: Wrap,
    kind: &'static str,
    salt: Vec<u8>,
}

/// Who has the key.
enum Wrap {
    /// This process: AES-256-GCM, a random nonce before each.
    Here { key: Box<LessSafeKey>, random: Arc<dyn SecureRandom> },
    /// KMS.
    Held(Arc<dyn KeyWrap>),
}

impl MasterKey {
    /// Opens the master key that `config` names. For a passphrase, `keyring` has the salt; where there is none yet,
    /// a salt is made. Takes about a second for a passphrase, by design, and blocks.
    ///
    /// # Errors
    /// `file` for a key file that is missing, damaged or open to others; `config` for a passphrase that is not set or
    /// too short; `wrong-master-key` where the store was made with another kind; what KMS says.
    pub async fn open(
        config: &MasterKeyConfig,
        keyring: Option<&Keyring>,
        variable: &dyn Fn(&str) -> Option<String>,
        random: Arc<dyn SecureRandom>,
        cloud: Option<&Cloud>,
    ) -> Result<Self> {
        let record = keyring.map(|keyring| &keyring.master);
        match config {
            MasterKeyConfig::Keyfile(path) => {
                check_kind(record, KEYFILE)?;
                Self::from_file(path, random)
            }
            MasterKeyConfig::PassphraseEnv(name) => {
                check_kind(record, PASSPHRASE)?;
                let passphrase =
                    variable(name).map(|text| Secret::new(text.into_bytes())).ok_or_else(|| {
                        Error::new(
                            Label::Config,
                            format!("set the environment variable {name} to the master key's passphrase"),
                        )
                    })?;
                let salt =
                    record.map_or_else(|| random.array::<SALT_LEN>().to_vec(), |record| record.salt.clone());
                Self::from_passphrase(&passphrase, salt, random)
            }
            MasterKeyConfig::KmsKey(name) => {
                check_kind(record, KMS)?;
                let cloud = cloud.ok_or_else(|| Error::internal("a key in KMS needs AWS"))?;
                Ok(Self { wrap: Wrap::Held(cloud.key_wrap(name).await?), kind: KMS, salt: Vec::new() })
            }
        }
    }

    /// Reads a key file: 32 bytes, raw or in base64.
    ///
    /// # Errors
    /// `file` where it is missing, damaged or open to others.
    pub fn from_file(path: &Path, random: Arc<dyn SecureRandom>) -> Result<Self> {
        let shown = path.display();
        let bytes = files::read_secret(path)?.ok_or_else(|| {
            Error::new(
                Label::File,
                format!(
                    "there is no master key {shown}: restore it from a backup; for a new environment, \
                     `airunner-cli bootstrap` makes one"
                ),
            )
        })?;
        let key = decode(bytes.expose()).ok_or_else(|| {
            Error::new(
                Label::File,
                format!(
                    "{shown} is damaged: a master key is 32 bytes, raw or in base64, and this file has {}; restore \
                     it from a backup, since nothing else opens the store's keys",
                    bytes.expose().len()
                ),
            )
        })?;
        Self::new(&key, KEYFILE, Vec::new(), random)
    }

    /// Makes a key file with a random key, mode 0600.
    ///
    /// # Errors
    /// `already-exists`; `file`.
    pub fn create_file(path: &Path, random: &dyn SecureRandom) -> Result<()> {
        let key = Zeroizing::new(random.array::<KEY_LEN>());
        let mut text = Zeroizing::new(String::with_capacity(64));
        BASE64.encode_append(&*key, &mut text);
        text.push('\n');
        files::write_new(path, text.as_bytes(), Access::Secret)
    }

    /// Derives the key from a passphrase of at least 8 bytes and its salt: Argon2id with 64 MiB and 3 passes.
    ///
    /// # Errors
    /// `config` for a passphrase that is too short.
    pub fn from_passphrase(
        passphrase: &Secret,
        salt: Vec<u8>,
        random: Arc<dyn SecureRandom>,
    ) -> Result<Self> {
        if passphrase.expose().len() < MIN_PASSPHRASE {
            let message = format!(
                "the master key's passphrase has less than {MIN_PASSPHRASE} characters: take a longer one"
            );
            return Err(Error::new(Label::Config, message));
        }
        let (memory, passes, lanes) = ARGON2;
        let failed = |error: argon2::Error| Error::internal(error.to_string());
        let params = Params::new(memory, passes, lanes, Some(KEY_LEN)).map_err(failed)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose(), &salt, &mut *key)
            .map_err(failed)?;
        Self::new(&key, PASSPHRASE, salt, random)
    }

    /// A key that nobody keeps, for a store that is gone with the process.
    ///
    /// # Errors
    /// None that can be caused.
    pub fn ephemeral(random: Arc<dyn SecureRandom>) -> Result<Self> {
        let key = Zeroizing::new(random.array::<KEY_LEN>());
        Self::new(&key, "ephemeral", Vec::new(), random)
    }

    /// What the keyring is to say of it: `keyfile`, `passphrase`, `kms` or `ephemeral`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The salt of a passphrase; empty otherwise.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    fn new(
        key: &[u8; KEY_LEN],
        kind: &'static str,
        salt: Vec<u8>,
        random: Arc<dyn SecureRandom>,
    ) -> Result<Self> {
        let key =
            UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::internal("AES-256 takes 32 bytes"))?;
        Ok(Self { wrap: Wrap::Here { key: Box::new(LessSafeKey::new(key)), random }, kind, salt })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.kind)
    }
}

#[async_trait]
impl KeyWrap for MasterKey {
    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>> {
        let (own, random) = match &self.wrap {
            Wrap::Held(holder) => return holder.wrap(key, context).await,
            Wrap::Here { key, random } => (key, random),
        };
        let nonce: [u8; NONCE_LEN] = random.array();
        let mut sealed = key.expose().to_vec();
        own.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| Error::internal("wrapping failed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    async fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret> {
        let own = match &self.wrap {
            Wrap::Held(holder) => return holder.unwrap(wrapped, context).await,
            Wrap::Here { key, .. } => key,
        };
        let wrong = || Error::new(Label::WrongMasterKey, wrong_key(self.kind));
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut opened = sealed.to_vec();
        let length = own
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut opened)
            .map_err(|_| wrong())?
            .len();
        opened.truncate(length);
        Ok(Secret::new(opened))
    }
}

const KEYFILE: &str = "keyfile";
const PASSPHRASE: &str = "passphrase";
const KMS: &str = "kms";

fn wrong_key(kind: &str) -> String {
    let what = if kind == PASSPHRASE { "passphrase" } else { "master key" };
    format!("the {what} is not the one that this store was made with: give the right one, or the right store")
}

fn check_kind(record: Option<&MasterKeyRecord>, kind: &str) -> Result<()> {
    match record {
        Some(record) if record.kind != kind => Err(Error::new(
            Label::WrongMasterKey,
            format!(
                "this store was made with a master key of the kind {}, and the configuration names a {kind}: change \
                 [master_key]",
                record.kind
            ),
        )),
        _ => Ok(()),
    }
}

fn decode(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    if let Ok(raw) = <[u8; KEY_LEN]>::try_from(bytes) {
        return Some(Zeroizing::new(raw));
    }
    let decoded = Zeroizing::new(BASE64.decode(bytes.trim_ascii()).ok()?);
    <[u8; KEY_LEN]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use airunner_net::system::SystemRandom;

    use super::*;

    fn random() -> Arc<dyn SecureRandom> {
        Arc::new(SystemRandom::new())
    }

    #[tokio::test]
    async fn what_is_wrapped_opens_by_the_same_key_in_the_same_context_only() {
        let key = MasterKey::ephemeral(random()).unwrap();
        let secret = Secret::new(b"data key".to_vec());
        let wrapped = key.wrap(&secret, b"here").await.unwrap();
        assert!(key.unwrap(&wrapped, b"here").await.unwrap().matches(b"data key"));
        let mut altered = wrapped.clone();
        altered[20] ^= 1;
        let other = MasterKey::ephemeral(random()).unwrap();
        for (key, wrapped, context) in [
            (&key, wrapped.as_slice(), b"there".as_slice()),
            (&other, &wrapped, b"here"),
            (&key, &altered, b"here"),
            (&key, &wrapped[..5], b"here"),
        ] {
            let error = key.unwrap(wrapped, context).await.unwrap_err();
            assert_eq!(error.label(), Label::WrongMasterKey);
        }
        assert_ne!(key.wrap(&secret, b"here").await.unwrap(), wrapped);
    }

    #[tokio::test]
    async fn a_key_file_is_made_once_and_read_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::create_file(&path, &*random()).unwrap();
        let again = MasterKey::create_file(&path, &*random()).unwrap_err();
        assert_eq!(again.label(), Label::AlreadyExists);
        let key = MasterKey::from_file(&path, random()).unwrap();
        let wrapped = key.wrap(&Secret::new(vec![7]), b"").await.unwrap();

        let raw = BASE64.decode(fs::read(&path).unwrap().trim_ascii()).unwrap();
        files::write(&path, &raw, Access::Secret).unwrap();
        let key = MasterKey::from_file(&path, random()).unwrap();
        assert!(key.unwrap(&wrapped, b"").await.unwrap().matches(&[7]));
    }

    #[test]
    fn a_missing_a_damaged_and_an_open_key_file_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let refusal = || MasterKey::from_file(&path, random()).unwrap_err().message().to_owned();
        assert!(refusal().contains("restore it from a backup"));
        files::write(&path, b"c2hvcnQ=\n", Access::Secret).unwrap();
        assert!(refusal().contains("damaged"));
        MasterKey::create_file(&folder.path().join("other"), &*random()).unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refusal().contains("chmod 600"));
    }

    #[tokio::test]
    async fn a_passphrase_with_its_salt_is_the_same_key() {
        let passphrase = Secret::new(b"correct horse".to_vec());
        let derive = |passphrase: &Secret, salt: u8| {
            MasterKey::from_passphrase(passphrase, vec![salt; SALT_LEN], random()).unwrap()
        };
        let wrapped = derive(&passphrase, 1).wrap(&Secret::new(vec![7]), b"").await.unwrap();
        assert!(derive(&passphrase, 1).unwrap(&wrapped, b"").await.unwrap().matches(&[7]));
        assert!(derive(&passphrase, 2).unwrap(&wrapped, b"").await.is_err());
        let other = derive(&Secret::new(b"battery staple".to_vec()), 1);
        assert!(other.unwrap(&wrapped, b"").await.unwrap_err().message().contains("passphrase"));
        let short = MasterKey::from_passphrase(&Secret::new(b"short".to_vec()), vec![1; 16], random());
        assert_eq!(short.unwrap_err().label(), Label::Config);
    }

    #[test]
    fn the_derivation_is_at_least_as_hard_as_promised() {
        let (memory, passes, _) = ARGON2;
        assert!(memory >= 64 * 1024 && passes >= 2);
    }

    #[test]
    fn the_kind_must_be_the_store_s() {
        let record = MasterKeyRecord { kind: KEYFILE.into(), salt: vec![], check: vec![] };
        let error = check_kind(Some(&record), PASSPHRASE).unwrap_err();
        assert_eq!(error.label(), Label::WrongMasterKey);
        assert!(error.message().contains("[master_key]"));
    }
}
