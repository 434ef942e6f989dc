//! The clients of every AWS service that airunner uses: one region, one endpoint, one set of credentials, one patience.
//! What the services are asked is the business of the other files.

use std::{fmt, time::Duration};

use airunner_core::{Error, Label, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};

use crate::{clock_watch::ClockWatch, error::Deed};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an attempt may take; long enough for a segment of output.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a call may take, with its retries.
const OPERATION: Duration = Duration::from_secs(25);
/// How often a call is tried. Between two attempts it waits for a random part of a time that doubles.
const ATTEMPTS: u32 = 4;
/// What the waiting begins with, and where it stops growing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Where AWS is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsOptions {
    /// The region; what the machine's own AWS configuration says (`AWS_REGION`, a profile) where it is not set.
    pub region: Option<String>,
    /// Where every service answers, in place of AWS: an emulator, a private endpoint.
    pub endpoint: Option<String>,
}

/// The clients. Cheap to clone: they share connections, credentials and the count of retries.
#[derive(Clone)]
pub struct Aws {
    region: String,
    watch: ClockWatch,
    dynamodb: aws_sdk_dynamodb::Client,
    kms: aws_sdk_kms::Client,
    s3: aws_sdk_s3::Client,
    secrets: aws_sdk_secretsmanager::Client,
    ssm: aws_sdk_ssm::Client,
    sts: aws_sdk_sts::Client,
}

impl Aws {
    /// The clients, with the credentials that the SDK's default chain finds: environment variables, a profile, a web
    /// identity, the role of a container or a machine. Asks no service yet.
    ///
    /// # Errors
    /// `config` where no region is set anywhere, or the endpoint is no URL.
    pub async fn connect(options: &AwsOptions) -> Result<Self> {
        if let Some(endpoint) = options.endpoint.as_deref().filter(|endpoint| !is_url(endpoint)) {
            let message = format!("aws.endpoint is {endpoint:?}, and must be an URL as https://host:port");
            return Err(Error::new(Label::Config, message).with_field("aws.endpoint"));
        }
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .timeout_config(timeouts())
            .retry_config(retries());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint.clone());
        }
        Self::of(&loader.load().await)
    }

    /// The clients of a configuration of the SDK, whose patience is the caller's.
    ///
    /// # Errors
    /// `config` where it names no region.
    pub fn of(sdk: &SdkConfig) -> Result<Self> {
        let region = sdk.region().map(ToString::to_string).ok_or_else(|| {
            Error::new(
                Label::Config,
                "no AWS region is set: set [aws] region, AIRUNNER_AWS_REGION or --aws-region, as eu-central-1",
            )
            .with_field("aws.region")
        })?;
        let watch = ClockWatch::default();
        // A bucket's name can't be part of the host where that is an emulator's.
        let by_path = sdk.endpoint_url().is_some();
        let s3 = aws_sdk_s3::config::Builder::from(sdk).force_path_style(by_path);
        Ok(Self {
            region,
            dynamodb: aws_sdk_dynamodb::Client::from_conf(
                aws_sdk_dynamodb::config::Builder::from(sdk).interceptor(watch.clone()).build(),
            ),
            kms: aws_sdk_kms::Client::from_conf(
                aws_sdk_kms::config::Builder::from(sdk).interceptor(watch.clone()).build(),
            ),
            s3: aws_sdk_s3::Client::from_conf(s3.interceptor(watch.clone()).build()),
            secrets: aws_sdk_secretsmanager::Client::from_conf(
                aws_sdk_secretsmanager::config::Builder::from(sdk).interceptor(watch.clone()).build(),
            ),
            ssm: aws_sdk_ssm::Client::from_conf(
                aws_sdk_ssm::config::Builder::from(sdk).interceptor(watch.clone()).build(),
            ),
            sts: aws_sdk_sts::Client::from_conf(
                aws_sdk_sts::config::Builder::from(sdk).interceptor(watch.clone()).build(),
            ),
            watch,
        })
    }

    /// The region that every call goes to.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The account that the credentials belong to. Needs no permission.
    ///
    /// # Errors
    /// `aws-credentials` and what AWS says otherwise.
    pub async fn account(&self) -> Result<String> {
        let deed = Deed::new("sts:GetCallerIdentity", "who the credentials belong to", "");
        let identity = self.sts.get_caller_identity().send().await;
        let identity = identity.map_err(|error| self.failure(&deed, error))?;
        identity.account.ok_or_else(|| Error::internal("STS told no account"))
    }

    /// Holds this machine's clock against the date of the newest answer of AWS. To be asked after some call.
    ///
    /// # Errors
    /// `clock-skew` where they differ by more than 2 minutes.
    pub fn check_clock(&self) -> Result<()> {
        self.watch.fault().map_or(Ok(()), Err)
    }

    /// Of DynamoDB.
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    /// Of KMS.
    pub(crate) fn kms(&self) -> &aws_sdk_kms::Client {
        &self.kms
    }

    /// Of S3.
    pub(crate) fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    /// Of Secrets Manager.
    pub(crate) fn secrets(&self) -> &aws_sdk_secretsmanager::Client {
        &self.secrets
    }

    /// Of SSM.
    pub(crate) fn ssm(&self) -> &aws_sdk_ssm::Client {
        &self.ssm
    }

    /// What the answers' dates say of this machine's clock.
    pub(crate) fn watch(&self) -> &ClockWatch {
        &self.watch
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aws({})", self.region)
    }
}

/// The patience with every call.
pub(crate) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build()
}

/// How calls are tried again: throttled ones, those that met a fault of the service, and those that got no answer.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(BACKOFF.0)
        .with_max_backoff(BACKOFF.1)
}

fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
}
