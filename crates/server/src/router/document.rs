//! What anyone may read who reaches a listener: that the server answers, and the description of its API.

use bytes::Bytes;
use http::{Method as Verb, Response, StatusCode};
use tonic::body::Body;

use crate::json::sent;

/// A document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Health,
    OpenApi,
}

impl Document {
    /// The verbs that a document takes.
    pub(super) const VERBS: [Verb; 2] = [Verb::GET, Verb::HEAD];

    /// The document at this path, if there is one.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/health" => Some(Self::Health),
            "/openapi.json" => Some(Self::OpenApi),
            _ => None,
        }
    }

    pub(super) fn is_read_by(verb: &Verb) -> bool {
        Self::VERBS.contains(verb)
    }

    /// It is sent.
    pub(super) fn answer(self, openapi: &Bytes) -> Response<Body> {
        let content = match self {
            Self::Health => Bytes::from_static(br#"{"status":"ok"}"#),
            Self::OpenApi => openapi.clone(),
        };
        sent(StatusCode::OK, "application/json", content)
    }
}
