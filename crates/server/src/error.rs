//! The one mapping from a kind of error to its gRPC code and its HTTP status, and to `google.rpc` details.

use std::collections::HashMap;

use airunner_core::{Error, Kind, Label};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every `google.rpc.ErrorInfo` that we send.
pub const DOMAIN: &str = "airunner";

/// Bytes of a sentence that leave at most. It may repeat what the caller sent, up to megabytes; as a refusal it stands in
/// headers, with percent signs and once or twice more in base64, and of those some clients read 8 KiB and no more.
const SENTENCE: usize = 1024;
/// Bytes of a field's name that leave at most.
const FIELD: usize = 128;

/// The gRPC code and the HTTP status of a label: those of its kind, but for what only one of the two has a code for.
pub const fn codes(label: Label) -> (Code, StatusCode) {
    match label {
        Label::UnknownMethod => return (Code::Unimplemented, StatusCode::NOT_FOUND),
        Label::MethodNotAllowed => return (Code::InvalidArgument, StatusCode::METHOD_NOT_ALLOWED),
        Label::MediaType => return (Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        Label::UriTooLong => return (Code::ResourceExhausted, StatusCode::URI_TOO_LONG),
        Label::HeadersTooLarge => {
            return (Code::ResourceExhausted, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        _ => {}
    }
    match label.kind() {
        Kind::InvalidArgument => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
        Kind::Unauthenticated => (Code::Unauthenticated, StatusCode::UNAUTHORIZED),
        Kind::PermissionDenied => (Code::PermissionDenied, StatusCode::FORBIDDEN),
        Kind::NotFound => (Code::NotFound, StatusCode::NOT_FOUND),
        Kind::AlreadyExists => (Code::AlreadyExists, StatusCode::CONFLICT),
        Kind::Conflict => (Code::Aborted, StatusCode::CONFLICT),
        Kind::FailedPrecondition => (Code::FailedPrecondition, StatusCode::CONFLICT),
        Kind::Limit => (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
        Kind::TooLarge => (Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE),
        Kind::Unavailable => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        Kind::Deadline => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT),
        Kind::Internal => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The status that a caller sees. The cause is logged here, and does not leave.
pub fn status(error: &Error, request_id: &str) -> Status {
    let (code, _) = codes(error.label());
    let mut metadata = HashMap::new();
    if let Some(field) = error.field() {
        metadata.insert("field".to_owned(), told(field, FIELD));
    }
    metadata.insert("request_id".to_owned(), request_id.to_owned());
    let message = if error.kind() == Kind::Internal {
        tracing::error!(request_id, ?error, "internal error");
        format!("internal error; the server's log has it under {request_id}")
    } else {
        told(error.message(), SENTENCE)
    };
    let mut details = ErrorDetails::with_error_info(error.label().as_str(), DOMAIN, metadata);
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    if let (Some(field), Label::InvalidArgument) = (error.field(), error.label()) {
        details.add_bad_request_violation(told(field, FIELD), &message);
    }
    Status::with_error_details(code, message, details)
}

/// A text as it leaves: of at most so many bytes, and without what a terminal would take for more than text.
fn told(text: &str, most: usize) -> String {
    const CUT: &str = "…";
    let mut text = text.replace(char::is_control, "\u{fffd}");
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// The HTTP status of a failed call, by the label that it carries.
pub(crate) fn http_status(status: &Status) -> StatusCode {
    let details = status.get_error_details();
    let label = details.error_info().and_then(|info| Label::of(&info.reason));
    label.map_or(StatusCode::INTERNAL_SERVER_ERROR, |label| codes(label).1)
}

/// Gives the ends of calls that failed before they reached a handler, in the gRPC library, the form of all others: a
/// message that is too large, one that is packed, and bytes that are no message. Statuses that have details are ours
/// already; those of the standard services stay as they are.
pub(crate) fn label(headers: &mut HeaderMap, request_id: &str) {
    let Some(theirs) = Status::from_header_map(headers).filter(|status| status.details().is_empty()) else {
        return;
    };
    let error = match theirs.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            let sentence = "a message is at most 4 MiB, and has at most 16,384 fields: send less at a time";
            Error::new(Label::TooLarge, sentence)
        }
        Code::Internal => Error::new(
            Label::InvalidArgument,
            "this is not the message that the method takes: are client and server of the same version?",
        )
        .with_cause(theirs.message().to_owned()),
        Code::Unimplemented => Error::new(
            Label::MediaType,
            "messages are packed with gzip or not at all: send them with grpc-encoding gzip or identity",
        ),
        _ => return,
    };
    tracing::debug!(request_id, ?error, "a message could not be read");
    let ours = status(&error, request_id);
    // The protocol has a code of its own for what is packed (gRPC compression, section Test Cases), and no other here.
    let code = if theirs.code() == Code::Unimplemented { theirs.code() } else { ours.code() };
    let ours = Status::with_details(code, ours.message(), Bytes::copy_from_slice(ours.details()));
    if ours.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from(code as i32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each label with what it looks like on the wire: a change here is a change of the API.
    #[test]
    fn the_wire_form_of_every_label_is_locked() {
        let lines: Vec<String> = Label::ALL
            .iter()
            .map(|label| {
                let (code, http) = codes(*label);
                format!("{} {code:?} {}", label.as_str(), http.as_u16())
            })
            .collect();
        insta::assert_snapshot!("labels", lines.join("\n"));
    }

    #[test]
    fn a_sentence_leaves_cut_and_as_text_alone() {
        let error = Error::invalid("f".repeat(1 << 20), format!("\u{1b}[2J{}", "ß".repeat(1 << 20)));
        let status = status(&error, "r-1");
        assert!(status.message().len() <= SENTENCE && status.message().ends_with("ß…"));
        assert!(status.message().starts_with("\u{fffd}[2J"));
        assert!(status.details().len() < 2 * SENTENCE + 4 * FIELD);
        let details = status.get_error_details();
        assert_eq!(
            details.error_info().and_then(|info| info.metadata.get("field")).map(String::len),
            Some(128)
        );
    }

    #[test]
    fn an_internal_error_shows_its_id_alone() {
        let status = status(&Error::internal("the disk is on fire"), "r-1");
        assert!(status.message().contains("r-1"));
        assert!(!format!("{status:?}").contains("fire"));
        assert_eq!(
            status.get_error_details().error_info().map(|info| info.reason.as_str()),
            Some("internal")
        );
    }
}
