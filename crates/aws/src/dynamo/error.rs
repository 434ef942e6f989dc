//! What DynamoDB refuses, as errors of ours.

use std::error::Error as _;

use airunner_core::{Error, Label};
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// What became of a request that failed.
pub(super) enum Fault {
    /// What was decided on has changed, or another transaction is at it: decide again.
    Met,
    /// Too much at once: wait, and try the same again.
    Throttled(Error),
    /// The table does not answer.
    Dead(Error),
    /// Refused for good.
    Refused(Error),
}

impl Fault {
    pub(super) fn error(self) -> Error {
        match self {
            Self::Met => contended(),
            Self::Throttled(error) | Self::Dead(error) | Self::Refused(error) => error,
        }
    }
}

/// The refusal of an act that lost every race.
pub(super) fn contended() -> Error {
    Error::new(Label::StoreUnavailable, "too many writes of the same record at once: try again in a moment")
}

/// What a failure of the SDK means. `name` is the table's full name.
pub(super) fn fault<E>(error: SdkError<E>, name: &str) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let cause = DisplayErrorContext(&error).to_string();
    let code = error.code().unwrap_or_default().to_owned();
    let refused = |label, message: String| Error::new(label, message).with_cause(cause.clone());
    let unavailable = |message: String| refused(Label::StoreUnavailable, message);
    match code.as_str() {
        "ConditionalCheckFailedException" | "TransactionConflictException" => Fault::Met,
        "ThrottlingException"
        | "ThrottlingError"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "TransactionInProgressException" => {
            Fault::Throttled(unavailable(format!("DynamoDB slows {name} down: try again in a moment")))
        }
        "ResourceNotFoundException" => Fault::Dead(unavailable(format!(
            "there is no table {name}, or it lacks an index: apply Terraform, or run bootstrap with --create"
        ))),
        "AccessDeniedException" => Fault::Refused(unavailable(format!(
            "AWS denies this process {name}: grant its role dynamodb:GetItem, BatchGetItem, Query, PutItem, \
             UpdateItem, DeleteItem, ConditionCheckItem and DescribeTable on the table and its indexes"
        ))),
        "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException" => {
            Fault::Refused(unavailable(format!(
                "AWS does not accept this process's credentials for {name}: renew them, and see that the clock is right"
            )))
        }
        "ValidationException" => Fault::Refused(refused(
            Label::Internal,
            "internal error; the server's log has the cause".to_owned(),
        )),
        _ if is_silence(&error) => {
            Fault::Dead(unavailable(format!("DynamoDB does not answer for {name}: try again in a moment")))
        }
        _ => Fault::Dead(unavailable(format!("DynamoDB failed on {name}: try again in a moment"))),
    }
}

fn is_silence<E>(error: &SdkError<E>) -> bool
where
    E: std::error::Error + 'static,
{
    matches!(error, SdkError::TimeoutError(_) | SdkError::DispatchFailure(_)) || error.source().is_none()
}
