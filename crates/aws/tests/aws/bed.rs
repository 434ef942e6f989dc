//! Clients of the emulator, and names that no other test uses.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use airunner_aws::Aws;
use airunner_testkit::emulator::{Emulator, REGION};
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};

/// The clients that the product uses, of the emulator that all tests share.
pub(crate) fn aws() -> Aws {
    Aws::of(&sdk()).unwrap()
}

/// Clients of the SDK's own, to arrange what the product does not do: disable a key, look into a bucket.
pub(crate) fn sdk() -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(Emulator::shared().endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::standard())
        .build()
}

/// Of KMS.
pub(crate) fn kms() -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::new(&sdk())
}

/// Of S3.
pub(crate) fn s3() -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&sdk()).force_path_style(true).build())
}

/// A name that begins so, of this test alone.
pub(crate) fn name(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}", COUNT.fetch_add(1, Relaxed))
}
