//! The one place where a failure of the SDK becomes an error of ours: a label, the resource's name, and the permission
//! or the command that mends it.

use std::{error::Error as StdError, time::Duration};

use airunner_core::{Error, Label};
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::Aws;

/// What was asked of AWS, for messages.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The permission that it takes, as `kms:Sign`.
    permission: &'static str,
    /// What it was about, as `the KMS key alias/airunner-prod-ca`.
    resource: String,
    /// What makes the resource where it is missing; a whole clause, or nothing.
    makes: String,
}

impl Deed {
    /// An act that takes `permission`, on `resource`; `makes` says what makes that where it is missing.
    pub fn new(permission: &'static str, resource: impl Into<String>, makes: impl Into<String>) -> Self {
        Self { permission, resource: resource.into(), makes: makes.into() }
    }
}

/// What sort of failure a code of AWS stands for, whichever service says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Denied,
    Credentials,
    ExpiredCredentials,
    Signature,
    Missing,
    ElsewhereInAws,
    Throttled,
    KeyState,
    Service,
    Other,
}

impl Aws {
    /// The error of ours for what AWS, or the way there, said of `deed`.
    pub fn failure<E>(&self, deed: &Deed, error: SdkError<E, HttpResponse>) -> Error
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let told = match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                self.said(deed, service.err().code().unwrap_or_default(), status)
            }
            SdkError::TimeoutError(_) => self.silent(deed),
            _ if is_about_credentials(&error) => no_credentials(deed),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => self.silent(deed),
            SdkError::ResponseError(_) => self.silent(deed),
            _ => self.out_of_reach(deed),
        };
        told.with_cause(chain(&error))
    }

    fn said(&self, deed: &Deed, code: &str, status: u16) -> Error {
        let Deed { permission, resource, makes } = deed;
        let region = self.region();
        match sort(code, status) {
            Sort::Denied => Error::new(
                Label::AwsDenied,
                format!(
                    "AWS denies {permission} on {resource}: allow {permission} to this process's role or user, in IAM \
                     and in the resource's own policy"
                ),
            ),
            Sort::Credentials => Error::new(
                Label::AwsCredentials,
                format!("AWS does not know the credentials that it was given for {permission}: set others"),
            ),
            Sort::ExpiredCredentials => Error::new(
                Label::AwsCredentials,
                "the AWS credentials have expired: sign in again, as with `aws sso login`, or give the process a role",
            ),
            Sort::Signature => self.watch().fault().unwrap_or_else(|| {
                Error::new(
                    Label::AwsCredentials,
                    "AWS refuses the signature of the request: the secret access key is not that of the access key \
                     id; set both anew",
                )
            }),
            Sort::Missing => {
                let makes = if makes.is_empty() { String::new() } else { format!("; {makes}") };
                let message = format!("there is no {resource} in {region}: check [aws] region{makes}");
                Error::new(Label::AwsMissing, message)
            }
            Sort::ElsewhereInAws => Error::new(
                Label::AwsMissing,
                format!("{resource} is not in {region}: set [aws] region to where it is"),
            ),
            Sort::Throttled => Error::new(
                Label::AwsThrottled,
                format!("AWS throttles {permission} on {resource}: try again in a moment, or have the quota raised"),
            )
            .with_retry_after(Duration::from_secs(1)),
            Sort::KeyState => Error::new(
                Label::AwsKey,
                format!("{resource} can't be used for {permission}: see its state and its usage in KMS"),
            ),
            Sort::Service => Error::new(
                Label::Unreachable,
                format!("AWS in {region} has a fault of its own with {permission} on {resource}: try again"),
            )
            .with_retry_after(Duration::from_secs(1)),
            Sort::Other => Error::new(
                Label::AwsRefused,
                format!("AWS refuses {permission} on {resource} ({}): the log has its reason", spelt(code, status)),
            ),
        }
    }

    fn silent(&self, deed: &Deed) -> Error {
        let Deed { permission, resource, .. } = deed;
        let region = self.region();
        Error::new(
            Label::Unreachable,
            format!("AWS in {region} did not answer {permission} on {resource} in time: try again, and check the network"),
        )
        .with_retry_after(Duration::from_secs(1))
    }

    fn out_of_reach(&self, deed: &Deed) -> Error {
        let Deed { permission, resource, .. } = deed;
        let region = self.region();
        Error::new(
            Label::Unreachable,
            format!(
                "AWS can't be reached for {permission} on {resource}: check that [aws] region, which is {region}, is \
                 one, [aws] endpoint, and the network"
            ),
        )
        .with_retry_after(Duration::from_secs(1))
    }
}

fn sort(code: &str, status: u16) -> Sort {
    match code {
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AuthorizationError"
        | "Forbidden" => Sort::Denied,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken" => Sort::Credentials,
        "ExpiredToken" | "ExpiredTokenException" => Sort::ExpiredCredentials,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "RequestInTheFuture" => Sort::Signature,
        "NotFoundException"
        | "ParameterNotFound"
        | "ParameterVersionNotFound"
        | "ResourceNotFoundException"
        | "NoSuchBucket"
        | "NotFound" => Sort::Missing,
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Sort::ElsewhereInAws
        }
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "SlowDown"
        | "RequestLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "RequestThrottled" => Sort::Throttled,
        "DisabledException"
        | "KMSInvalidStateException"
        | "KeyUnavailableException"
        | "InvalidKeyUsageException"
        | "UnsupportedOperationException" => Sort::KeyState,
        _ => match status {
            301 | 307 => Sort::ElsewhereInAws,
            401 | 403 => Sort::Denied,
            404 => Sort::Missing,
            429 | 503 => Sort::Throttled,
            500.. => Sort::Service,
            _ => Sort::Other,
        },
    }
}

fn spelt(code: &str, status: u16) -> String {
    if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() }
}

fn no_credentials(deed: &Deed) -> Error {
    let permission = deed.permission;
    Error::new(
        Label::AwsCredentials,
        format!(
            "there are no AWS credentials for {permission}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or give the container or machine a role"
        ),
    )
}

fn is_about_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The whole story, for the log. It names what was asked and holds no credential.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut story = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        story.push_str(": ");
        story.push_str(&error.to_string());
        next = error.source();
    }
    story
}
