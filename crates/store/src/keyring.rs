//! The intents on the keyring.

use airunner_core::{DataKey, Error, Intent, KeyState, Keyring, KeyringStore, Label, Result};
use async_trait::async_trait;

use crate::engine::{Engine, Ports};

#[async_trait]
impl<E: Engine> KeyringStore for Ports<E> {
    async fn create_keyring(&self, keyring: Keyring) -> Result<()> {
        self.write(Intent::CreateKeyring, move |rows| {
            if rows.keyring()?.is_some() {
                return Err(Error::new(Label::AlreadyExists, "this store has a keyring: use its master key"));
            }
            rows.insert_keyring(&keyring)
        })
        .await
    }

    async fn add_data_key(&self, key: DataKey) -> Result<Keyring> {
        self.write(Intent::AddDataKey, move |rows| {
            let mut keyring = rows.keyring()?.ok_or_else(|| Error::not_found("keyring", "of this store"))?;
            let serves = |one: &DataKey| one.purpose == key.purpose && one.state == KeyState::Active;
            if !keyring.keys.iter().any(serves) {
                rows.insert_data_key(&keyring, &key)?;
                keyring.keys.push(key.clone());
            }
            Ok(keyring)
        })
        .await
    }

    async fn get_keyring(&self) -> Result<Option<Keyring>> {
        self.read(Intent::GetKeyring, |rows| rows.keyring()).await
    }
}
