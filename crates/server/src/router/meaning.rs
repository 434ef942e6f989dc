//! Which RPC a request means, by whichever door it comes, and how its refusal is told there.

use airunner_core::{Error, Label, Result};
use http::{HeaderValue, Method as Verb, Request, Response, header};
use tonic::body::Body;

use super::{
    document::Document,
    guard::{Guarded, RequestLog},
};
use crate::{
    error::{http_status, status},
    job_rest::JobCall,
    json::{Call, Fault, Telling, Transcoder, Translate as _, Unresolved, tell},
};

/// What a request means.
pub(super) enum Meaning {
    /// The gRPC method at its path.
    Grpc,
    /// A call over JSON.
    Call(Call),
    /// A call over one of the paths of jobs.
    Job(JobCall),
    /// No call, but what anyone may read.
    Document(Document),
    /// Nothing that is served here.
    Nothing(Unresolved),
}

impl Meaning {
    pub(super) fn of<B>(json: &Transcoder, request: &Request<B>) -> Self {
        if is_grpc(request) {
            return Self::Grpc;
        }
        let (verb, uri, headers) = (request.method(), request.uri(), request.headers());
        if let Some(document) = Document::at(uri.path()) {
            return Self::Document(document);
        }
        let job = || JobCall::resolve(verb, uri, headers).map(|found| found.map(Self::Job));
        let call = || json.resolve(verb, uri, headers).map(Self::Call);
        job().unwrap_or_else(call).unwrap_or_else(Self::Nothing)
    }

    /// The RPC's path.
    pub(super) fn path<'a, B>(&'a self, request: &'a Request<B>) -> Result<&'a str> {
        match self {
            Self::Grpc if request.method() != Verb::POST => Err(error(&Fault::Verb(vec![Verb::POST]))),
            Self::Grpc => Ok(request.uri().path()),
            // Whoever may read it has read it.
            Self::Document(_) => Err(error(&Fault::Verb(Document::VERBS.to_vec()))),
            Self::Call(call) => Ok(call.path()),
            Self::Job(call) => Ok(call.path()),
            Self::Nothing(unresolved) => Err(error(&unresolved.fault)),
        }
    }

    /// Whether nothing of it is known to the outside, where only these RPCs are: then it must look like a path that is
    /// not there.
    pub(super) fn is_hidden(&self, is_public: impl Fn(&str) -> bool) -> bool {
        matches!(self, Self::Nothing(unresolved) if !unresolved.there.iter().any(|path| is_public(path)))
    }

    /// In which JSON a failure is told; by trailers where there is none.
    pub(super) fn telling(&self) -> Option<Telling> {
        match self {
            Self::Grpc => None,
            Self::Call(call) => Some(call.telling()),
            Self::Job(call) => Some(call.telling()),
            Self::Document(_) => Some(Telling::Rest),
            Self::Nothing(unresolved) => Some(unresolved.telling),
        }
    }

    /// The verbs that its path takes.
    pub(super) fn allowed(&self) -> &[Verb] {
        match self {
            Self::Grpc => &[Verb::POST],
            Self::Nothing(Unresolved { fault: Fault::Verb(allowed), .. }) => allowed,
            Self::Document(_) => &Document::VERBS,
            Self::Nothing(_) | Self::Call(_) | Self::Job(_) => &[],
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A fault as one of our errors.
pub(super) fn error(fault: &Fault) -> Error {
    match fault {
        Fault::Nothing(message) => Error::new(Label::UnknownMethod, message),
        Fault::Verb(allowed) => {
            Error::new(Label::MethodNotAllowed, format!("this path takes {}", listed(allowed)))
        }
        Fault::Media(message) => Error::new(Label::MediaType, message),
        Fault::TooLarge(message) => Error::new(Label::TooLarge, message),
        Fault::Content(None, message) => Error::new(Label::InvalidArgument, message),
        Fault::Content(Some(field), message) => Error::invalid(field, message),
        Fault::Slow(message) => Error::new(Label::Deadline, message),
    }
}

fn listed(verbs: &[Verb]) -> String {
    verbs.iter().map(Verb::as_str).collect::<Vec<_>>().join(", ")
}

/// Answers a request that is refused, at a path that takes these verbs: in this JSON, or by trailers. What a browser sent
/// for another site is told in HTTP alone; and Connect's table of statuses is for calls, not for heads.
pub(super) fn refuse(
    log: RequestLog,
    telling: Option<Telling>,
    allowed: &[Verb],
    error: &Error,
) -> Response<Body> {
    let status = status(error, &log.id);
    let telling = match telling {
        _ if error.label() == Label::CrossSite => Telling::Rest,
        None => return Guarded::without_call(log, status.into_http()).map(Body::new),
        Some(_) if matches!(error.label(), Label::UriTooLong | Label::HeadersTooLarge) => Telling::Rest,
        Some(telling) => telling,
    };
    let mut response = tell(&status, telling, http_status);
    if error.label() == Label::MethodNotAllowed
        && let Ok(allowed) = HeaderValue::try_from(listed(allowed))
    {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    Guarded::without_call(log, response).map(Body::new)
}
