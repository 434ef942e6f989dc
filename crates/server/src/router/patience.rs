//! How long a request's one message may take to arrive. The transcoder has the same patience with the bodies that it
//! reads whole.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use airunner_core::BoxError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::meaning;
use crate::{error::status, json::Fault};

/// A body that must be whole in time, where it has one. A body of many messages has no end that could be waited for.
pub(super) struct Patient<B> {
    body: B,
    patience: Option<Duration>,
    id: Arc<str>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Patient<B> {
    /// The body of the request with this id.
    pub(super) fn new(body: B, patience: Option<Duration>, id: &Arc<str>) -> Self {
        Self { body, patience, id: id.clone(), timer: None }
    }
}

impl<B> http_body::Body for Patient<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(patience) = this.patience else { return Poll::Pending };
        // Most bodies are there already, and need no timer.
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        std::task::ready!(timer.as_mut().poll(cx));
        let slow = meaning::error(&Fault::slow(patience));
        Poll::Ready(Some(Err(status(&slow, &this.id).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
