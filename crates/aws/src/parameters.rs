//! Parameters of SSM that servers start from: read, written, and told from what Terraform made them with. What stands
//! in them is the caller's business.

use airunner_core::{Error, Label, Result, Secret};
use aws_sdk_ssm::{error::SdkError, operation::put_parameter::PutParameterError, types::ParameterType};

use crate::{Aws, error::Deed};

/// What Terraform makes parameters and secrets with; bootstrap replaces it.
pub const PLACEHOLDER: &str = "placeholder";
/// Characters that a parameter of the standard tier holds.
pub const MAX_PARAMETER: usize = 4_096;
/// Names in one question at most (SSM's limit).
const MAX_NAMES: usize = 10;

/// How a parameter is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// In the clear: `String`.
    Plain,
    /// Encrypted by KMS: `SecureString`.
    Secure,
}

/// A parameter as SSM has it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// What it holds.
    pub value: Secret,
    /// Counts the writes to it.
    pub version: i64,
}

impl Parameter {
    /// Whether Terraform made it and nobody has written to it since.
    pub fn is_placeholder(&self) -> bool {
        self.value.expose().trim_ascii() == PLACEHOLDER.as_bytes()
    }
}

/// Reads parameters, decrypted, at one moment: an entry for each name, none for one that is not there. At most 10
/// names. Takes `ssm:GetParameters`, and `kms:Decrypt` where a key of one's own encrypts them.
///
/// # Errors
/// What AWS says.
pub async fn find_parameters(aws: &Aws, names: &[&str]) -> Result<Vec<Option<Parameter>>> {
    debug_assert!(names.len() <= MAX_NAMES, "SSM takes ten names at a time");
    let asked = names.iter().map(|name| (*name).to_owned()).collect();
    let answer = aws.ssm().get_parameters().set_names(Some(asked)).with_decryption(true).send().await;
    let deed = Deed::new("ssm:GetParameters", resource(&names.join(", ")), "");
    let answer = answer.map_err(|error| aws.failure(&deed, error))?;
    let mut found: Vec<Option<Parameter>> = names.iter().map(|_| None).collect();
    for parameter in answer.parameters.unwrap_or_default() {
        let place = names.iter().position(|name| Some(*name) == parameter.name.as_deref());
        let (Some(place), Some(value)) = (place, parameter.value) else { continue };
        found[place] = Some(Parameter { value: Secret::new(value.into_bytes()), version: parameter.version });
    }
    Ok(found)
}

/// Reads parameters that must be there and hold something real.
///
/// # Errors
/// `aws-missing`, `placeholder`, each naming the parameter; and what AWS says.
pub async fn read_parameters(aws: &Aws, names: &[&str]) -> Result<Vec<Parameter>> {
    let found = find_parameters(aws, names).await?;
    let each = names.iter().zip(found).map(|(name, found)| match found {
        None => Err(missing_parameter(aws, name)),
        Some(parameter) if parameter.is_placeholder() => Err(Error::new(
            Label::Placeholder,
            format!(
                "the SSM parameter {name} still holds the placeholder that Terraform made it with: run `airunner-cli \
                 bootstrap --environment={}`, which replaces it",
                environment_of(name)
            ),
        )),
        Some(parameter) => Ok(parameter),
    });
    each.collect()
}

/// Writes a parameter: over the one that is there, or, with `create`, as a new one. Takes `ssm:PutParameter`.
///
/// # Errors
/// `too-large` for more than a standard parameter holds; `already-exists` where another made it meanwhile; and what
/// AWS says.
pub async fn put_parameter(
    aws: &Aws,
    name: &str,
    kind: ParameterKind,
    value: &Secret,
    create: bool,
) -> Result<()> {
    let text = std::str::from_utf8(value.expose())
        .map_err(|_| Error::invalid("value", format!("the SSM parameter {name} holds text only")))?;
    let length = text.chars().count();
    if length > MAX_PARAMETER {
        return Err(Error::new(
            Label::TooLarge,
            format!(
                "what is to stand in the SSM parameter {name} has {length} characters, and a standard parameter holds \
                 {MAX_PARAMETER}: give the server fewer names, or servers their certificates in files"
            ),
        ));
    }
    let kind = match kind {
        ParameterKind::Plain => ParameterType::String,
        ParameterKind::Secure => ParameterType::SecureString,
    };
    let request = aws.ssm().put_parameter().name(name).value(text).r#type(kind).overwrite(!create);
    let put = request.send().await;
    put.map(drop).map_err(|error| match &error {
        SdkError::ServiceError(service)
            if matches!(service.err(), PutParameterError::ParameterAlreadyExists(_)) =>
        {
            Error::new(Label::AlreadyExists, format!("the {} exists already", resource(name)))
        }
        _ => aws.failure(&Deed::new("ssm:PutParameter", resource(name), ""), error),
    })
}

/// What is said of a parameter that is not there.
pub fn missing_parameter(aws: &Aws, name: &str) -> Error {
    let region = aws.region();
    Error::new(
        Label::AwsMissing,
        format!(
            "there is no SSM parameter {name} in {region}: check [aws] region; make it with Terraform, or with \
             `airunner-cli bootstrap --environment={} --create`",
            environment_of(name)
        ),
    )
}

fn resource(name: &str) -> String {
    format!("SSM parameter {name}")
}

/// The environment whose parameter this is, by the names that bootstrap gives: `/airunner/prod/server-key`.
fn environment_of(name: &str) -> &str {
    let inner = name.strip_prefix("/airunner/").and_then(|rest| rest.split_once('/'));
    inner.map_or("ENVIRONMENT", |(environment, _)| environment)
}
