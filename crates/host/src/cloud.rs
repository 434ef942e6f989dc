//! AWS as a configuration names it: opens what of an environment is there, and, for bootstrap, finds or makes it.

use std::sync::Arc;

use airunner_app::issuer::OutsideKeys;
use airunner_aws::{
    Aws, AwsOptions, DynamoStore, KmsKeyWrap, KmsSigner, S3Output, check_tables, create_tables,
    kms::{self, KmsUse},
    output, parameters,
    parameters::ParameterKind,
    secrets::{self, FoundSecret, SecretStage},
    tables::TableNames,
};
use airunner_core::{
    Error, KeyAlgorithm, KeyHolder, KeyWrap, Label, OutputStore, Result, Secret, SecureRandom, Signer, Stores,
};
use async_trait::async_trait;

use crate::{
    Config,
    cloud_parts::{FoundParameter, HeldKey, HeldSigner, Missing, UploadValue},
    config::{AwsConfig, Backend, IssuerPlace, MasterKeyConfig, PemSource, RootPlace},
};

/// AWS, with credentials and a region.
#[derive(Clone, Debug)]
pub struct Cloud {
    aws: Aws,
}

impl Cloud {
    /// Connects to AWS. Asks no service yet.
    ///
    /// # Errors
    /// `config` where no region is set anywhere.
    pub async fn connect(config: &AwsConfig) -> Result<Self> {
        let options = AwsOptions {
            region: config.region().map(str::to_owned),
            endpoint: config.endpoint().map(str::to_owned),
        };
        Ok(Self { aws: Aws::connect(&options).await? })
    }

    /// AWS, where some part of what `config` names is there.
    ///
    /// # Errors
    /// As [`Cloud::connect`].
    pub async fn of(config: &Config) -> Result<Option<Self>> {
        if config.uses_aws() { Self::connect(config.aws()).await.map(Some) } else { Ok(None) }
    }

    /// The region.
    pub(crate) fn region(&self) -> &str {
        self.aws.region()
    }

    /// Holds this machine's clock against AWS's; to be asked after some call.
    ///
    /// # Errors
    /// `clock-skew`.
    pub fn check_clock(&self) -> Result<()> {
        self.aws.check_clock()
    }

    /// Reads parameters of SSM at one moment.
    ///
    /// # Errors
    /// `aws-missing`, `placeholder`, each naming the parameter; and what AWS says.
    pub async fn read_parameters(&self, names: &[&str]) -> Result<Vec<Secret>> {
        let read = parameters::read_parameters(&self.aws, names).await?;
        Ok(read.into_iter().map(|parameter| parameter.value).collect())
    }

    /// Looks at everything of AWS that a server of `config` needs, with the rights that this process has: each part by
    /// its name, with what was found or why it is not as it must be. The certificate in SSM is not looked into.
    pub async fn examine(&self, config: &Config) -> Vec<(&'static str, Result<String>)> {
        let mut parts = Vec::new();
        let identity = config.tls().identity();
        for source in identity.map(|(cert, key)| [cert, key]).into_iter().flatten().chain(config.tls().ca()) {
            if let PemSource::Parameter(name) = source {
                let read = self.read_parameters(&[name]).await;
                parts.push(("SSM", read.map(|_| format!("{name} can be read"))));
            }
        }
        if let Some(MasterKeyConfig::KmsKey(name)) = config.master_key() {
            let opened = self.key_wrap(name).await;
            parts.push(("KMS", opened.map(|_| format!("{name} wraps and unwraps"))));
        }
        if let (true, RootPlace::Kms(name)) = (config.root().online(), config.root().place()) {
            let opened = self.signer(name).await;
            parts.push(("KMS", opened.map(|_| format!("{name} signs"))));
        }
        if config.store().backend() == Backend::DynamoDb {
            let names = tables(config);
            let checked = check_tables(self.aws.dynamodb(), &names).await;
            parts.push((
                "tables",
                checked.map(|()| format!("those of {}_… are as they must be", names.stem())),
            ));
            let bucket = self.bucket(config).await;
            let found = match &bucket {
                Ok(bucket) => {
                    S3Output::open(&self.aws, bucket, 0).await.map(|_| format!("{bucket} is there"))
                }
                Err(error) => Err(Error::new(error.label(), error.message())),
            };
            parts.push(("output bucket", found));
        }
        parts.push(("AWS's clock", self.check_clock().map(|()| "this machine's agrees with it".to_owned())));
        parts
    }

