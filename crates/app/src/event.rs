//! Use cases of events and output: workers publish under their lease, watchers follow from wherever they like.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use airunner_core::{
    ControlEvent, Error, EventKind, Job, JobId, Label, Monotonic, OutputChunk, OutputStream, Permission,
    Publication, Result, Sequence, Timestamp,
};
use tokio::sync::Notify;

use crate::{
    authn::Caller,
    authz::{Target, may},
    context::Context,
    job::{
        POLL,
        hub::{Interest, Subscription},
        recent::Since,
        wait,
    },
};

/// Events in a batch at most.
pub const MAX_EVENTS: usize = 50;
/// Bytes in a batch at most.
pub const MAX_BYTES: usize = 256 * 1024;
/// Control events read at a time.
const READ_EVENTS: u32 = 200;
/// Output read at a time, in bytes.
const READ_BYTES: usize = 1024 * 1024;
/// How often a watcher asks the store while the job's worker publishes through this server.
const SLOW_POLL: Duration = Duration::from_secs(2);

/// Events and output.
pub struct Events {
    context: Arc<Context>,
}

/// What a worker publishes.
#[derive(Clone, Debug)]
pub enum PublishedEvent {
    /// A control event.
    Control(ControlEvent),
    /// Output.
    Output(OutputChunk),
}

impl PublishedEvent {
    /// Its place.
    pub(crate) fn sequence(&self) -> Sequence {
        match self {
            Self::Control(event) => event.sequence,
            Self::Output(chunk) => chunk.sequence,
        }
    }

    /// Bytes that it counts for.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Output(chunk) => chunk.bytes.len(),
            Self::Control(ControlEvent { kind: EventKind::Note { message }, .. }) => message.len(),
            Self::Control(_) => 0,
        }
    }
}

/// From where a watcher starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// After this place; the default is the start.
    After(Sequence),
    /// From this time on.
    Since(Timestamp),
    /// Only what happens from now on.
    Now,
}

/// Which events a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchFilter {
    /// Control events.
    pub control: bool,
    /// Output, of this stream or of both.
    pub output: Option<Option<OutputStream>>,
    /// Go on until the job ends; else end when everything that is there was read.
    pub follow: bool,
}

/// What a watcher gets.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// The watch is in force and starts after this place.
    Attached(Sequence),
    /// A control event.
    Control(ControlEvent),
    /// Output.
    Output(OutputChunk),
    /// Output up to here is gone: the job printed more than is kept, or it was kept for long enough.
    Gap(Sequence),
    /// The job has ended, and everything of it was read.
    Ended(Box<Job>),
}

impl Events {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Publishes batches of the job that the token names, in order; everything up to the answer is on disk, and the
    /// disk is waited for once for what follows one upon the other. Events that are there already are dropped, so a
    /// batch may be sent again. The last place of each batch.
    ///
    /// # Errors
    /// `lease-lost`; `too-large` and `invalid-argument` for a bad batch.
    pub async fn publish(
        &self,
        caller: &Caller,
        task_token: &str,
        batches: Vec<Vec<PublishedEvent>>,
    ) -> Result<(JobId, Vec<Sequence>)> {
        caller.permit::<may::EventsPublish>(Target::Any).map(drop)?;
        let (job_id, attempt) = self.context.task_tokens.read(task_token)?;
        batches.iter().try_for_each(|batch| check_batch(batch, attempt))?;
        let last = |batch: &Vec<_>| batch.last().map_or(Sequence::default(), PublishedEvent::sequence);
        let places = batches.iter().map(last).collect();
        let mut run: Vec<PublishedEvent> = Vec::new();
        for batch in batches {
            let follows = |next: &PublishedEvent| last(&run) < next.sequence();
            if !batch.first().is_none_or(follows) {
                // One that is sent again is no part of what came before it.
                self.publish_run(caller, job_id, attempt, std::mem::take(&mut run)).await?;
            }
            run.extend(batch);
        }
        self.publish_run(caller, job_id, attempt, run).await?;
        Ok((job_id, places))
    }

    /// Publishes events in order.
    async fn publish_run(
        &self,
        caller: &Caller,
        job_id: JobId,
        attempt: u32,
        events: Vec<PublishedEvent>,
    ) -> Result<()> {
        let told = if self.context.jobs.is_watched(&job_id) { events.clone() } else { Vec::new() };
        // Runs of one kind, in order: whoever sees an event can also see everything before it.
        let mut control = Vec::new();
        let mut output = Vec::new();
        self.record(caller, job_id, attempt, Vec::new()).await?;
        for event in events {
            match event {
                PublishedEvent::Control(event) => {
                    self.append(&job_id, std::mem::take(&mut output)).await?;
                    control.push(event);
                }
                PublishedEvent::Output(chunk) => {
                    if !control.is_empty() {
                        self.record(caller, job_id, attempt, std::mem::take(&mut control)).await?;
                    }
                    output.push(chunk);
                }
            }
        }
        self.append(&job_id, output).await?;
        if !control.is_empty() {
            self.record(caller, job_id, attempt, control).await?;
        }
        self.context.jobs.published(&job_id, told, &*self.context.clock);
        Ok(())
    }

