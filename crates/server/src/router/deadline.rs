//! The time that a caller gives a call. When it is over the call is given up; what it has begun to write is written.

use std::{pin::Pin, time::Duration};

use airunner_core::{Error, Label};
use airunner_net::grpc_timeout;
use http::HeaderMap;
use tokio::time::{Sleep, sleep};

/// A timer that goes on while a stream runs.
pub(super) type Timer = Pin<Box<Sleep>>;

/// What `grpc-timeout` says, or Connect's header in its milliseconds.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let millis = || headers.get("connect-timeout-ms")?.to_str().ok()?.parse().ok();
    grpc_timeout(headers).or_else(|| millis().map(Duration::from_millis))
}

/// The output of `answer` if it comes in time, and the timer for what comes after it.
pub(super) async fn within<F: Future>(
    limit: Option<Duration>,
    answer: F,
) -> (Option<F::Output>, Option<Timer>) {
    let Some(limit) = limit else { return (Some(answer.await), None) };
    let mut timer = Box::pin(sleep(limit));
    tokio::select! {
        biased;
        answer = answer => (Some(answer), Some(timer)),
        () = &mut timer => (None, None),
    }
}

/// What is told when the time is over.
pub(super) fn passed() -> Error {
    Error::new(Label::Deadline, "the call took longer than its caller allowed: give it more time")
}
