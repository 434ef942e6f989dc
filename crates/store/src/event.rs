//! The intents on control events.

use airunner_core::{
    ControlEvent, Error, EventKind, EventStore, Intent, Job, JobId, Label, Publication, Result, Sequence,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    job::held,
    rows::Rows,
};

/// Events that one call writes or reads, at most.
const MAX_EVENTS: u32 = 1_000;

#[async_trait]
impl<E: Engine> EventStore for Ports<E> {
    async fn publish(&self, publication: Publication) -> Result<()> {
        if publication.events.is_empty() {
            return self.read(Intent::Publish, move |rows| holding(rows, &publication).map(drop)).await;
        }
        check(&publication)?;
        for events in publication.events.chunks(E::BATCH) {
            let part = Publication { events: events.to_vec(), ..publication.clone() };
            self.write(Intent::Publish, move |rows| publish(rows, &part)).await?;
        }
        Ok(())
    }

    async fn events_after(&self, job_id: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>> {
        let job_id = *job_id;
        self.read(Intent::EventsAfter, move |rows| rows.events_after(&job_id, after, limit.min(MAX_EVENTS)))
            .await
    }

    async fn last_published(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let job_id = *job_id;
        self.read(Intent::LastPublished, move |rows| rows.last_event(&job_id, attempt)).await
    }
}

fn check(publication: &Publication) -> Result<()> {
    if publication.events.len() > MAX_EVENTS as usize {
        return Err(Error::new(Label::TooLarge, format!("publish at most {MAX_EVENTS} events in one call")));
    }
    let is_own = |event: &ControlEvent| {
        event.sequence.attempt() == publication.attempt
            && (1..=Sequence::MAX_N).contains(&event.sequence.n())
            && !matches!(event.kind, EventKind::AttemptEnded { .. })
    };
    if !publication.events.iter().all(is_own) {
        return Err(Error::invalid("events", "an event is of the lease's attempt, and does not end it"));
    }
    if !publication.events.is_sorted_by_key(|event| event.sequence) {
        return Err(Error::invalid("events", "events are published in order of their sequence"));
    }
    Ok(())
}

fn holding(rows: &dyn Rows, publication: &Publication) -> Result<Job> {
    held(rows, &publication.holder, publication.job_id, publication.attempt, publication.now)
}

fn publish(rows: &mut dyn Rows, publication: &Publication) -> Result<()> {
    let mut job = holding(rows, publication)?;
    let mut started = false;
    for event in &publication.events {
        if let EventKind::Started { process_id } = event.kind {
            job.process_id = Some(process_id);
            job.started_at = Some(event.at);
            started = true;
        }
    }
    if started {
        rows.update_job(&job)?;
    }
    publication.events.iter().try_for_each(|event| rows.insert_event(&job.id, event))
}