    /// The master key in KMS.
    pub(crate) async fn key_wrap(&self, name: &str) -> Result<Arc<dyn KeyWrap>> {
        Ok(Arc::new(KmsKeyWrap::open(&self.aws, name).await?))
    }

    /// A key in KMS that signs.
    pub(crate) async fn signer(&self, name: &str) -> Result<HeldSigner> {
        let signer = KmsSigner::open(&self.aws, name).await?;
        Ok(HeldSigner { name: signer.arn().to_owned(), signer: Arc::new(signer) })
    }

    /// The issuers' keys that a server may use and the store does not hold.
    pub(crate) async fn outside_keys(&self, config: &Config) -> Result<OutsideKeys> {
        let mut outside = OutsideKeys::default();
        if config.ca().issuer() == IssuerPlace::Kms {
            outside.holder = Some(Arc::new(Kms(self.aws.clone())));
        }
        if let (true, RootPlace::Kms(name)) = (config.root().online(), config.root().place()) {
            outside.root = Some(self.signer(name).await?.signer);
        }
        Ok(outside)
    }

    /// Output in the bucket that `config` names, or in the one that is there by default.
    pub(crate) async fn output(&self, config: &Config) -> Result<Arc<dyn OutputStore>> {
        let bucket = self.bucket(config).await?;
        Ok(Arc::new(S3Output::open(&self.aws, &bucket, config.jobs().output_limit()).await?))
    }

    /// The tables that `config` names, with the output beside them.
    pub(crate) async fn stores(&self, config: &Config, random: Arc<dyn SecureRandom>) -> Result<Stores> {
        let tables = tables(config);
        check_tables(self.aws.dynamodb(), &tables).await?;
        let output = self.output(config).await?;
        Ok(DynamoStore::open(
            self.aws.dynamodb().clone(),
            tables,
            random,
            output,
            config.jobs().retention().jobs,
        )
        .stores())
    }

    /// Finds the key called `name`, or makes it. Returns whether it was missing.
    pub(crate) async fn ensure_key(&self, name: &str, what: HeldKey, missing: Missing) -> Result<bool> {
        let (purpose, description) = match what {
            HeldKey::Master => (KmsUse::Wrap, "airunner: wraps data keys"),
            HeldKey::Signing(algorithm) => (KmsUse::Sign(algorithm), "airunner: signs certificates"),
        };
        let refusal = match kms::require_key(&self.aws, name, purpose).await {
            Err(error) if error.label() == Label::AwsMissing => error,
            found => return found.map(|_| false),
        };
        match missing {
            Missing::Refuse => Err(refusal),
            Missing::Foresee => Ok(true),
            Missing::Make if !name.starts_with("alias/") => {
                let why = format!("there is no KMS key {name}, and one is made under an alias only");
                Err(Error::new(Label::AwsMissing, why))
            }
            Missing::Make => kms::create_key(&self.aws, name, purpose, description).await.map(|_| true),
        }
    }

    /// Makes another key of the kind of `like`, and puts `alias` on it.
    pub(crate) async fn replace_key(&self, alias: &str, like: KeyAlgorithm) -> Result<HeldSigner> {
        let purpose = KmsUse::Sign(like);
        let arn = kms::create_nameless_key(&self.aws, alias, purpose, "airunner: signs certificates").await?;
        let signer = self.signer(&arn).await?;
        kms::move_alias(&self.aws, alias, &arn).await?;
        Ok(signer)
    }

    /// Finds the tables that `config` names, or makes those that are missing. Returns whether some were.
    pub(crate) async fn ensure_tables(&self, config: &Config, missing: Missing) -> Result<bool> {
        let (client, tables) = (self.aws.dynamodb(), tables(config));
        match missing {
            Missing::Refuse => check_tables(client, &tables).await.map(|()| false),
            Missing::Make => Ok(!create_tables(client, &tables).await?.is_empty()),
            Missing::Foresee => match check_tables(client, &tables).await {
                Err(error) if error.label() == Label::StoreUnavailable => Ok(true),
                checked => checked.map(|()| false),
            },
        }
    }

