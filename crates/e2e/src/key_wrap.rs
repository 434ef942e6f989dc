//! A master key that lives and dies with its test.

use airunner_core::{Error, KeyWrap, Label, Result, Secret, SecureRandom};
use async_trait::async_trait;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Wraps under a key made for it.
pub struct MemoryKeyWrap {
    key: LessSafeKey,
    random: airunner_net::system::SystemRandom,
}

impl MemoryKeyWrap {
    /// A new master key.
    ///
    /// # Panics
    /// Never: 32 bytes are a key.
    #[expect(
        clippy::new_without_default,
        clippy::expect_used,
        reason = "each is another key, of the right length"
    )]
    pub fn new() -> Self {
        let random = airunner_net::system::SystemRandom::new();
        let key: [u8; 32] = (&random as &dyn SecureRandom).array();
        Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key of 32 bytes")),
            random,
        }
    }
}

#[async_trait]
impl KeyWrap for MemoryKeyWrap {
    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = (&self.random as &dyn SecureRandom).array();
        let mut bytes = key.expose().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut bytes)
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok([&nonce[..], &bytes].concat())
    }

    async fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret> {
        let wrong = || Error::new(Label::WrongMasterKey, "this is not the master key");
        let (nonce, bytes) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| wrong())?;
        Ok(Secret::new(opened.to_vec()))
    }
}
