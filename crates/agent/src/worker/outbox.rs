//! A job's events on their way to the server: numbered, kept until they are acknowledged, and bounded. How they travel is
//! `publisher`'s.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{Monotonic, Sequence, Timestamp};
use airunner_proto::job::v1::{JobEvent, Output, OutputStream, job_event::Kind};
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Events of a batch at most.
const BATCH_EVENTS: usize = 50;
/// Bytes of a batch at most.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes of one output event, to which smaller pieces are put together.
const EVENT_BYTES: usize = 64 * 1024;
/// Events that may wait for their acknowledgement, however small.
const MOST_EVENTS: usize = 4_096;
/// How long an event waits for others to travel with.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// ... and how long where someone may be typing and wants to see it.
pub(super) const FLUSH_ECHO_AFTER: Duration = Duration::from_millis(5);
/// Batches of one job that are under way at a time: the server waits for its disk once for those that it has.
const BATCHES_UNDER_WAY: usize = 16;

/// The events of one attempt.
#[derive(Debug)]
pub(super) struct Outbox {
    attempt: u32,
    limit: usize,
    patience: Duration,
    state: Mutex<State>,
    /// Told when bytes were acknowledged, and when there is nothing more to wait for.
    moved: Notify,
    /// Told when there is something to send.
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Events that were given a number.
    numbered: u64,
    entries: VecDeque<Entry>,
    /// How many of the entries the present stream has been given, and in how many batches.
    sent: usize,
    under_way: usize,
    /// How many of the entries any stream has been given: what is in them stays.
    sealed: usize,
    bytes: usize,
    /// When the oldest entry that was not sent came.
    waiting_since: Option<Monotonic>,
    urgent: bool,
    abandoned: bool,
    failure: Option<String>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    at: Timestamp,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Output(OutputStream, BytesMut),
    /// Output to which nothing is added any more.
    Sealed(OutputStream, Bytes),
    Other(Kind),
}

impl Outbox {
    /// For an attempt, keeping at most `limit` bytes of output. An event waits for `patience` for others to travel with;
    /// whenever there is something to send, `wake` is told.
    pub(super) fn new(attempt: u32, limit: usize, patience: Duration, wake: Arc<Notify>) -> Self {
        Self { attempt, limit, patience, state: Mutex::default(), moved: Notify::new(), wake }
    }

