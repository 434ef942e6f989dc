//! A job's events on their way to the server: numbered, kept until they are acknowledged, and bounded. Output is kept in
//! memory, and on disk once memory is full and the server acknowledges nothing. How events travel is `publisher`'s.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{Clock, Monotonic, Sequence, Timestamp};
use airunner_proto::job::v1::{OutputStream, job_event::Kind};
use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::{
    batch::{Batch, Content, Entry},
    spool::{Place, Spool},
};

/// Events of a batch at most.
const BATCH_EVENTS: usize = 50;
/// Bytes of a batch at most.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes of one output event, to which smaller pieces are put together.
const EVENT_BYTES: usize = 64 * 1024;
/// Bytes of a piece of output that is an event of its own, and not copied.
const WHOLE: usize = EVENT_BYTES / 2;
/// Events that may wait for their acknowledgement, however small; and one more for every so many bytes on disk.
const MOST_EVENTS: usize = 4_096;
const SPOOLED_EVENT_BYTES: u64 = 16 * 1024;
/// How long nothing is acknowledged before full memory is written to disk: a server that is merely slower than the job
/// holds it back, and is not made slower by a detour over the disk.
const STALLED_AFTER: Duration = Duration::from_millis(500);
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
    limits: Limits,
    patience: Duration,
    state: Mutex<State>,
    spool: Option<Spool>,
    /// Held while memory is written to disk.
    spilling: AsyncMutex<()>,
    /// Told when bytes were acknowledged, and when there is nothing more to wait for.
    moved: Notify,
    /// Told when there is something to send.
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Limits {
    /// Bytes of output in memory.
    memory: usize,
    events: usize,
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
    /// Bytes of output in memory.
    bytes: usize,
    /// Nothing was acknowledged while a job waited with its memory full.
    is_stalled: bool,
    /// When the oldest entry that was not sent came.
    waiting_since: Option<Monotonic>,
    urgent: bool,
    abandoned: bool,
    failure: Option<String>,
}

/// Whether output was taken in.
enum Offer {
    Taken,
    /// Nobody wants it any more.
    Unwanted,
    /// There is no room for it; whether there would be, were memory written to disk, and whether it is time for that.
    Full {
        may_spill: bool,
        is_stalled: bool,
    },
}

impl Outbox {
    /// For an attempt, keeping at most `memory` bytes of output, and what `spool` has room for. An event waits for
    /// `patience` for others to travel with; whenever there is something to send, `wake` is told.
    pub(super) fn new(
        attempt: u32,
        memory: usize,
        spool: Option<Spool>,
        patience: Duration,
        wake: Arc<Notify>,
    ) -> Self {
        let spooled = spool.as_ref().map_or(0, Spool::room) / SPOOLED_EVENT_BYTES;
        let events = MOST_EVENTS.saturating_add(usize::try_from(spooled).unwrap_or(usize::MAX));
        Self {
            attempt,
            limits: Limits { memory, events },
            patience,
            state: Mutex::default(),
            spool,
            spilling: AsyncMutex::default(),
            moved: Notify::new(),
            wake,
        }
    }