    /// Follows a job.
    ///
    /// # Errors
    /// `not-found`, `not-owner`.
    pub async fn watch(
        &self,
        caller: &Caller,
        id: &JobId,
        from: WatchFrom,
        filter: WatchFilter,
    ) -> Result<Watcher> {
        caller.require(Permission::EventsStream)?;
        let stores = &self.context.stores;
        let job = stores.jobs.get_job(id).await?.ok_or_else(|| Error::not_found("job", id))?;
        caller.permit::<may::EventsStream>(Target::Job(&job)).map(drop)?;
        let notify = Arc::new(Notify::new());
        let subscription = Subscription::to_job(&self.context, *id, Interest::Events, &notify);
        let (after, since) = match from {
            WatchFrom::After(after) => (after, None),
            WatchFrom::Since(at) => (Sequence::default(), Some(at)),
            WatchFrom::Now => (self.last(&job).await?, None),
        };
        Ok(Watcher {
            context: self.context.clone(),
            caller: caller.clone(),
            job_id: *id,
            after,
            since,
            gap: Sequence::default(),
            filter,
            outbox: VecDeque::from([WatchMessage::Attached(after)]),
            notify,
            ended: false,
            looked: None,
            _subscription: subscription,
        })
    }

    async fn last(&self, job: &Job) -> Result<Sequence> {
        if job.state.has_ended() {
            return Ok(Sequence::end_of(job.attempt));
        }
        let before = Sequence::end_of(job.attempt.saturating_sub(1));
        let control = self.context.stores.events.last_published(&job.id, job.attempt).await?;
        let output = self.context.stores.output.last_output(&job.id, job.attempt).await?;
        Ok(control.max(output).unwrap_or(before))
    }

    async fn record(
        &self,
        caller: &Caller,
        job_id: JobId,
        attempt: u32,
        events: Vec<ControlEvent>,
    ) -> Result<()> {
        let started = events.iter().any(|event| matches!(event.kind, EventKind::Started { .. }));
        let holder = caller.principal_id().clone();
        let publication = Publication { job_id, attempt, holder, now: self.context.now(), events };
        self.context.stores.events.publish(publication).await?;
        if started {
            self.context.jobs.published(&job_id, Vec::new(), &*self.context.clock);
        }
        Ok(())
    }

    async fn append(&self, job_id: &JobId, chunks: Vec<OutputChunk>) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.context.stores.output.append_output(job_id, &chunks).await
    }
}

/// One who follows a job. It reads from the store as fast as its own reader takes it, so a slow one costs no memory
/// and slows nobody, and misses nothing.
pub struct Watcher {
    context: Arc<Context>,
    caller: Caller,
    job_id: JobId,
    after: Sequence,
    since: Option<Timestamp>,
    /// Up to where the reader was told that output is gone.
    gap: Sequence,
    filter: WatchFilter,
    outbox: VecDeque<WatchMessage>,
    notify: Arc<Notify>,
    ended: bool,
    /// When the store was last asked, and how often the job had moved by then.
    looked: Option<(Monotonic, u64)>,
    _subscription: Subscription,
}

