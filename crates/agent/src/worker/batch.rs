//! What an `outbox` keeps of a job, and the batches in which it goes to the server.

use std::io;

use airunner_core::Timestamp;
use airunner_proto::job::v1::{JobEvent, Output, OutputStream, job_event::Kind};
use bytes::{Bytes, BytesMut};

use super::spool::{Place, Spool};

/// Events that are to be sent, of which some may be on disk.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) events: Vec<JobEvent>,
    spooled: Vec<(usize, Place)>,
    spool: Option<&'a Spool>,
}

/// An event that has its number.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) content: Content,
}

/// What it tells.
#[derive(Debug)]
pub(super) enum Content {
    /// Output that may still grow.
    Output(OutputStream, BytesMut),
    /// Output to which nothing is added any more.
    Sealed(OutputStream, Bytes),
    /// ... that is on disk.
    Spooled(OutputStream, Place),
    Other(Kind),
}

impl Content {
    /// What it counts for in a batch.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Output(..) | Self::Sealed(..) => self.in_memory(),
            Self::Spooled(_, place) => place.len,
            Self::Other(Kind::Note(note)) => note.message.len(),
            Self::Other(_) => 0,
        }
    }

    /// Bytes of output that it keeps in memory.
    pub(super) fn in_memory(&self) -> usize {
        match self {
            Self::Output(_, bytes) => bytes.len(),
            Self::Sealed(_, bytes) => bytes.len(),
            Self::Spooled(..) | Self::Other(_) => 0,
        }
    }

    /// The output that is in memory, which stays as it is from here on.
    pub(super) fn seal(&mut self) -> Option<Bytes> {
        if let Self::Output(stream, bytes) = self {
            *self = Self::Sealed(*stream, std::mem::take(bytes).freeze());
        }
        match self {
            Self::Sealed(_, bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl<'a> Batch<'a> {
    /// An empty one, of what is in memory and in this spool.
    pub(super) fn new(spool: Option<&'a Spool>) -> Self {
        Self { events: Vec::new(), spooled: Vec::new(), spool }
    }

    /// Adds an entry, which stays as it is from here on.
    pub(super) fn add(&mut self, entry: &mut Entry) {
        let data = entry.content.seal();
        let kind = match &entry.content {
            Content::Other(kind) => kind.clone(),
            Content::Output(stream, _) | Content::Sealed(stream, _) => {
                Kind::Output(Output { stream: *stream as i32, data: data.unwrap_or_default() })
            }
            Content::Spooled(stream, place) => {
                self.spooled.push((self.events.len(), *place));
                Kind::Output(Output { stream: *stream as i32, data: Bytes::new() })
            }
        };
        let at = Some(timestamp(entry.at));
        self.events.push(JobEvent { sequence: entry.sequence, at, kind: Some(kind) });
    }

    /// The events, read from disk where they are there.
    ///
    /// # Errors
    /// Where the disk does not give them back.
    pub(super) async fn load(mut self) -> io::Result<Vec<JobEvent>> {
        let Some(spool) = self.spool.filter(|_| !self.spooled.is_empty()) else { return Ok(self.events) };
        let places = self.spooled.iter().map(|(_, place)| *place).collect();
        for ((index, _), bytes) in self.spooled.iter().zip(spool.read(places).await?) {
            if let Some(Kind::Output(output)) = &mut self.events[*index].kind {
                output.data = bytes;
            }
        }
        Ok(self.events)
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.as_millis().rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: at.as_secs(), nanos: i32::try_from(nanos).unwrap_or_default() }
}
