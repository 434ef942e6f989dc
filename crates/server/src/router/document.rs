//! What anyone may read who reaches a listener: that the server answers, and the description of its API.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::json::{Fault, Telling, Unresolved, mark};

/// A document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Health,
    OpenApi,
}

impl Document {
    /// The document that a request asks for, if it asks for one.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Result<Self, Unresolved>> {
        let document = match request.uri().path() {
            "/v1/health" => Self::Health,
            "/openapi.json" => Self::OpenApi,
            _ => return None,
        };
        if matches!(*request.method(), Verb::GET | Verb::HEAD) {
            return Some(Ok(document));
        }
        let fault = Fault::Verb(vec![Verb::GET, Verb::HEAD]);
        Some(Err(Unresolved { fault, telling: Telling::Rest, there: Vec::new() }))
    }

    /// It is sent.
    pub(super) fn answer(self, openapi: &Bytes, verb: &Verb) -> Response<Body> {
        let content = match self {
            Self::Health => Bytes::from_static(br#"{"status":"ok"}"#),
            Self::OpenApi => openapi.clone(),
        };
        let length = content.len();
        let body = if verb == Verb::HEAD { Body::empty() } else { Body::new(Full::new(content)) };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        let headers: &mut HeaderMap = response.headers_mut();
        mark(headers, "application/json");
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}