impl Watcher {
    /// The next message; waits until there is one. None after the end.
    ///
    /// # Errors
    /// The caller's denial; `store-unavailable` and the like.
    pub async fn next(&mut self) -> Result<Option<WatchMessage>> {
        loop {
            self.caller.check(self.context.now())?;
            if let Some(message) = self.outbox.pop_front() {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            if self.follow_recent().await {
                continue;
            }
            let moves = self.context.jobs.moves(&self.job_id);
            let now = self.context.clock.monotonic();
            // Read before the events are: if it says that the job has ended, the events that follow are all.
            let job = self.context.stores.jobs.get_job(&self.job_id).await?;
            let job = job.ok_or_else(|| Error::not_found("job", self.job_id))?;
            // Of one that has ended the store knows all.
            self.looked = (!job.state.has_ended()).then_some((now, moves));
            if self.read().await? {
                continue;
            }
            if job.state.has_ended() {
                self.ended = true;
                self.outbox.push_back(WatchMessage::Ended(Box::new(job)));
            } else if self.filter.follow {
                let pause = if self.is_published_here() { SLOW_POLL } else { POLL };
                wait(&self.context, &self.notify, pause).await;
            } else {
                self.ended = true;
            }
        }
    }

    /// Goes on with what was published through this server just now, or waits for more of it, without asking the store.
    /// Returns false where only the store knows, and every now and then.
    async fn follow_recent(&mut self) -> bool {
        let Some((looked_at, moves)) = self.looked else { return false };
        let left = SLOW_POLL.saturating_sub(self.context.clock.monotonic().since(looked_at));
        if left.is_zero() || self.context.jobs.moves(&self.job_id) != moves {
            return false;
        }
        match self.context.jobs.recent_since(&self.job_id, self.after) {
            Since::Events(events) => self.deliver(events.into_iter().map(|event| match event {
                PublishedEvent::Control(event) => (event.sequence, event.at, WatchMessage::Control(event)),
                PublishedEvent::Output(chunk) => (chunk.sequence, chunk.at, WatchMessage::Output(chunk)),
            })),
            Since::Nothing if self.filter.follow && self.is_published_here() => {
                wait(&self.context, &self.notify, left).await;
                true
            }
            Since::Nothing | Since::Unknown => false,
        }
    }

    /// Whether the job's worker publishes through this server, as it may cease to at any time.
    fn is_published_here(&self) -> bool {
        self.context.jobs.is_published_here(&self.job_id, &*self.context.clock)
    }

    /// Reads on. Returns whether there was anything, wanted or not.
    ///
    /// Output and control events are kept apart, and each becomes visible only after everything before it. So output
    /// is complete up to the last event of a read that came before it, and events are complete up to the last output
    /// of a read that came before them.
    async fn read(&mut self) -> Result<bool> {
        let stores = &self.context.stores;
        let mut events = stores.events.events_after(&self.job_id, self.after, READ_EVENTS).await?;
        let output = stores.output.output_after(&self.job_id, self.after, READ_BYTES).await?;
        if let Some(last) = output.chunks.last().map(|chunk| chunk.sequence) {
            events = stores.events.events_after(&self.job_id, self.after, READ_EVENTS).await?;
            if events.len() < READ_EVENTS as usize {
                events.retain(|event| event.sequence < last);
            }
        }
        let is_news = |until: &Sequence| self.filter.output.is_some() && *until > self.gap;
        if let Some(until) = output.lost_until.filter(is_news) {
            self.gap = until;
            self.outbox.push_back(WatchMessage::Gap(until));
        }
        Ok(self.merge(events, output.chunks, READ_EVENTS as usize))
    }

    fn merge(&mut self, events: Vec<ControlEvent>, chunks: Vec<OutputChunk>, full: usize) -> bool {
        // A page of events that is full may end before the last chunk: what lies beyond waits for the next read.
        let bound = if events.len() >= full { events.last().map(|event| event.sequence) } else { None };
        let mut merged: Vec<_> = events
            .into_iter()
            .map(|event| (event.sequence, event.at, WatchMessage::Control(event)))
            .chain(chunks.into_iter().map(|chunk| (chunk.sequence, chunk.at, WatchMessage::Output(chunk))))
            .filter(|(sequence, ..)| bound.is_none_or(|bound| *sequence <= bound))
            .collect();
        merged.sort_by_key(|(sequence, ..)| *sequence);
        self.deliver(merged.into_iter())
    }

    /// Hands on what is wanted of these, which are in order. Returns whether there was anything, wanted or not.
    fn deliver(&mut self, messages: impl Iterator<Item = (Sequence, Timestamp, WatchMessage)>) -> bool {
        let mut any = false;
        for (sequence, at, message) in messages {
            if self.wants(&message) && self.since.is_none_or(|since| at >= since) {
                self.outbox.push_back(message);
            }
            self.after = sequence;
            any = true;
        }
        any
    }

    fn wants(&self, message: &WatchMessage) -> bool {
        match message {
            WatchMessage::Control(_) => self.filter.control,
            WatchMessage::Output(chunk) => {
                self.filter.output.is_some_and(|stream| stream.is_none_or(|stream| stream == chunk.stream))
            }
            WatchMessage::Attached(_) | WatchMessage::Gap(_) | WatchMessage::Ended(_) => true,
        }
    }
}

fn check_batch(events: &[PublishedEvent], attempt: u32) -> Result<()> {
    if events.len() > MAX_EVENTS {
        return Err(Error::invalid("events", format!("a batch is at most {MAX_EVENTS} events")));
    }
    if events.iter().map(PublishedEvent::len).sum::<usize>() > MAX_BYTES {
        return Err(Error::new(Label::TooLarge, "a batch is at most 256 KiB").with_field("events"));
    }
    let sequences: Vec<_> = events.iter().map(PublishedEvent::sequence).collect();
    let in_lease =
        |sequence: &Sequence| sequence.attempt() == attempt && (1..=Sequence::MAX_N).contains(&sequence.n());
    if !sequences.iter().all(in_lease) || !sequences.is_sorted_by(|a, b| a < b) {
        return Err(Error::invalid(
            "events.sequence",
            "events are numbered from 1 within their lease, in order",
        ));
    }
    let ends = |event: &PublishedEvent| {
        matches!(event, PublishedEvent::Control(ControlEvent { kind: EventKind::AttemptEnded { .. }, .. }))
    };
    if events.iter().any(ends) {
        return Err(Error::invalid("events.kind", "the end of an attempt is told with CompleteJobs"));
    }
    Ok(())
}