    /// Finds the bucket that `config` names, or makes it. Returns its name and whether it was missing.
    pub(crate) async fn ensure_bucket(&self, config: &Config, missing: Missing) -> Result<(String, bool)> {
        let bucket = self.bucket(config).await?;
        if output::has_bucket(&self.aws, &bucket).await? {
            return Ok((bucket, false));
        }
        match missing {
            Missing::Refuse => S3Output::open(&self.aws, &bucket, 0).await.map(|_| (bucket, false)),
            Missing::Foresee => Ok((bucket, true)),
            Missing::Make => {
                let made = output::create_bucket(&self.aws, &bucket).await?;
                Ok((bucket, made))
            }
        }
    }

    /// What parameters of SSM hold; none for one that is missing or a placeholder.
    pub(crate) async fn find_parameters(&self, names: &[&str]) -> Result<Vec<FoundParameter>> {
        let found = parameters::find_parameters(&self.aws, names).await?;
        let each = found.into_iter().map(|found| match found {
            None => FoundParameter::Missing,
            Some(parameter) if parameter.is_placeholder() => FoundParameter::Placeholder,
            Some(parameter) => FoundParameter::Value(parameter.value),
        });
        Ok(each.collect())
    }

    /// Writes a parameter: over the one that is there, or a new one.
    pub(crate) async fn put_parameter(&self, name: &str, value: &UploadValue, is_new: bool) -> Result<()> {
        let (kind, value) = match value {
            UploadValue::Plain(value) => (ParameterKind::Plain, value),
            UploadValue::Secure(value) => (ParameterKind::Secure, value),
        };
        match parameters::put_parameter(&self.aws, name, kind, value, is_new).await {
            // Another bootstrap was faster: what is right is written over it.
            Err(error) if is_new && error.label() == Label::AlreadyExists => {
                parameters::put_parameter(&self.aws, name, kind, value, false).await
            }
            put => put,
        }
    }

    /// What is said of a parameter that is not there and is not to be made.
    pub(crate) fn missing_parameter(&self, name: &str) -> Error {
        parameters::missing_parameter(&self.aws, name)
    }

    /// What a secret holds, now or before the newest write to it.
    pub(crate) async fn find_secret(&self, name: &str, previous: bool) -> Result<FoundParameter> {
        let stage = if previous { SecretStage::Previous } else { SecretStage::Current };
        Ok(match secrets::find_secret(&self.aws, name, stage).await? {
            FoundSecret::Nothing => FoundParameter::Missing,
            FoundSecret::Empty => FoundParameter::Placeholder,
            FoundSecret::Value(value) => FoundParameter::Value(value),
        })
    }

    /// Gives a secret its value, or makes it with that.
    pub(crate) async fn put_secret(&self, name: &str, value: &Secret, is_new: bool) -> Result<()> {
        if is_new {
            return secrets::create_secret(&self.aws, name, value).await;
        }
        secrets::put_secret(&self.aws, name, value).await
    }

    /// What is said of a secret that is not there and is not to be made.
    pub(crate) fn missing_secret(&self, name: &str) -> Error {
        secrets::missing_secret(&self.aws, name)
    }

    async fn bucket(&self, config: &Config) -> Result<String> {
        if let Some(bucket) = config.store().bucket() {
            return Ok(bucket.to_owned());
        }
        let account = self.aws.account().await?;
        Ok(format!("{}-{}-output-{account}", config.store().prefix(), config.environment()))
    }
}

fn tables(config: &Config) -> TableNames {
    TableNames::new(config.store().prefix(), config.environment().as_str())
}

/// The keys of issuers that KMS holds, by their ARNs.
struct Kms(Aws);

#[async_trait]
impl KeyHolder for Kms {
    async fn signer(&self, name: &str) -> Result<Arc<dyn Signer>> {
        Ok(Arc::new(KmsSigner::open(&self.0, name).await?))
    }
}
