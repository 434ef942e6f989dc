//! Use cases of events and output: workers publish under their lease, watchers follow from wherever they like.

use std::sync::Arc;

use airunner_core::{
    ControlEvent, Error, EventKind, JobId, Label, OutputChunk, Permission, Publication, Result, Sequence,
};

use crate::{
    authn::Caller,
    authz::{Target, may},
    context::Context,
    watch::{WatchFilter, WatchFrom, Watcher},
};

/// Events in a batch at most.
pub const MAX_EVENTS: usize = 50;
/// Bytes in a batch at most.
pub const MAX_BYTES: usize = 256 * 1024;

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
        let job = self.context.stores.jobs.get_job(id).await?.ok_or_else(|| Error::not_found("job", id))?;
        caller.permit::<may::EventsStream>(Target::Job(&job)).map(drop)?;
        Watcher::open(&self.context, caller, &job, from, filter).await
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
