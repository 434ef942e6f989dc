//! Keys in KMS: the signer over one, and how one is found or made. Which key is for what is the caller's business.

use std::time::Duration;

use airunner_core::{Error, KeyAlgorithm, Label, Result, Signer};
use airunner_pki::SubjectPublicKey;
use async_trait::async_trait;
use aws_sdk_kms::{
    operation::create_alias::CreateAliasError,
    primitives::Blob,
    types::{KeyMetadata, KeySpec, KeyState, KeyUsageType, MessageType, SigningAlgorithmSpec, Tag},
};
use ring::digest::{SHA256, SHA384, digest};
use tokio::sync::Semaphore;

use crate::{Aws, error::Deed};

/// Signatures that a signer has under way at a time. The rest wait: KMS grants some hundreds a second to all of an
/// account.
const AT_ONCE: usize = 32;
/// What is signed when a key is opened. It is no certificate and no request.
const CHECK: &[u8] = b"airunner signer check v1";
/// How often a key that was just made is looked for: KMS shows it everywhere only after some seconds.
const LOOKS: u32 = 8;
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Days until a key that was made in vain is deleted: the fewest that KMS allows.
const PENDING_DAYS: i32 = 7;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KmsUse {
    /// Signing with this algorithm: P-256 or P-384.
    Sign(KeyAlgorithm),
    /// Encrypting and decrypting data keys.
    Wrap,
}

/// A key in KMS that signs (`kms:Sign`); it never leaves KMS.
pub struct KmsSigner {
    aws: Aws,
    name: String,
    arn: String,
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
    signing: Semaphore,
}

impl KmsSigner {
    /// Opens the key called `name`: an alias, an id or an ARN. Reads its public half once, and sees that a signature
    /// verifies under it. Takes `kms:DescribeKey`, `kms:GetPublicKey` and `kms:Sign`.
    ///
    /// # Errors
    /// `aws-missing`; `aws-key` for a key that is disabled, to be deleted, not for signing, or neither P-256 nor
    /// P-384; and what AWS says otherwise.
    pub async fn open(aws: &Aws, name: &str) -> Result<Self> {
        let metadata = describe(aws, name).await?;
        let arn = check_usable(&metadata, name)?;
        let algorithm = signing_algorithm(&metadata, name)?;
        let deed = Deed::new("kms:GetPublicKey", resource(name), MAKES);
        let answer = aws.kms().get_public_key().key_id(&arn).send().await;
        let public = answer.map_err(|error| aws.failure(&deed, error))?.public_key;
        let spki = public.ok_or_else(|| Error::internal("KMS told no public key"))?.into_inner();
        let signer = Self {
            aws: aws.clone(),
            name: name.to_owned(),
            arn,
            algorithm,
            spki,
            signing: Semaphore::new(AT_ONCE),
        };
        signer.check().await?;
        Ok(signer)
    }

    /// The key's own name, which does not change when an alias is put on another key.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    async fn check(&self) -> Result<()> {
        let public = SubjectPublicKey::from_spki(&self.spki)?;
        let signature = self.sign(CHECK).await?;
        let verified = public.algorithm() == self.algorithm && public.verify(CHECK, &signature).is_ok();
        if verified {
            return Ok(());
        }
        Err(unusable(&self.name, "signs so that its own public key does not verify it"))
    }
}

#[async_trait]
impl Signer for KmsSigner {
    fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> &[u8] {
        &self.spki
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let (digest, algorithm) = match self.algorithm {
            KeyAlgorithm::EcdsaP384 => (digest(&SHA384, message), SigningAlgorithmSpec::EcdsaSha384),
            // A signer is opened for these two only.
            _ => (digest(&SHA256, message), SigningAlgorithmSpec::EcdsaSha256),
        };
        let _permit = self.signing.acquire().await.map_err(Error::internal)?;
        let answer = self
            .aws
            .kms()
            .sign()
            .key_id(&self.arn)
            .message_type(MessageType::Digest)
            .message(Blob::new(digest.as_ref()))
            .signing_algorithm(algorithm)
            .send()
            .await;
        let deed = Deed::new("kms:Sign", resource(&self.name), MAKES);
        let signature = answer.map_err(|error| self.aws.failure(&deed, error))?.signature;
        Ok(signature.ok_or_else(|| Error::internal("KMS sent no signature"))?.into_inner())
    }
}

/// The ARN of the key called `name`, which must be there and fit for `purpose`.
///
/// # Errors
/// `aws-missing`, `aws-key` and what AWS says otherwise.
pub async fn require_key(aws: &Aws, name: &str, purpose: KmsUse) -> Result<String> {
    let metadata = describe(aws, name).await?;
    let arn = check_usable(&metadata, name)?;
    match purpose {
        KmsUse::Wrap => check_wraps(&metadata, name)?,
        KmsUse::Sign(algorithm) if signing_algorithm(&metadata, name)? == algorithm => {}
        KmsUse::Sign(algorithm) => {
            let message = format!("is not a {} key, which this environment needs", algorithm.as_str());
            return Err(unusable(name, &message));
        }
    }
    Ok(arn)
}

/// Makes a key and puts `alias` on it: of two that do so at once, the key of one is used by both, and the other's is
/// given up. Returns once the key can be seen. Takes `kms:CreateKey`, `kms:TagResource` and `kms:CreateAlias`.
///
/// # Errors
/// What AWS says.
pub async fn create_key(aws: &Aws, alias: &str, purpose: KmsUse, description: &str) -> Result<String> {
    let arn = create_nameless_key(aws, alias, purpose, description).await?;
    let named = aws.kms().create_alias().alias_name(alias).target_key_id(&arn).send().await;
    match named {
        Ok(_) => Ok(arn),
        Err(error) if error.as_service_error().is_some_and(CreateAliasError::is_already_exists_exception) => {
            give_up(aws, &arn).await;
            let there = describe(aws, alias).await?;
            check_usable(&there, alias)
        }
        Err(error) => Err(aws.failure(&Deed::new("kms:CreateAlias", resource(alias), ""), error)),
    }
}

