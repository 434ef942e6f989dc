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

pub(super) struct ResponseBody {
    inner: Incoming,
    origin: Arc<Origin>,
    timer: Option<Timer>,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, origin: Arc<Origin>) -> Self {
        Self { inner, origin, timer: None }
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
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            let origin = &self.origin;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| origin.explain(error).to_status())));
        }
        let over = self.timer.as_mut().is_some_and(|(timer, _)| timer.as_mut().poll(cx).is_ready());
        match self.timer.take_if(|_| over) {
            Some((_, error)) => Poll::Ready(Some(Err(error.to_status()))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
