//! Requests that may be retried: what came of one is kept for 24 hours.

use std::time::Duration;

use airunner_core::{Error, Label, RequestKey, Result, Timestamp};

use crate::rows::{KeptRequest, Rows};

/// How long a request's result is kept.
const KEPT: Duration = Duration::from_hours(24);

/// What came of this request before, if it was made before (`request-reused` if it asked for something else then).
pub(crate) fn earlier(rows: &dyn Rows, key: Option<&RequestKey>, now: Timestamp) -> Result<Option<String>> {
    let Some(key) = key else { return Ok(None) };
    match rows.request(key)? {
        Some(kept) if kept.at.plus(KEPT) <= now => Ok(None),
        Some(kept) if kept.content == key.content => Ok(Some(kept.result)),
        Some(_) => Err(Error::new(
            Label::RequestReused,
            format!("the request id {} was used for another request: choose a new one", key.id.as_str()),
        )
        .with_field("request_id")),
        None => Ok(None),
    }
}

/// Keeps what came of a request.
pub(crate) fn keep(
    rows: &mut dyn Rows,
    key: Option<&RequestKey>,
    result: impl FnOnce() -> String,
    now: Timestamp,
) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    let kept = KeptRequest { content: key.content, result: result(), at: now };
    rows.put_request(key, &kept, now.minus(KEPT))
}
