//! Secrets of Secrets Manager: read and written. What they hold is the caller's business.

use airunner_core::{Error, Label, Result, Secret};
use aws_sdk_secretsmanager::{
    error::SdkError,
    operation::{
        create_secret::CreateSecretError, describe_secret::DescribeSecretError,
        get_secret_value::GetSecretValueError,
    },
};

use crate::{Aws, error::Deed, parameters::PLACEHOLDER};

/// Which of a secret's values is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretStage {
    /// The newest.
    Current,
    /// The one before it.
    Previous,
}

/// What a secret holds.
#[derive(Clone, Debug)]
pub enum FoundSecret {
    /// There is no secret of this name.
    Nothing,
    /// The secret is there, and holds no value of ours yet.
    Empty,
    /// A value.
    Value(Secret),
}

/// Reads a secret. Takes `secretsmanager:GetSecretValue`.
///
/// # Errors
/// What AWS says.
pub async fn find_secret(aws: &Aws, name: &str, stage: SecretStage) -> Result<FoundSecret> {
    let label = match stage {
        SecretStage::Current => "AWSCURRENT",
        SecretStage::Previous => "AWSPREVIOUS",
    };
    let answer = aws.secrets().get_secret_value().secret_id(name).version_stage(label).send().await;
    match answer {
        Ok(value) => {
            let text = value.secret_string.unwrap_or_default();
            let is_empty = text.trim().is_empty() || text.trim() == PLACEHOLDER;
            Ok(if is_empty { FoundSecret::Empty } else { FoundSecret::Value(Secret::new(text.into_bytes())) })
        }
        Err(SdkError::ServiceError(error))
            if matches!(error.err(), GetSecretValueError::ResourceNotFoundException(_)) =>
        {
            // A secret without a value is "not found" too.
            if exists(aws, name).await? { Ok(FoundSecret::Empty) } else { Ok(FoundSecret::Nothing) }
        }
        Err(error) => Err(aws.failure(&deed("secretsmanager:GetSecretValue", name), error)),
    }
}

/// Gives a secret that is there a value. Takes `secretsmanager:PutSecretValue`.
///
/// # Errors
/// `aws-missing` and what AWS says otherwise.
pub async fn put_secret(aws: &Aws, name: &str, value: &Secret) -> Result<()> {
    let request = aws.secrets().put_secret_value().secret_id(name).secret_string(text(name, value)?);
    let put = request.send().await;
    put.map(drop).map_err(|error| aws.failure(&deed("secretsmanager:PutSecretValue", name), error))
}

/// Makes a secret with its value. Takes `secretsmanager:CreateSecret`.
///
/// # Errors
/// `already-exists` where another made it meanwhile; and what AWS says.
pub async fn create_secret(aws: &Aws, name: &str, value: &Secret) -> Result<()> {
    let made = aws.secrets().create_secret().name(name).secret_string(text(name, value)?).send().await;
    made.map(drop).map_err(|error| match &error {
        SdkError::ServiceError(service)
            if matches!(service.err(), CreateSecretError::ResourceExistsException(_)) =>
        {
            Error::new(Label::AlreadyExists, format!("the secret {name} exists already"))
        }
        _ => aws.failure(&deed("secretsmanager:CreateSecret", name), error),
    })
}

/// What is said of a secret that is not there.
pub fn missing_secret(aws: &Aws, name: &str) -> Error {
    let region = aws.region();
    Error::new(
        Label::AwsMissing,
        format!("there is no secret {name} in {region}: check [aws] region; {MAKES}"),
    )
}

const MAKES: &str = "make it with Terraform, or with `airunner-cli bootstrap` and --create";

async fn exists(aws: &Aws, name: &str) -> Result<bool> {
    match aws.secrets().describe_secret().secret_id(name).send().await {
        Ok(_) => Ok(true),
        Err(error)
            if error.as_service_error().is_some_and(DescribeSecretError::is_resource_not_found_exception) =>
        {
            Ok(false)
        }
        Err(error) => Err(aws.failure(&deed("secretsmanager:DescribeSecret", name), error)),
    }
}

fn deed(permission: &'static str, name: &str) -> Deed {
    Deed::new(permission, format!("secret {name}"), MAKES)
}

fn text<'a>(name: &str, value: &'a Secret) -> Result<&'a str> {
    std::str::from_utf8(value.expose())
        .map_err(|_| Error::invalid("value", format!("the secret {name} holds text only")))
}