/// Makes a key that no alias leads to yet; `name` stands for it in messages. Returns its ARN once it can be seen.
///
/// # Errors
/// What AWS says.
pub async fn create_nameless_key(
    aws: &Aws,
    name: &str,
    purpose: KmsUse,
    description: &str,
) -> Result<String> {
    let (spec, usage) = match purpose {
        KmsUse::Sign(KeyAlgorithm::EcdsaP384) => (KeySpec::EccNistP384, KeyUsageType::SignVerify),
        KmsUse::Sign(_) => (KeySpec::EccNistP256, KeyUsageType::SignVerify),
        KmsUse::Wrap => (KeySpec::SymmetricDefault, KeyUsageType::EncryptDecrypt),
    };
    let tag = Tag::builder().tag_key("made-by").tag_value("airunner").build().map_err(Error::internal)?;
    let made = aws
        .kms()
        .create_key()
        .key_spec(spec)
        .key_usage(usage)
        .description(description)
        .tags(tag)
        .send()
        .await;
    let deed = Deed::new("kms:CreateKey", resource(name), "");
    let metadata = made.map_err(|error| aws.failure(&deed, error))?.key_metadata;
    let arn = metadata.and_then(|metadata| metadata.arn).ok_or_else(|| Error::internal("KMS told no ARN"))?;
    for _ in 1..LOOKS {
        match describe(aws, &arn).await {
            Err(error) if error.label() == Label::AwsMissing => tokio::time::sleep(LOOK).await,
            seen => return seen.map(|_| arn),
        }
    }
    Ok(arn)
}

/// Puts `alias` on another key (`kms:UpdateAlias`).
///
/// # Errors
/// What AWS says.
pub async fn move_alias(aws: &Aws, alias: &str, arn: &str) -> Result<()> {
    let moved = aws.kms().update_alias().alias_name(alias).target_key_id(arn).send().await;
    moved.map_err(|error| aws.failure(&Deed::new("kms:UpdateAlias", resource(alias), MAKES), error))?;
    Ok(())
}

/// What makes a key that is missing.
pub(crate) const MAKES: &str =
    "Terraform makes it, or `airunner-cli bootstrap` with --create-key (or --create for all that is missing)";

pub(crate) fn resource(name: &str) -> String {
    format!("KMS key {name}")
}

/// What KMS says of a key.
pub(crate) async fn describe(aws: &Aws, name: &str) -> Result<KeyMetadata> {
    let deed = Deed::new("kms:DescribeKey", resource(name), MAKES);
    let answer = aws.kms().describe_key().key_id(name).send().await;
    let metadata = answer.map_err(|error| aws.failure(&deed, error))?.key_metadata;
    metadata.ok_or_else(|| Error::internal("KMS told nothing of the key"))
}

/// The key's ARN, if the key is enabled.
pub(crate) fn check_usable(metadata: &KeyMetadata, name: &str) -> Result<String> {
    let why = match &metadata.key_state {
        None | Some(KeyState::Enabled) => None,
        Some(KeyState::Disabled) => Some("is disabled: enable it, with `aws kms enable-key`"),
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
            Some("is to be deleted: stop that, with `aws kms cancel-key-deletion` and `aws kms enable-key`")
        }
        Some(_) => Some("is not ready: see its state in KMS"),
    };
    if let Some(why) = why {
        return Err(unusable(name, why));
    }
    metadata.arn.clone().ok_or_else(|| Error::internal("KMS told no ARN"))
}

/// The key must encrypt, and by the algorithm that has a context.
pub(crate) fn check_wraps(metadata: &KeyMetadata, name: &str) -> Result<()> {
    let encrypts = metadata.key_usage == Some(KeyUsageType::EncryptDecrypt);
    if encrypts && metadata.key_spec == Some(KeySpec::SymmetricDefault) {
        return Ok(());
    }
    Err(unusable(
        name,
        "can't wrap data keys: it must be symmetric, of the usage ENCRYPT_DECRYPT; name another in [master_key] kms_key",
    ))
}

fn signing_algorithm(metadata: &KeyMetadata, name: &str) -> Result<KeyAlgorithm> {
    if metadata.key_usage != Some(KeyUsageType::SignVerify) {
        return Err(unusable(name, "is not for signing: put the alias on a key of the usage SIGN_VERIFY"));
    }
    match &metadata.key_spec {
        Some(KeySpec::EccNistP256) => Ok(KeyAlgorithm::EcdsaP256),
        Some(KeySpec::EccNistP384) => Ok(KeyAlgorithm::EcdsaP384),
        other => {
            let spec = other.as_ref().map_or("of no kind", KeySpec::as_str);
            Err(unusable(name, &format!("is {spec}, and must be ECC_NIST_P256 or ECC_NIST_P384")))
        }
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::new(Label::AwsKey, format!("the KMS key {name} {why}"))
}

/// A key without an alias costs money and serves nobody. Bootstrap may lack the right to delete it.
async fn give_up(aws: &Aws, arn: &str) {
    let given_up = aws.kms().schedule_key_deletion().key_id(arn).pending_window_in_days(PENDING_DAYS).send();
    if let Err(error) = given_up.await {
        let error = aws.failure(&Deed::new("kms:ScheduleKeyDeletion", resource(arn), ""), error);
        tracing::warn!(%error, key = arn, "a key that was made in vain stays: delete it by hand");
    }
}