    /// Takes output in, and waits while there is too much of it. Returns false when nobody wants it any more.
    pub(super) async fn push_output(
        &self,
        stream: OutputStream,
        bytes: &[u8],
        at: Timestamp,
        now: Monotonic,
    ) -> bool {
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.lock();
                if state.abandoned {
                    return false;
                }
                let fits = state.bytes + bytes.len() <= self.limit && state.entries.len() < MOST_EVENTS;
                if state.bytes == 0 || fits {
                    self.add_output(&mut state, stream, bytes, at, now);
                    break;
                }
            }
            moved.await;
        }
        self.wake.notify_one();
        true
    }

    /// Takes an event in that is to be sent at once.
    pub(super) fn push(&self, kind: Kind, at: Timestamp, now: Monotonic) {
        let mut state = self.lock();
        if !state.abandoned {
            self.add(&mut state, Content::Other(kind), at, now);
            state.urgent = true;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The next batch for the stream, if it is time for one.
    pub(super) fn take_batch(&self, now: Monotonic) -> Option<Vec<JobEvent>> {
        let mut state = self.lock();
        let unsent = state.entries.len() - state.sent;
        let next = state.entries.range(state.sent..).take(BATCH_EVENTS);
        let fresh: usize = next.map(|entry| entry.content.len()).sum();
        let is_due = state.waiting_since.is_some_and(|since| now.since(since) >= self.patience);
        let is_full = unsent >= BATCH_EVENTS || fresh >= BATCH_BYTES;
        if unsent == 0 || state.under_way >= BATCHES_UNDER_WAY || !(is_due || is_full || state.urgent) {
            return None;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let sent = state.sent;
        for entry in state.entries.range_mut(sent..).take(BATCH_EVENTS) {
            if bytes + entry.content.len() > BATCH_BYTES {
                break;
            }
            bytes += entry.content.len();
            batch.push(entry.message());
        }
        state.sent += batch.len();
        state.sealed = state.sealed.max(state.sent);
        state.under_way += 1;
        if state.sent == state.entries.len() {
            (state.waiting_since, state.urgent) = (None, false);
        }
        Some(batch)
    }

    /// When the next batch will be due, if nothing more comes.
    pub(super) fn due(&self) -> Option<Monotonic> {
        let state = self.lock();
        let may_send = state.under_way < BATCHES_UNDER_WAY;
        state.waiting_since.filter(|_| may_send).map(|since| since.plus(self.patience))
    }

    /// A batch is on the server's disk, up to this sequence.
    pub(super) fn acknowledge(&self, sequence: u64) {
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(1);
        while state.entries.front().is_some_and(|entry| entry.sequence <= sequence) {
            let bytes = state.entries.pop_front().map_or(0, |entry| entry.content.len());
            state.bytes = state.bytes.saturating_sub(bytes);
            state.sent = state.sent.saturating_sub(1);
            state.sealed = state.sealed.saturating_sub(1);
        }
        drop(state);
        self.moved.notify_waiters();
        self.wake.notify_one();
    }

    /// The stream is lost: everything that was not acknowledged is sent again on the next.
    pub(super) fn rewind(&self) {
        let mut state = self.lock();
        (state.sent, state.under_way) = (0, 0);
        state.urgent = !state.entries.is_empty();
    }

    /// Returns when everything was acknowledged, or is not wanted any more.
    pub(super) async fn settled(&self) {
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.lock();
                if state.abandoned || state.entries.is_empty() {
                    return;
                }
                state.urgent = true;
            }
            self.wake.notify_one();
            moved.await;
        }
    }

    /// The lease is lost: nothing more is sent, and nobody waits.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.entries.clear();
        (state.sent, state.sealed, state.under_way, state.bytes) = (0, 0, 0, 0);
        (state.waiting_since, state.urgent) = (None, false);
        drop(state);
        self.moved.notify_waiters();
    }

    /// The server refuses the events for good; the first reason counts.
    pub(super) fn fail(&self, why: &str) {
        self.lock().failure.get_or_insert_with(|| why.to_owned());
        self.abandon();
    }

    /// Why the server refused the events, where it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn add_output(
        &self,
        state: &mut State,
        stream: OutputStream,
        bytes: &[u8],
        at: Timestamp,
        now: Monotonic,
    ) {
        state.bytes += bytes.len();
        let is_open = state.entries.len() > state.sealed;
        if let Some(Entry { content: Content::Output(last, held), .. }) = state.entries.back_mut()
            && is_open
            && *last == stream
            && held.len() + bytes.len() <= EVENT_BYTES
        {
            held.extend_from_slice(bytes);
            return;
        }
        self.add(state, Content::Output(stream, bytes.into()), at, now);
    }

    fn add(&self, state: &mut State, content: Content, at: Timestamp, now: Monotonic) {
        state.numbered += 1;
        let sequence = Sequence::new(self.attempt, state.numbered).as_u64();
        state.entries.push_back(Entry { sequence, at, content });
        state.waiting_since.get_or_insert(now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// What it counts for in a batch, and in what is kept.
    fn len(&self) -> usize {
        match self {
            Self::Output(_, bytes) => bytes.len(),
            Self::Sealed(_, bytes) => bytes.len(),
            Self::Other(Kind::Note(note)) => note.message.len(),
            Self::Other(_) => 0,
        }
    }
}

impl Entry {
    /// What is sent: from here on it stays as it is.
    fn message(&mut self) -> JobEvent {
        let kind = match &mut self.content {
            Content::Output(stream, bytes) => {
                let (stream, data) = (*stream, std::mem::take(bytes).freeze());
                self.content = Content::Sealed(stream, data.clone());
                Kind::Output(Output { stream: stream as i32, data })
            }
            Content::Sealed(stream, data) => {
                Kind::Output(Output { stream: *stream as i32, data: data.clone() })
            }
            Content::Other(kind) => kind.clone(),
        };
        JobEvent { sequence: self.sequence, at: Some(timestamp(self.at)), kind: Some(kind) }
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.as_millis().rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: at.as_secs(), nanos: i32::try_from(nanos).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use airunner_proto::job::v1::Started;
    use futures_util::FutureExt as _;

    use super::*;

    const NOW: Monotonic = Monotonic::new(Duration::from_secs(100));

    fn outbox() -> Outbox {
        Outbox::new(2, 1_000_000, FLUSH_AFTER, Arc::default())
    }

    fn later() -> Monotonic {
        NOW.plus(FLUSH_AFTER)
    }

    async fn push(outbox: &Outbox, stream: OutputStream, bytes: &[u8]) -> bool {
        outbox.push_output(stream, bytes, Timestamp::default(), NOW).await
    }

    fn outputs(batch: &[JobEvent]) -> Vec<(u64, OutputStream, Vec<u8>)> {
        let output = |event: &JobEvent| match &event.kind {
            Some(Kind::Output(output)) => (event.sequence, output.stream(), output.data.to_vec()),
            other => panic!("{other:?}"),
        };
        batch.iter().map(output).collect()
    }

    #[tokio::test]
    async fn small_pieces_travel_together_after_a_while_and_keep_their_order() {
        let outbox = outbox();
        for piece in ["a", "b", "c"] {
            push(&outbox, OutputStream::Stdout, piece.as_bytes()).await;
        }
        push(&outbox, OutputStream::Stderr, b"!").await;
        push(&outbox, OutputStream::Stdout, b"d").await;
        assert_eq!(outbox.take_batch(NOW), None);
        assert_eq!(outbox.due(), Some(later()));
        let base = 2 << 40;
        assert_eq!(
            outputs(&outbox.take_batch(later()).unwrap()),
            [
                (base + 1, OutputStream::Stdout, b"abc".to_vec()),
                (base + 2, OutputStream::Stderr, b"!".to_vec()),
                (base + 3, OutputStream::Stdout, b"d".to_vec()),
            ]
        );
        assert_eq!(outbox.due(), None);
    }

    #[tokio::test]
    async fn what_was_sent_once_is_the_same_when_it_is_sent_again() {
        let outbox = outbox();
        push(&outbox, OutputStream::Stdout, b"a").await;
        let first = outbox.take_batch(later()).unwrap();
        push(&outbox, OutputStream::Stdout, b"b").await;
        outbox.rewind();
        let again = outbox.take_batch(NOW).unwrap();
        assert_eq!(again[..1], first);
        assert_eq!(outputs(&again[1..]), [((2 << 40) + 2, OutputStream::Stdout, b"b".to_vec())]);
        outbox.acknowledge(again[1].sequence);
        assert!(outbox.settled().now_or_never().is_some());
        outbox.rewind();
        assert_eq!(outbox.take_batch(later()), None);
    }

    #[tokio::test]
    async fn batches_stay_within_their_limits() {
        let outbox = outbox();
        for _ in 0..12 {
            push(&outbox, OutputStream::Stdout, &vec![0; 60_000]).await;
        }
        let sizes =
            || outbox.take_batch(NOW).map(|batch| outputs(&batch).iter().map(|o| o.2.len()).sum::<usize>());
        assert_eq!([sizes(), sizes(), sizes()], [Some(240_000), Some(240_000), None]);

        let outbox = self::outbox();
        for n in 0..120 {
            let stream = if n % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
            push(&outbox, stream, b"x").await;
        }
        let counts = || outbox.take_batch(NOW).map(|batch| batch.len());
        assert_eq!([counts(), counts(), counts()], [Some(50), Some(50), None]);
    }

    #[tokio::test]
    async fn a_start_is_told_at_once() {
        let outbox = outbox();
        outbox.push(Kind::Started(Started { process_id: 7 }), Timestamp::default(), NOW);
        assert_eq!(outbox.take_batch(NOW).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn too_much_output_waits_for_acknowledgement() {
        let outbox = Outbox::new(1, 100, FLUSH_AFTER, Arc::default());
        // One piece is taken whatever its size, or nothing ever would be.
        assert!(push(&outbox, OutputStream::Stdout, &[1; 500]).await);
        let mut waiting = Box::pin(push(&outbox, OutputStream::Stderr, &[2; 10]));
        assert!((&mut waiting).now_or_never().is_none());
        let batch = outbox.take_batch(later()).unwrap();
        outbox.acknowledge(batch[0].sequence);
        assert!(waiting.await);
    }

    #[tokio::test]
    async fn a_lost_lease_frees_everyone_who_waits() {
        let outbox = Outbox::new(1, 100, FLUSH_AFTER, Arc::default());
        push(&outbox, OutputStream::Stdout, &[1; 100]).await;
        let mut waiting = Box::pin(push(&outbox, OutputStream::Stderr, &[2; 10]));
        let mut settling = Box::pin(outbox.settled());
        assert!((&mut waiting).now_or_never().is_none());
        assert!((&mut settling).now_or_never().is_none());
        outbox.fail("no good");
        assert!(!waiting.await);
        settling.await;
        assert_eq!(outbox.failure().as_deref(), Some("no good"));
        assert_eq!(outbox.take_batch(later()), None);
    }
}