    /// Takes output in, and waits while there is too much of it. Returns false when nobody wants it any more.
    pub(super) async fn push_output(&self, stream: OutputStream, bytes: Bytes, clock: &dyn Clock) -> bool {
        loop {
            let mut moved = pin!(self.moved.notified());
            let (may_spill, is_stalled) = match self.offer(stream, &bytes, clock) {
                Offer::Taken => break,
                Offer::Unwanted => return false,
                Offer::Full { may_spill, is_stalled } => (may_spill, is_stalled),
            };
            if may_spill && !is_stalled {
                tokio::select! {
                    () = &mut moved => continue,
                    () = clock.sleep(STALLED_AFTER) => self.lock().is_stalled = true,
                }
            }
            if !(may_spill && self.spill().await) {
                moved.await;
            }
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
    pub(super) fn take_batch(&self, now: Monotonic) -> Option<Batch<'_>> {
        let mut state = self.lock();
        let unsent = state.entries.len() - state.sent;
        let next = state.entries.range(state.sent..).take(BATCH_EVENTS);
        let fresh: usize = next.map(|entry| entry.content.len()).sum();
        let is_due = state.waiting_since.is_some_and(|since| now.since(since) >= self.patience);
        let is_full = unsent >= BATCH_EVENTS || fresh >= BATCH_BYTES;
        if unsent == 0 || state.under_way >= BATCHES_UNDER_WAY || !(is_due || is_full || state.urgent) {
            return None;
        }
        let mut batch = Batch::new(self.spool.as_ref());
        let mut bytes = 0;
        let sent = state.sent;
        for entry in state.entries.range_mut(sent..).take(BATCH_EVENTS) {
            if bytes + entry.content.len() > BATCH_BYTES {
                break;
            }
            bytes += entry.content.len();
            batch.add(entry);
        }
        state.sent += batch.events.len();
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
        state.is_stalled = false;
        while state.entries.front().is_some_and(|entry| entry.sequence <= sequence)
            && let Some(entry) = state.entries.pop_front()
        {
            state.bytes -= entry.content.in_memory();
            if let (Content::Spooled(_, place), Some(spool)) = (&entry.content, &self.spool) {
                spool.free(*place);
            }
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

    fn offer(&self, stream: OutputStream, bytes: &Bytes, clock: &dyn Clock) -> Offer {
        let mut state = self.lock();
        if state.abandoned {
            return Offer::Unwanted;
        }
        let has_number = state.entries.len() < self.limits.events;
        let fits = state.bytes == 0 || state.bytes + bytes.len() <= self.limits.memory;
        if !(fits && has_number) {
            let may_spill = has_number && self.spool.is_some();
            return Offer::Full { may_spill, is_stalled: state.is_stalled };
        }
        self.add_output(&mut state, stream, bytes, clock.now(), clock.monotonic());
        Offer::Taken
    }

    /// Writes output that is in memory to disk, as much as there is room for. Returns whether there was any.
    async fn spill(&self) -> bool {
        let Some(spool) = &self.spool else { return false };
        let _one_at_a_time = self.spilling.lock().await;
        let (sequences, pieces) = self.in_memory(spool.room());
        if pieces.is_empty() {
            return false;
        }
        match spool.write(pieces).await {
            Ok(places) => self.spilled(&sequences, &places),
            Err(error) => {
                tracing::warn!(%error, "output can't be kept on disk: the job waits until the server takes it");
                return false;
            }
        }
        true
    }

    /// The first pieces of output in memory, of `room` bytes at most, with their sequences; they stay as they are.
    fn in_memory(&self, room: u64) -> (Vec<u64>, Vec<Bytes>) {
        let mut state = self.lock();
        let mut left = room;
        let mut found = (Vec::new(), Vec::new());
        for entry in &mut state.entries {
            let Some(bytes) = entry.content.seal() else { continue };
            let Some(rest) = left.checked_sub(bytes.len() as u64) else { break };
            left = rest;
            found.0.push(entry.sequence);
            found.1.push(bytes);
        }
        found
    }

    /// These are on disk, in these places. What was acknowledged meanwhile is not there any more.
    fn spilled(&self, sequences: &[u64], places: &[Place]) {
        let mut state = self.lock();
        let first = state.entries.front().map_or(u64::MAX, |entry| entry.sequence);
        for (sequence, place) in sequences.iter().zip(places) {
            let index = sequence.checked_sub(first).and_then(|index| usize::try_from(index).ok());
            let entry = index.and_then(|index| state.entries.get_mut(index));
            if let Some(Entry { content, .. }) = entry
                && let Content::Sealed(stream, _) = *content
            {
                *content = Content::Spooled(stream, *place);
                state.bytes -= place.len;
            }
        }
        // With the last all are gone, and nothing that is acknowledged later frees their places.
        if let (Some(last), Some(place), Some(spool)) = (sequences.last(), places.last(), &self.spool)
            && first > *last
        {
            spool.free(*place);
        }
    }

    fn add_output(
        &self,
        state: &mut State,
        stream: OutputStream,
        bytes: &Bytes,
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
        let content = if bytes.len() < WHOLE {
            Content::Output(stream, bytes[..].into())
        } else {
            Content::Sealed(stream, bytes.clone())
        };
        self.add(state, content, at, now);
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

#[cfg(test)]
mod tests {
    use airunner_proto::job::v1::{JobEvent, Started};
    use airunner_testkit::clock::FakeClock;
    use futures_util::FutureExt as _;

    use super::*;

    const NOW: Monotonic = Monotonic::new(Duration::ZERO);
    const BASE: u64 = 2 << 40;

    fn outbox() -> Outbox {
        bounded(1_000_000)
    }

    fn bounded(memory: usize) -> Outbox {
        Outbox::new(2, memory, None, FLUSH_AFTER, Arc::default())
    }

    fn later() -> Monotonic {
        NOW.plus(FLUSH_AFTER)
    }

    async fn push(outbox: &Outbox, stream: OutputStream, bytes: &[u8]) -> bool {
        outbox.push_output(stream, bytes.to_vec().into(), &FakeClock::new()).await
    }

    async fn batch(outbox: &Outbox, now: Monotonic) -> Option<Vec<JobEvent>> {
        Some(outbox.take_batch(now)?.load().await.unwrap())
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
        assert_eq!(batch(&outbox, NOW).await, None);
        assert_eq!(outbox.due(), Some(later()));
        assert_eq!(
            outputs(&batch(&outbox, later()).await.unwrap()),
            [
                (BASE + 1, OutputStream::Stdout, b"abc".to_vec()),
                (BASE + 2, OutputStream::Stderr, b"!".to_vec()),
                (BASE + 3, OutputStream::Stdout, b"d".to_vec()),
            ]
        );
        assert_eq!(outbox.due(), None);
    }

    #[tokio::test]
    async fn what_was_sent_once_is_the_same_when_it_is_sent_again() {
        let outbox = outbox();
        push(&outbox, OutputStream::Stdout, b"a").await;
        let first = batch(&outbox, later()).await.unwrap();
        push(&outbox, OutputStream::Stdout, b"b").await;
        outbox.rewind();
        let again = batch(&outbox, NOW).await.unwrap();
        assert_eq!(again[..1], first);
        assert_eq!(outputs(&again[1..]), [(BASE + 2, OutputStream::Stdout, b"b".to_vec())]);
        outbox.acknowledge(again[1].sequence);
        assert!(outbox.settled().now_or_never().is_some());
        outbox.rewind();
        assert_eq!(batch(&outbox, later()).await, None);
    }

    #[tokio::test]
    async fn batches_stay_within_their_limits() {
        let outbox = outbox();
        for _ in 0..12 {
            push(&outbox, OutputStream::Stdout, &vec![0; 60_000]).await;
        }
        let sizes =
            || outbox.take_batch(NOW).map(|batch| outputs(&batch.events).iter().map(|o| o.2.len()).sum());
        assert_eq!([sizes(), sizes(), sizes()], [Some(240_000_usize), Some(240_000), None]);

        let outbox = self::outbox();
        for n in 0..120 {
            let stream = if n % 2 == 0 { OutputStream::Stdout } else { OutputStream::Stderr };
            push(&outbox, stream, b"x").await;
        }
        let counts = || outbox.take_batch(NOW).map(|batch| batch.events.len());
        assert_eq!([counts(), counts(), counts()], [Some(50), Some(50), None]);
    }

    #[tokio::test]
    async fn a_start_is_told_at_once() {
        let outbox = outbox();
        outbox.push(Kind::Started(Started { process_id: 7 }), Timestamp::default(), NOW);
        assert_eq!(batch(&outbox, NOW).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn too_much_output_waits_for_acknowledgement() {
        let outbox = bounded(100);
        // One piece is taken whatever its size, or nothing ever would be.
        assert!(push(&outbox, OutputStream::Stdout, &[1; 500]).await);
        let mut waiting = Box::pin(push(&outbox, OutputStream::Stderr, &[2; 10]));
        assert!((&mut waiting).now_or_never().is_none());
        let first = batch(&outbox, later()).await.unwrap();
        outbox.acknowledge(first[0].sequence);
        assert!(waiting.await);
    }

    /// With room for 100 bytes in memory and 200 on disk.
    fn spooling(directory: &std::path::Path) -> Outbox {
        let spool = Spool::new(directory.to_owned(), 200);
        Outbox::new(2, 100, Some(spool), FLUSH_AFTER, Arc::default())
    }

    #[tokio::test]
    async fn output_goes_to_disk_while_nothing_is_acknowledged_and_comes_back_in_its_order() {
        let directory = tempfile::tempdir().unwrap();
        let (outbox, clock) = (spooling(directory.path()), FakeClock::new());
        let streams = [OutputStream::Stdout, OutputStream::Stderr];
        let pieces: Vec<_> =
            (0..31_u8).map(|n| (BASE + 1 + u64::from(n), streams[usize::from(n) % 2], vec![n; 10])).collect();
        let push = |n: usize| outbox.push_output(pieces[n].1, pieces[n].2.clone().into(), &clock);
        for n in 0..10 {
            assert!(push(n).await);
        }
        let stalled = async {
            clock.wait_for_sleepers(1).await;
            clock.advance(STALLED_AFTER);
        };
        assert!(tokio::join!(push(10), stalled).0);
        // It is known by now that the server takes nothing.
        for n in 11..30 {
            assert!(push(n).await);
        }
        let mut waiting = Box::pin(push(30));
        assert!((&mut waiting).now_or_never().is_none());

        let first = batch(&outbox, later()).await.unwrap();
        assert_eq!(outputs(&first), pieces[..30]);
        outbox.acknowledge(first[24].sequence);
        assert!(waiting.await);
        outbox.rewind();
        assert_eq!(outputs(&batch(&outbox, NOW).await.unwrap()), pieces[25..]);
        outbox.acknowledge(pieces[30].0);
        assert_eq!(outbox.spool.as_ref().unwrap().room(), 200);
    }

    #[tokio::test]
    async fn a_server_that_is_slower_than_the_job_holds_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let (outbox, clock) = (spooling(directory.path()), FakeClock::new());
        let push = |stream| outbox.push_output(stream, vec![0; 60].into(), &clock);
        assert!(push(OutputStream::Stdout).await);
        let mut waiting = Box::pin(push(OutputStream::Stderr));
        assert!((&mut waiting).now_or_never().is_none());
        clock.advance(STALLED_AFTER / 2);
        assert!((&mut waiting).now_or_never().is_none());
        let first = batch(&outbox, later()).await.unwrap();
        outbox.acknowledge(first[0].sequence);
        assert!(waiting.await);
        assert_eq!(outbox.spool.as_ref().unwrap().room(), 200);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_as_if_there_were_none() {
        let directory = tempfile::tempdir().unwrap();
        let (outbox, clock) = (spooling(&directory.path().join("missing")), FakeClock::new());
        let push = |stream| outbox.push_output(stream, vec![0; 60].into(), &clock);
        assert!(push(OutputStream::Stdout).await);
        let acknowledged = async {
            clock.wait_for_sleepers(1).await;
            clock.advance(STALLED_AFTER);
            let first = batch(&outbox, later()).await.unwrap();
            outbox.acknowledge(first[0].sequence);
        };
        assert!(tokio::join!(push(OutputStream::Stderr), acknowledged).0);
        let second = batch(&outbox, clock.monotonic().plus(FLUSH_AFTER)).await.unwrap();
        assert_eq!(outputs(&second), [(BASE + 2, OutputStream::Stderr, vec![0; 60])]);
    }

    #[tokio::test]
    async fn a_lost_lease_frees_everyone_who_waits() {
        let outbox = bounded(100);
        push(&outbox, OutputStream::Stdout, &[1; 100]).await;
        let mut waiting = Box::pin(push(&outbox, OutputStream::Stderr, &[2; 10]));
        let mut settling = Box::pin(outbox.settled());
        assert!((&mut waiting).now_or_never().is_none());
        assert!((&mut settling).now_or_never().is_none());
        outbox.fail("no good");
        assert!(!waiting.await);
        settling.await;
        assert_eq!(outbox.failure().as_deref(), Some("no good"));
        assert_eq!(batch(&outbox, later()).await, None);
    }
}
