//! Sealing for storage: a data key per purpose, wrapped by the master key, encrypts with AES-256-GCM and binds each
//! value to its place. Where the master key comes from is the business of [`KeyWrap`]'s implementations.

use std::{collections::HashMap, fmt};

use airunner_core::{
    Clock, DataKey, DataKeyId, Error, KeyPurpose, KeyState, KeyWrap, Keyring, Label, MasterKeyRecord, Result,
    Sealed, Secret, SecureRandom,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a data key.
const KEY_LEN: usize = 32;
/// What the check value holds under the master key.
const CHECK: &[u8] = b"airunner master key check v1";
/// The context of the check value.
const CHECK_CONTEXT: &[u8] = b"airunner keyring check";

/// Where a sealed value belongs: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// The row's id.
    pub row: &'a str,
    /// The field.
    pub field: &'a str,
}

struct OpenKey {
    purpose: KeyPurpose,
    state: KeyState,
    key: LessSafeKey,
}

/// The data keys of an environment, unwrapped.
pub struct Sealer {
    keys: HashMap<DataKeyId, OpenKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}

/// Where the task-token key is sealed.
pub(crate) const TASK_TOKEN_PLACE: Place<'static> =
    Place { table: "keyring", row: "task-token", field: "key" };

impl Sealer {
    /// Makes a keyring with a data key for every purpose, and the keys that it seals from the first day.
    ///
    /// # Errors
    /// What the master key's holder says.
    pub async fn create(
        wrap: &dyn KeyWrap,
        kind: &str,
        salt: Vec<u8>,
        clock: &dyn Clock,
        random: &dyn SecureRandom,
    ) -> Result<(Keyring, Self)> {
        let check = wrap.wrap(&Secret::new(CHECK.to_vec()), CHECK_CONTEXT).await?;
        let mut keys = Vec::new();
        let mut open = HashMap::new();
        for purpose in KeyPurpose::ALL {
            let (key, secret) = data_key(wrap, *purpose, clock, random).await?;
            open.insert(key.id, OpenKey { purpose: *purpose, state: key.state, key: aead_key(&secret)? });
            keys.push(key);
        }
        let sealer = Self { keys: open };
        let task_token_key = Secret::new(random.array::<KEY_LEN>().to_vec());
        let task_token_key = sealer.seal(KeyPurpose::TaskToken, TASK_TOKEN_PLACE, &task_token_key, random)?;
        let master = MasterKeyRecord { kind: kind.to_owned(), salt, check };
        Ok((Keyring { master, keys, task_token_key }, sealer))
    }

    /// A new data key for each purpose that `keyring` has no active one for: it is of an older release.
    ///
    /// # Errors
    /// What the master key's holder says.
    pub async fn missing_keys(
        keyring: &Keyring,
        wrap: &dyn KeyWrap,
        clock: &dyn Clock,
        random: &dyn SecureRandom,
    ) -> Result<Vec<DataKey>> {
        let mut missing = Vec::new();
        for purpose in KeyPurpose::ALL {
            let serves = |key: &DataKey| key.purpose == *purpose && key.state == KeyState::Active;
            if !keyring.keys.iter().any(serves) {
                missing.push(data_key(wrap, *purpose, clock, random).await?.0);
            }
        }
        Ok(missing)
    }

    /// Whether values can be sealed for `purpose`.
    pub fn can_seal(&self, purpose: KeyPurpose) -> bool {
        self.keys.values().any(|key| key.purpose == purpose && key.state == KeyState::Active)
    }

    /// Unwraps a keyring.
    ///
    /// # Errors
    /// `wrong-master-key` if `wrap` is not what wrapped it.
    pub async fn open(keyring: &Keyring, wrap: &dyn KeyWrap) -> Result<Self> {
        let check = wrap.unwrap(&keyring.master.check, CHECK_CONTEXT).await?;
        if !check.matches(CHECK) {
            return Err(Error::new(
                Label::WrongMasterKey,
                "the master key is not the one this store was made with",
            ));
        }
        let mut keys = HashMap::new();
        for key in &keyring.keys {
            let secret = wrap.unwrap(&key.wrapped, &key_context(key.id, key.purpose)).await?;
            keys.insert(key.id, OpenKey { purpose: key.purpose, state: key.state, key: aead_key(&secret)? });
        }
        Ok(Self { keys })
    }

    /// Seals `secret` for its place.
    ///
    /// # Errors
    /// `internal` where the keyring has no active key of this purpose.
    pub fn seal(
        &self,
        purpose: KeyPurpose,
        place: Place<'_>,
        secret: &Secret,
        random: &dyn SecureRandom,
    ) -> Result<Sealed> {
        let active = |key: &&OpenKey| key.purpose == purpose && key.state == KeyState::Active;
        let (key_id, key) = self.keys.iter().find(|(_, key)| active(key)).ok_or_else(|| {
            Error::internal(format!("the keyring has no active key for {}", purpose.as_str()))
        })?;
        let nonce: [u8; 12] = random.array();
        let mut ciphertext = secret.expose().to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(purpose, place, *key_id)),
                &mut ciphertext,
            )
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok(Sealed { key_id: *key_id, nonce, ciphertext })
    }

    /// Opens what [`Sealer::seal`] made for this purpose and this place.
    ///
    /// # Errors
    /// `seal-broken` for a value that was moved, altered, or sealed under a key that is gone.
    pub fn open_sealed(&self, purpose: KeyPurpose, place: Place<'_>, sealed: &Sealed) -> Result<Secret> {
        let broken = || {
            let Place { table, row, field } = place;
            Error::new(Label::SealBroken, format!("the sealed value {table}/{row}/{field} does not open"))
        };
        let key = self.keys.get(&sealed.key_id).filter(|key| key.purpose == purpose).ok_or_else(broken)?;
        let mut bytes = sealed.ciphertext.clone();
        let length = key
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(sealed.nonce),
                Aad::from(associated_data(purpose, place, sealed.key_id)),
                &mut bytes,
            )
            .map_err(|_| broken())?
            .len();
        bytes.truncate(length);
        Ok(Secret::new(bytes))
    }
}

/// A new data key, with what it wraps.
async fn data_key(
    wrap: &dyn KeyWrap,
    purpose: KeyPurpose,
    clock: &dyn Clock,
    random: &dyn SecureRandom,
) -> Result<(DataKey, Secret)> {
    let id = DataKeyId::new(clock.now(), random);
    let secret = Secret::new(random.array::<KEY_LEN>().to_vec());
    let wrapped = wrap.wrap(&secret, &key_context(id, purpose)).await?;
    let state = KeyState::Active;
    Ok((DataKey { id, purpose, wrapped, state, created_at: clock.now() }, secret))
}

fn aead_key(secret: &Secret) -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, secret.expose())
        .map_err(|_| Error::new(Label::WrongMasterKey, "a data key has the wrong length"))?;
    Ok(LessSafeKey::new(key))
}

fn key_context(id: DataKeyId, purpose: KeyPurpose) -> Vec<u8> {
    joined(&[b"airunner data key", purpose.as_str().as_bytes(), id.as_bytes()])
}

fn associated_data(purpose: KeyPurpose, place: Place<'_>, key_id: DataKeyId) -> Vec<u8> {
    joined(&[
        purpose.as_str().as_bytes(),
        place.table.as_bytes(),
        place.row.as_bytes(),
        place.field.as_bytes(),
        key_id.as_bytes(),
    ])
}

/// The parts, each after its length, so that no two lists of parts come out the same.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}
