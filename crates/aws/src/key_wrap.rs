//! The master key in KMS: wraps data keys by Encrypt and Decrypt, bound to their place by the encryption context. What
//! the data keys seal is `airunner-app`'s business.

use airunner_core::{Error, KeyWrap, Label, Result, Secret};
use async_trait::async_trait;
use aws_sdk_kms::{operation::decrypt::DecryptError, primitives::Blob};
use data_encoding::BASE64;

use crate::{
    Aws,
    error::Deed,
    kms::{MAKES, check_usable, check_wraps, describe, resource},
};

/// The name of the one pair in the encryption context. It is public: the trail of KMS shows it.
const CONTEXT: &str = "airunner:context";

/// A symmetric key in KMS (`kms:Encrypt`, `kms:Decrypt`).
pub struct KmsKeyWrap {
    aws: Aws,
    name: String,
    arn: String,
}

impl KmsKeyWrap {
    /// Opens the key called `name`: an alias, an id or an ARN. Takes `kms:DescribeKey`.
    ///
    /// # Errors
    /// `aws-missing`; `aws-key` for a key that is disabled, to be deleted or not symmetric; and what AWS says
    /// otherwise.
    pub async fn open(aws: &Aws, name: &str) -> Result<Self> {
        let metadata = describe(aws, name).await?;
        check_wraps(&metadata, name)?;
        let arn = check_usable(&metadata, name)?;
        Ok(Self { aws: aws.clone(), name: name.to_owned(), arn })
    }

    fn deed(&self, permission: &'static str) -> Deed {
        Deed::new(permission, resource(&self.name), MAKES)
    }
}

#[async_trait]
impl KeyWrap for KmsKeyWrap {
    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<Vec<u8>> {
        let request = self.aws.kms().encrypt().key_id(&self.arn).plaintext(Blob::new(key.expose()));
        let answer = request.encryption_context(CONTEXT, BASE64.encode(context)).send().await;
        let wrapped = answer.map_err(|error| self.aws.failure(&self.deed("kms:Encrypt"), error))?;
        Ok(wrapped.ciphertext_blob.ok_or_else(|| Error::internal("KMS sent no ciphertext"))?.into_inner())
    }

    async fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret> {
        let request = self.aws.kms().decrypt().key_id(&self.arn).ciphertext_blob(Blob::new(wrapped));
        let answer = request.encryption_context(CONTEXT, BASE64.encode(context)).send().await;
        let opened = answer.map_err(|error| {
            let is_foreign = matches!(
                error.as_service_error(),
                Some(DecryptError::IncorrectKeyException(_) | DecryptError::InvalidCiphertextException(_))
            );
            if is_foreign { self.wrong() } else { self.aws.failure(&self.deed("kms:Decrypt"), error) }
        })?;
        let key = opened.plaintext.ok_or_else(|| Error::internal("KMS sent no plaintext"))?;
        Ok(Secret::new(key.into_inner()))
    }
}

impl KmsKeyWrap {
    fn wrong(&self) -> Error {
        let name = &self.name;
        Error::new(
            Label::WrongMasterKey,
            format!(
                "the KMS key {name} is not the one that this store was made with: set [master_key] kms_key to that \
                 one, or name the right store"
            ),
        )
    }
}
