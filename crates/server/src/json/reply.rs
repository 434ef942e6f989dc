//! From a gRPC answer to JSON, and how a failure is told.

use std::sync::Arc;

use airunner_core::BoxError;
use bytes::Bytes;
use data_encoding::BASE64_NOPAD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use super::{
    Call, Fault, Form, Rpc, StatusOf, Telling, Transcode, Translate as _, body,
    encoding::{Codec, accepts},
    frames::HEAD,
    message,
    stream::{Lines, Writing},
};

/// What the client wants to have.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    telling: Telling,
    codec: Codec,
    packs: bool,
    writing: Writing,
    /// The field that is sent instead of the whole message.
    field: String,
}

impl Shape {
    pub(super) fn of(parts: &Parts, call: &Call) -> Result<Self, Fault> {
        let headers = &parts.headers;
        if call.rpc.gives_stream && call.codec == Codec::Proto {
            return Err(Fault::media(
                "a stream is sent as JSON lines: send application/json, or call by gRPC",
            ));
        }
        let field = match &call.form {
            Form::Connect => String::new(),
            Form::Rest { rule, .. } => rule.response_body.clone(),
        };
        let sse = accepts(headers, header::ACCEPT, "text/event-stream");
        Ok(Self {
            telling: call.telling(),
            codec: call.codec,
            packs: accepts(headers, header::ACCEPT_ENCODING, "gzip"),
            writing: if sse { Writing::Events } else { Writing::Lines },
            field,
        })
    }
}

/// What a call's answer goes through on its way to the client.
pub struct Reply {
    rpc: Arc<Rpc>,
    shape: Shape,
    status_of: StatusOf,
}

impl Reply {
    pub(super) fn new(rpc: Arc<Rpc>, shape: Shape, status_of: StatusOf) -> Self {
        Self { rpc, shape, status_of }
    }
}

impl Transcode for Reply {
    async fn transcode<B>(self, response: Response<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let (parts, body) = response.into_parts();
        if let Some(status) = failure(&parts.headers) {
            return self.fail(&status);
        }
        if self.rpc.gives_stream {
            return self.stream(body);
        }
        let Ok(collected) = body.collect().await else {
            return self.fail(&broken("the answer broke off"));
        };
        if let Some(status) = collected.trailers().and_then(failure) {
            return self.fail(&status);
        }
        let framed = collected.to_bytes();
        let message = framed.get(HEAD..).ok_or_else(|| "the answer has no message".to_owned());
        match message.and_then(|message| self.write(message)) {
            Ok(content) => self.answer(content),
            Err(error) => self.fail(&broken(error)),
        }
    }
}

impl Reply {
    fn write(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        if self.shape.codec == Codec::Proto {
            return Ok(message.to_vec());
        }
        if self.shape.field.is_empty() {
            return self.rpc.json(message);
        }
        let whole =
            DynamicMessage::decode(self.rpc.output.clone(), message).map_err(|error| error.to_string())?;
        let field = whole.get_field_by_name(&self.shape.field).map(std::borrow::Cow::into_owned);
        match field.as_ref().and_then(prost_reflect::Value::as_message) {
            Some(inner) => message::write(inner),
            None => Err("a response body that is no message".to_owned()),
        }
    }

    fn answer(&self, content: Vec<u8>) -> Response<Body> {
        let packed = if self.shape.packs { body::pack(&content) } else { None };
        let is_packed = packed.is_some();
        let mut response = sent(StatusCode::OK, self.shape.codec.content_type(), packed.unwrap_or(content));
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if is_packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn stream<B>(self, body: B) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let content_type = self.shape.writing.content_type();
        let lines = Lines::new(body, self.rpc.clone(), self.shape.writing);
        let mut response = Response::new(Body::new(lines));
        mark(response.headers_mut(), content_type);
        response
    }

    fn fail(&self, status: &Status) -> Response<Body> {
        tell(status, self.shape.telling, self.status_of)
    }
}

