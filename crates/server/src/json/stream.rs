//! A gRPC server stream as lines of JSON, or as server-sent events (WHATWG HTML section 9.2). Its last line says that
//! it ended or why it failed; a stream without one was cut.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use airunner_core::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame};
use prost_reflect::{DynamicMessage, Value};
use serde_json::json;
use tonic::{Code, Status};

use super::{
    Rpc,
    frames::{Frames, Next},
    reply,
};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// One JSON document a line.
    Lines,
    /// Server-sent events.
    Events,
}

impl Writing {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn message(self, json: &[u8], id: Option<u64>) -> Bytes {
        let mut written = Vec::with_capacity(json.len() + 32);
        if self == Self::Events {
            if let Some(id) = id {
                written.extend_from_slice(format!("id: {id}\n").as_bytes());
            }
            written.extend_from_slice(b"data: ");
        }
        written.extend_from_slice(json);
        written.extend_from_slice(if self == Self::Events { b"\n\n" } else { b"\n" });
        written.into()
    }

    fn end(self, status: &Status) -> Bytes {
        let (name, content) =
            if status.code() == Code::Ok { ("end", json!({})) } else { ("error", reply::error(status)) };
        match self {
            Self::Lines => format!("{}\n", json!({ name: content })),
            Self::Events => format!("event: {name}\ndata: {content}\n\n"),
        }
        .into()
    }
}

/// The body that a stream becomes.
pub(super) struct Lines<B> {
    frames: Frames<B>,
    rpc: Arc<Rpc>,
    writing: Writing,
    is_over: bool,
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B, rpc: Arc<Rpc>, writing: Writing) -> Self {
        Self { frames: Frames::new(body), rpc, writing, is_over: false }
    }

    fn write(&self, message: &[u8]) -> Result<Bytes, Status> {
        let json = self.rpc.json(message).map_err(reply::broken)?;
        let id = match (&self.rpc.resume, self.writing) {
            (Some(resume), Writing::Events) => {
                let read = DynamicMessage::decode(self.rpc.output.clone(), message).map_err(reply::broken)?;
                number(&read, &resume.id)
            }
            _ => None,
        };
        Ok(self.writing.message(&json, id))
    }
}

/// The number at the end of a way of names, unless it is 0 or something on the way is absent.
fn number(message: &DynamicMessage, way: &[String]) -> Option<u64> {
    let (name, rest) = way.split_first()?;
    if !message.has_field_by_name(name) {
        return None;
    }
    match message.get_field_by_name(name)?.as_ref() {
        Value::Message(inner) => number(inner, rest),
        value => value.as_u64().filter(|number| *number > 0),
    }
}

impl<B> Body for Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let line = match ready!(self.frames.poll_next(cx)) {
            Ok(Next::Message(message)) => self.write(&message),
            Ok(Next::End(status)) => Err(status),
            Err(error) => {
                self.is_over = true;
                return Poll::Ready(Some(Err(error)));
            }
        };
        let line = line.unwrap_or_else(|end| {
            self.is_over = true;
            self.writing.end(&end)
        });
        Poll::Ready(Some(Ok(Frame::data(line))))
    }
}
