//! Which RPC a request means, by whichever door it comes, and how its refusal is told there.

use airunner_core::{Error, Label, Result};
use http::{HeaderValue, Method as Verb, Request, Response, header};
use tonic::body::Body;

use super::guard::{Guarded, RequestLog};
use crate::{
    error::{http_status, status},
    json::{Call, Fault, Telling, Transcoder, tell},
};

/// What a request means.
pub(super) enum Meaning {
    /// The gRPC method at its path.
    Grpc,
    /// A call over JSON.
    Call(Call),
    /// Nothing that is served here.
    Nothing(Fault, Telling),
}

/// How the client expects to be told of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// By trailers.
    Grpc,
    /// By an HTTP status and JSON.
    Json(Telling),
}

impl Meaning {
    pub(super) fn of<B>(json: &Transcoder, request: &Request<B>) -> Self {
        if is_grpc(request) {
            return Self::Grpc;
        }
        match json.resolve(request.method(), request.uri(), request.headers()) {
            Ok(call) => Self::Call(call),
            Err((fault, telling)) => Self::Nothing(fault, telling),
        }
    }

    /// The RPC's path.
    pub(super) fn path<'a, B>(&'a self, request: &'a Request<B>) -> Result<&'a str> {
        match self {
            Self::Grpc if request.method() != Verb::POST => Err(error(Fault::Verb(vec![Verb::POST]))),
            Self::Grpc => Ok(request.uri().path()),
            Self::Call(call) => Ok(call.path()),
            Self::Nothing(fault, _) => Err(error(fault.clone())),
        }
    }

    pub(super) fn told(&self) -> Told {
        match self {
            Self::Grpc => Told::Grpc,
            Self::Call(call) => Told::Json(call.telling()),
            Self::Nothing(_, telling) => Told::Json(*telling),
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A fault as one of our errors.
pub(super) fn error(fault: Fault) -> Error {
    match fault {
        Fault::Nothing(message) => Error::new(Label::UnknownMethod, message),
        Fault::Verb(verbs) => {
            let verbs = verbs.iter().map(Verb::as_str).collect::<Vec<_>>().join(", ");
            Error::new(Label::MethodNotAllowed, format!("this path takes {verbs}")).with_field(verbs)
        }
        Fault::Media(message) => Error::new(Label::MediaType, message),
        Fault::TooLarge(message) => Error::new(Label::TooLarge, message),
        Fault::Content(None, message) => Error::new(Label::InvalidArgument, message),
        Fault::Content(Some(field), message) => Error::invalid(field, message),
        Fault::Slow(message) => Error::new(Label::Deadline, message),
    }
}

/// Answers a request that is refused. What a browser sent for another site is told in HTTP alone.
pub(super) fn refuse(log: RequestLog, told: Told, error: &Error) -> Response<Body> {
    let status = status(error, &log.id);
    let telling = match told {
        Told::Grpc if error.label() != Label::CrossSite => {
            return Guarded::refusal(log, status.into_http()).map(Body::new);
        }
        Told::Grpc => Telling::Rest,
        Told::Json(telling) => telling,
    };
    let mut response = tell(&status, telling, http_status);
    if error.label() == Label::MethodNotAllowed
        && let Some(Ok(allowed)) = error.field().map(HeaderValue::from_str)
    {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    Guarded::refusal(log, response).map(Body::new)
}