/// An answer that can't be put into the client's form: our fault, which the log has and the client need not.
pub(crate) fn broken(cause: impl std::fmt::Display) -> Status {
    tracing::error!(%cause, "an answer could not be transcoded");
    Status::internal("internal error; the server's log has the cause")
}

/// The failure that headers or trailers tell of.
pub(crate) fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// The HTTP status that a failure is told with. Connect's table has none for what it leaves to HTTP.
pub(crate) fn told(status: &Status, telling: Telling, status_of: StatusOf) -> StatusCode {
    let ours = status_of(status);
    match telling {
        Telling::Connect
            if !matches!(ours, StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE) =>
        {
            connect_status(status.code())
        }
        Telling::Connect | Telling::Rest => ours,
    }
}

/// A failure as the client is told of it.
pub fn tell(status: &Status, telling: Telling, status_of: StatusOf) -> Response<Body> {
    let code = told(status, telling, status_of);
    let content = match telling {
        Telling::Connect => connect_error(status),
        Telling::Rest => json!({ "error": error(status) }),
    };
    let mut response = sent(code, "application/json", content.to_string().into_bytes());
    let after = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    response
}

/// A failure in our form: label, sentence, and what else is known of it.
pub(super) fn error(status: &Status) -> Value {
    let details = status.get_error_details();
    let info = details.error_info();
    let mut error = json!({
        "label": info.map_or("internal", |info| info.reason.as_str()),
        "message": status.message(),
    });
    for name in ["field", "request_id"] {
        if let Some(value) = info.and_then(|info| info.metadata.get(name)).filter(|value| !value.is_empty()) {
            error[name] = value.as_str().into();
        }
    }
    error
}

/// A failure in Connect's form (Connect protocol, "Error end-stream" and unary errors).
fn connect_error(status: &Status) -> Value {
    let mut error = json!({ "code": connect_code(status.code()) });
    if !status.message().is_empty() {
        error["message"] = status.message().into();
    }
    let details = tonic_types::pb::Status::decode(status.details()).map(|status| status.details);
    let details: Vec<Value> = details
        .unwrap_or_default()
        .iter()
        .map(|any| {
            let kind = any.type_url.rsplit('/').next().unwrap_or_default();
            json!({ "type": kind, "value": BASE64_NOPAD.encode(&any.value) })
        })
        .collect();
    if !details.is_empty() {
        error["details"] = details.into();
    }
    error
}

const fn connect_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "canceled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// Connect's own table of statuses.
const fn connect_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        // 499 is what Connect's table says, which has no name of its own.
        Code::Cancelled => match StatusCode::from_u16(499) {
            Ok(code) => code,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        },
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer with this content.
pub(crate) fn sent(
    code: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Body> {
    let content = content.into();
    let length = content.len();
    let mut response = Response::new(Body::new(Full::new(content)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    mark(headers, content_type);
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

/// What every answer says: its type, which is not to be guessed, and that nobody keeps it.
pub(crate) fn mark(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use airunner_core::{Error, Label};

    use super::*;
    use crate::error::{http_status, status};

    /// What each label looks like over JSON: a change here is a change of the API.
    #[tokio::test]
    async fn the_json_form_of_every_label_is_locked() {
        let mut lines = Vec::new();
        for label in Label::ALL {
            // Without a field: the metadata of `ErrorInfo` are a map, whose order on the wire is no one's promise.
            let status = status(&Error::new(*label, "Do this."), "r-1");
            for telling in [Telling::Rest, Telling::Connect] {
                let told = tell(&status, telling, http_status);
                let code = told.status().as_u16();
                let body = told.into_body().collect().await.unwrap().to_bytes();
                lines.push(format!("{telling:?} {code} {}", String::from_utf8_lossy(&body)));
            }
        }
        insta::assert_snapshot!("json_failures", lines.join("\n"));
    }
}
