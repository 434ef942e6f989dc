//! The body of an answer: what comes, until the call's time is over, and with errors that say what happened.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::Status;

use super::connection::Origin;
use crate::Error;

/// When the call's time is over, and what it fails with then.
type Timer = (Pin<Box<Sleep>>, Error);
/// The end of the connection.
type Over = Pin<Box<dyn Future<Output = Error> + Send>>;

pub(super) struct ResponseBody {
    inner: Incoming,
    origin: Arc<Origin>,
    timer: Option<Timer>,
    /// Made when there is something to wait for.
    over: Option<Over>,
    is_lost: bool,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, origin: Arc<Origin>) -> Self {
        Self { inner, origin, timer: None, over: None, is_lost: false }
    }

    pub(super) fn until(mut self, timer: Option<Timer>) -> Self {
        self.timer = timer;
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_lost {
            return Poll::Ready(None);
        }
        let origin = &this.origin;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| origin.explain(error).to_status())));
        }
        let timer = this.timer.as_mut();
        if timer.is_some_and(|(timer, _)| timer.as_mut().poll(cx).is_ready())
            && let Some((_, error)) = this.timer.take()
        {
            return Poll::Ready(Some(Err(error.to_status())));
        }
        let over = this.over.get_or_insert_with(|| {
            let origin = Arc::clone(origin);
            Box::pin(async move { origin.over().await })
        });
        over.as_mut().poll(cx).map(|error| {
            this.is_lost = true;
            Some(Err(error.to_status()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
