//! airunner on AWS: the stores over DynamoDB, output over S3, signing and key wrapping by KMS, and the parameters and
//! secrets that servers start from. All of the AWS SDK is in here; no policy is.

mod client;
mod clock_watch;
mod dynamo;
mod error;
#[cfg(test)]
mod failure_tests;
mod key_wrap;
pub mod kms;
pub mod output;
pub mod parameters;
#[cfg(test)]
mod replayed;
pub mod secrets;
pub mod tables;

pub use client::{Aws, AwsOptions};
pub use dynamo::{DynamoStore, check_tables, create_tables};
pub use error::Deed;
pub use key_wrap::KmsKeyWrap;
pub use kms::KmsSigner;
pub use output::S3Output;
