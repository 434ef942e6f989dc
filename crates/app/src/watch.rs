//! Following a job: from anywhere, every event once and in order, as fast as whoever follows takes them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use airunner_core::{
    Clock, ControlEvent, Error, Job, JobId, Label, Monotonic, OutputChunk, OutputStream, Result, Sequence,
    Timestamp,
};
use tokio::sync::Notify;

use crate::{
    authn::Caller,
    context::Context,
    event::PublishedEvent,
    job::{
        POLL,
        hub::{Interest, Subscription},
        recent::Since,
        wait,
    },
};

/// Control events read at a time.
const READ_EVENTS: u32 = 200;
/// Output read at a time, in bytes.
const READ_BYTES: usize = 1024 * 1024;
/// How often a watcher asks the store while the job's worker publishes through this server.
const SLOW_POLL: Duration = Duration::from_secs(2);

/// How long what is there may wait to be taken; within twice that all that was read for it is let go of.
const PATIENCE: Duration = Duration::from_mins(1);

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

impl WatchMessage {
    /// Up to where whoever took it has everything.
    fn sequence(&self) -> Option<Sequence> {
        match self {
            Self::Attached(sequence) | Self::Gap(sequence) => Some(*sequence),
            Self::Control(event) => Some(event.sequence),
            Self::Output(chunk) => Some(chunk.sequence),
            Self::Ended(_) => None,
        }
    }
}

/// One who follows a job. It reads from the store as fast as its messages are taken, so a slow one slows nobody and misses
/// nothing. One that takes nothing is told to resume, so that it costs nothing either.
pub struct Watcher {
    waiting: Arc<Mutex<Option<Waiting>>>,
    /// The last message that was taken.
    reached: Sequence,
}

/// A reader whose last message may not have been taken yet.
struct Waiting {
    reader: Reader,
    since: Monotonic,
}

impl Watcher {
    pub(crate) async fn open(
        context: &Arc<Context>,
        caller: &Caller,
        job: &Job,
        from: WatchFrom,
        filter: WatchFilter,
    ) -> Result<Self> {
        let notify = Arc::new(Notify::new());
        let subscription = Subscription::to_job(context, job.id, Interest::Events, &notify);
        let (after, since) = match from {
            WatchFrom::After(after) => (after, None),
            WatchFrom::Since(at) => (Sequence::default(), Some(at)),
            WatchFrom::Now => (last(context, job).await?, None),
        };
        let reader = Reader {
            context: context.clone(),
            caller: caller.clone(),
            job_id: job.id,
            after,
            since,
            gap: Sequence::default(),
            filter,
            outbox: VecDeque::from([WatchMessage::Attached(after)]),
            notify,
            ended: false,
            looked: None,
            _subscription: subscription,
        };
        let since = context.clock.monotonic();
        let waiting = Arc::new(Mutex::new(Some(Waiting { reader, since })));
        tokio::spawn(let_go(Arc::clone(&context.clock), Arc::downgrade(&waiting)));
        Ok(Self { waiting, reached: after })
    }

    /// The next message; waits until there is one. None after the end; then, and after an error, no other is asked for.
    ///
    /// # Errors
    /// The caller's denial; `slow-watcher` where the last message was not followed by this call for a minute or two;
    /// `store-unavailable` and the like.
    pub async fn next(&mut self) -> Result<Option<WatchMessage>> {
        let waiting = lock(&self.waiting).take();
        let Some(Waiting { mut reader, .. }) = waiting else { return Err(self.too_slow()) };
        let Some(message) = reader.next().await? else { return Ok(None) };
        self.reached = message.sequence().unwrap_or(self.reached);
        let since = reader.context.clock.monotonic();
        *lock(&self.waiting) = Some(Waiting { reader, since });
        Ok(Some(message))
    }

    fn too_slow(&self) -> Error {
        let message = format!(
            "nothing was taken for {} s: watch again from after sequence {}",
            PATIENCE.as_secs(),
            self.reached
        );
        Error::new(Label::SlowWatcher, message)
    }
}

/// Lets go of a reader that has waited for too long. It goes on for up to [`PATIENCE`] after its watcher, and must not keep the
/// stores open for that.
async fn let_go(clock: Arc<dyn Clock>, waiting: Weak<Mutex<Option<Waiting>>>) {
    loop {
        clock.sleep(PATIENCE).await;
        let Some(waiting) = waiting.upgrade() else { return };
        let now = clock.monotonic();
        if lock(&waiting).take_if(|waiting| now.since(waiting.since) >= PATIENCE).is_some() {
            return;
        }
    }
}

fn lock(waiting: &Mutex<Option<Waiting>>) -> MutexGuard<'_, Option<Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a watcher stands, and what of the job it has read and not handed on.
struct Reader {
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

impl Reader {
    async fn next(&mut self) -> Result<Option<WatchMessage>> {
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

/// The last place of the job so far.
async fn last(context: &Context, job: &Job) -> Result<Sequence> {
    if job.state.has_ended() {
        return Ok(Sequence::end_of(job.attempt));
    }
    let before = Sequence::end_of(job.attempt.saturating_sub(1));
    let control = context.stores.events.last_published(&job.id, job.attempt).await?;
    let output = context.stores.output.last_output(&job.id, job.attempt).await?;
    Ok(control.max(output).unwrap_or(before))
}
