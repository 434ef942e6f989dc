//! The messages of a gRPC body, without a copy where one arrives in one piece.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use airunner_core::BoxError;
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use tonic::Status;

use super::reply::broken;

/// The length of a message's head: a flag and four bytes of length (gRPC over HTTP/2, Length-Prefixed-Message).
pub(super) const HEAD: usize = 5;

/// The messages of a body, and then its status.
pub(crate) struct Frames<B> {
    body: B,
    arrived: Bytes,
}

/// What comes next.
pub(crate) enum Next {
    Message(Bytes),
    /// The status of the call, which is over.
    End(Status),
}

impl<B> Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(body: B) -> Self {
        Self { body, arrived: Bytes::new() }
    }

    /// The next message or the end. Fails where the body is cut.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, BoxError>> {
        loop {
            if let Some(message) = self.whole() {
                return Poll::Ready(Ok(Next::Message(message)));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(Err("the stream was cut".into()));
            };
            match frame.map_err(Into::into)?.into_data() {
                Ok(data) => self.join(data),
                Err(frame) => {
                    let status = frame.into_trailers().ok().as_ref().and_then(Status::from_header_map);
                    let status = status.unwrap_or_else(|| broken("the stream has no status"));
                    return Poll::Ready(Ok(Next::End(status)));
                }
            }
        }
    }

    fn whole(&mut self) -> Option<Bytes> {
        let length = u32::from_be_bytes(self.arrived.get(1..HEAD)?.try_into().ok()?) as usize;
        if self.arrived.len() < HEAD + length {
            return None;
        }
        self.arrived.advance(HEAD);
        Some(self.arrived.split_to(length))
    }

    fn join(&mut self, data: Bytes) {
        if self.arrived.is_empty() {
            self.arrived = data;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.arrived.len() + data.len());
        joined.extend_from_slice(&self.arrived);
        joined.extend_from_slice(&data);
        self.arrived = joined.freeze();
    }
}
