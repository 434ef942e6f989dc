//! Sealing: data keys wrapped by the master key, what they seal, and the ports for both.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{DataKeyId, Result, Secret, Timestamp};

/// What a data key seals. A key of one purpose never opens another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Private keys of issuing CAs.
    IssuingKey,
    /// The key that task tokens are made with.
    TaskToken,
    /// Secret variables of jobs.
    JobSecret,
}

impl KeyPurpose {
    /// Every purpose there is: bootstrap wraps a data key for each.
    pub const ALL: &'static [Self] = &[Self::IssuingKey, Self::TaskToken, Self::JobSecret];

    /// The purpose's name, which is part of the associated data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IssuingKey => "issuing-key",
            Self::TaskToken => "task-token",
            Self::JobSecret => "job-secret",
        }
    }
}

/// Whether a data key still seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Seals and opens.
    Active,
    /// Opens only.
    Retired,
}

/// A data key, wrapped by the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Its id.
    pub id: DataKeyId,
    /// What it seals.
    pub purpose: KeyPurpose,
    /// The key under the master key.
    pub wrapped: Vec<u8>,
    /// Whether it still seals.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How the master key is to be had and recognised; never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// `keyfile`, `passphrase` or `kms`.
    pub kind: String,
    /// The salt of a passphrase (Argon2id); empty otherwise.
    pub salt: Vec<u8>,
    /// A known value under the master key: a wrong one is told before anything starts.
    pub check: Vec<u8>,
}

/// The data keys of an environment and what wraps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    /// The master key's record.
    pub master: MasterKeyRecord,
    /// The data keys.
    pub keys: Vec<DataKey>,
    /// The sealed task-token key.
    pub task_token_key: Sealed,
}

/// A value encrypted for storage: AES-256-GCM under a data key, bound to its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The data key.
    pub key_id: DataKeyId,
    /// The nonce.
    pub nonce: [u8; 12],
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

/// Wraps data keys under the master key: a key file, a passphrase, or a KMS.
#[async_trait]
pub trait KeyWrap: Send + Sync + 'static {
    /// Encrypts `key`; `context` must be given again to open it.
    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>>;

    /// Decrypts what `wrap` made (`wrong-master-key` where it does not open).
    async fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret>;
}

/// Keeps the keyring.
#[async_trait]
pub trait KeyringStore: Send + Sync {
    /// Stores the keyring if there is none (`already-exists` otherwise).
    async fn create_keyring(&self, keyring: Keyring) -> Result<()>;

    /// Adds a data key, unless an active one of its purpose is there; returns the keyring as it then is (`not-found` where
    /// there is none).
    async fn add_data_key(&self, key: DataKey) -> Result<Keyring>;

    /// The keyring; none before bootstrap.
    async fn get_keyring(&self) -> Result<Option<Keyring>>;
}
