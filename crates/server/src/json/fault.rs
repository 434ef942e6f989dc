//! What can be wrong with a request before it is a call.

use std::time::Duration;

use http::Method as Verb;

/// What is wrong. The sentence says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing at the path.
    Nothing(String),
    /// The path takes other verbs.
    Verb(Vec<Verb>),
    /// A content type or encoding that is not served.
    Media(String),
    /// More bytes than are taken.
    TooLarge(String),
    /// The content is not what the RPC takes; with the field, where one is known.
    Content(Option<String>, String),
    /// The client did not send what it began.
    Slow(String),
}

impl Fault {
    pub(crate) fn nothing(path: &str) -> Self {
        Self::Nothing(format!("there is nothing at {path} on this listener"))
    }

    pub(crate) fn media(message: &str) -> Self {
        Self::Media(message.to_owned())
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::TooLarge(format!("a message is at most {} MiB: send less at a time", limit / (1024 * 1024)))
    }

    pub(crate) fn slow(time: Duration) -> Self {
        Self::Slow(format!("the body did not arrive within {time:?}: send it faster"))
    }

    pub(crate) fn content(message: impl Into<String>) -> Self {
        Self::Content(None, message.into())
    }

    pub(crate) fn field(field: &str, message: &str) -> Self {
        Self::Content(Some(field.to_owned()), format!("{field}: {message}"))
    }
}
