//! What an environment in AWS stands on before its store can be opened: keys, tables, the bucket. Each is found, or
//! made where that was asked for; without that, what is missing is an error that names both ways.

use airunner_core::{Error, KeyAlgorithm, Label, Result, Secret};
use airunner_net::TlsProfile;
use airunner_pki::PrivateKey;

use super::{LocalPlan, MASTER_KEY, Steps, issuing_alias};
use crate::{
    Cloud, Config,
    bootstrap::{Outcome, Root},
    cloud_parts::{FoundParameter, HeldKey, Missing},
    config::{Backend, IssuerPlace, MasterKeyConfig, RootPlace},
};

const ROOT_KEY: &str = "root key";
const ISSUING_KEY: &str = "issuing key";
const TABLES: &str = "tables";
const BUCKET: &str = "output bucket";

/// Finds every part, or makes it. With `dry_run` it is only said what would be made. Returns whether all were there.
pub(super) async fn ensure(
    cloud: &Cloud,
    config: &Config,
    plan: &LocalPlan,
    dry_run: bool,
    steps: &mut Steps<'_>,
) -> Result<bool> {
    let missing = |may_make: bool| match (may_make, dry_run) {
        (false, _) => Missing::Refuse,
        (true, false) => Missing::Make,
        (true, true) => Missing::Foresee,
    };
    let (parts, keys) = (missing(plan.cloud.create), missing(plan.cloud.create || plan.cloud.create_key));
    let mut all_there = true;
    let mut note = |what: &'static str, was_missing: bool, detail: String| {
        all_there &= !was_missing;
        steps.add(what, if was_missing { Outcome::Made } else { Outcome::Found }, detail)
    };
    if let Some(MasterKeyConfig::KmsKey(name)) = config.master_key() {
        let made = cloud.ensure_key(name, HeldKey::Master, keys).await?;
        note(MASTER_KEY, made, format!("{name} in KMS"))?;
        // Before anything is made that carries a date.
        cloud.check_clock()?;
    }
    let signing = HeldKey::Signing(algorithm(config));
    if let RootPlace::Kms(name) = config.root().place() {
        let made = cloud.ensure_key(name, signing, keys).await?;
        note(ROOT_KEY, made, format!("{name} in KMS"))?;
    }
    if config.ca().issuer() == IssuerPlace::Kms && !plan.steps.single_ca {
        let name = issuing_alias(config.environment());
        let made = cloud.ensure_key(&name, signing, keys).await?;
        note(ISSUING_KEY, made, format!("{name} in KMS"))?;
    }
    if config.store().backend() == Backend::DynamoDb {
        let made = cloud.ensure_tables(config, parts).await?;
        note(TABLES, made, format!("{}_{}_* in DynamoDB", config.store().prefix(), config.environment()))?;
    }
    if config.store().backend() == Backend::DynamoDb || config.store().bucket().is_some() {
        let (bucket, made) = cloud.ensure_bucket(config, parts).await?;
        note(BUCKET, made, format!("{bucket} in S3"))?;
    }
    Ok(all_there)
}

/// The root's key that a secret holds.
pub(super) async fn root_of_secret(cloud: &Cloud, name: &str, passphrase: Option<&Secret>) -> Result<Root> {
    match cloud.find_secret(name, false).await? {
        FoundParameter::Value(pem) => Ok(PrivateKey::from_pem(pem.expose(), passphrase)?.into()),
        FoundParameter::Missing => Err(cloud.missing_secret(name)),
        FoundParameter::Placeholder => Err(Error::new(
            Label::Placeholder,
            format!("the secret {name} does not hold the root's key yet: run `airunner-cli bootstrap`"),
        )),
    }
}

fn algorithm(config: &Config) -> KeyAlgorithm {
    match config.tls().profile() {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    }
}
