//! The intents on the keyring.

use airunner_core::{Error, Intent, Keyring, KeyringStore, Label, Result};
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

    async fn get_keyring(&self) -> Result<Option<Keyring>> {
        self.read(Intent::GetKeyring, |rows| rows.keyring()).await
    }
}
