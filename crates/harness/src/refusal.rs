//! What holds of every refusal, whatever was refused.

use airunner_core::{Error, Kind, Label};
use airunner_server::error::status;
use tonic_types::StatusExt as _;

/// Bytes that the details of a refusal take at most, with its sentence in them twice: it must fit into the headers
/// that a client reads.
const MOST: usize = 4 * 1024;

/// A refusal of bytes is the sender's fault, has one of these labels, and is told briefly, in text and nothing else.
pub(crate) fn holds(error: &Error, labels: &[Label]) {
    assert!(labels.contains(&error.label()), "{error:?}");
    assert!(error.kind() != Kind::Internal && !error.message().is_empty(), "{error:?}");
    let status = status(error, "r-1");
    assert!(!status.message().chars().any(char::is_control), "{error:?}");
    assert!(status.details().len() <= MOST, "{} bytes: {error:?}", status.details().len());
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(error.label().as_str()));
}
