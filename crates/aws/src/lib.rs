//! airunner on AWS: the stores over DynamoDB, output over S3, signing and key wrapping by KMS, and the parameters and
//! secrets that servers start from. All of the AWS SDK is in here; no policy is.

mod dynamo;
pub mod tables;

pub use dynamo::{DynamoStore, check_tables, create_tables};
