//! The line up: batches of all jobs over one stream, each acknowledged in its turn.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use airunner_client::{Backoff, Error, Result};
use airunner_proto::job::v1::{PublishEventsRequest, PublishEventsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{held::Held, shared::Shared};

/// Batches of all jobs that are under way at a time.
const UNDER_WAY: usize = 32;

/// Publishes what the outboxes hold until the worker is over: over a new stream after a loss, and over a new connection
/// after the identity was exchanged. What was not acknowledged is sent again, and the server drops what it has.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.client.identity_changes();
    let mut backoff = Backoff::default();
    loop {
        let generation = *changes.borrow_and_update();
        let mut session = Session { shared: &shared, under_way: VecDeque::new() };
        let ended = tokio::select! {
            () = shared.over.cancelled() => return,
            _ = changes.changed() => Ok(()),
            ended = session.run(&mut backoff) => ended,
        };
        let suspect = session.under_way.pop_front();
        shared.held().iter().for_each(|held| held.outbox.rewind());
        let Err(error) = ended else { continue };
        if shared.is_refusal(&error, generation) {
            return;
        }
        if let Some(suspect) = suspect.filter(|_| !error.is_transient() && !error.is_denial()) {
            tracing::error!(?error, job = suspect.job_id, "the server does not take the job's events");
            suspect.break_off(error.message());
        }
        tracing::warn!(%error, "the stream of events is lost; opening another");
        let pause = backoff.next(&*shared.random).max(error.retry_after().unwrap_or_default());
        tokio::select! {
            () = shared.over.cancelled() => return,
            () = shared.clock.sleep(pause) => {}
        }
    }
}

/// One stream.
struct Session<'a> {
    shared: &'a Shared,
    /// Whose batches are under way, in order.
    under_way: VecDeque<Arc<Held>>,
}

impl Session<'_> {
    async fn run(&mut self, backoff: &mut Backoff) -> Result<()> {
        // As many as may be under way, so that sending never waits.
        let (batches, receiver) = mpsc::channel(UNDER_WAY);
        let answers = self.shared.client.events().publish_events(ReceiverStream::new(receiver)).await?;
        let mut answers = answers.into_inner();
        loop {
            let woken = self.shared.wake.notified();
            self.send(&batches).await;
            tokio::select! {
                answer = next(&mut answers) => {
                    backoff.reset();
                    self.answered(&answer?);
                }
                () = woken => {}
                () = self.due() => {}
            }
        }
    }

    async fn send(&mut self, batches: &mpsc::Sender<PublishEventsRequest>) {
        let now = self.shared.clock.monotonic();
        for held in self.shared.held() {
            while self.under_way.len() < UNDER_WAY
                && let Some(batch) = held.outbox.take_batch(now)
            {
                let events = match batch.load().await {
                    Ok(events) => events,
                    Err(error) => {
                        tracing::error!(job = held.job_id, %error, "output that was kept on disk can't be read");
                        held.break_off(&format!(
                            "it was kept on the worker's disk and can't be read: {error}"
                        ));
                        break;
                    }
                };
                let request = PublishEventsRequest { task_token: held.token.clone(), events };
                // It has room, and where its other end is gone the answers end too.
                let _gone = batches.try_send(request);
                self.under_way.push_back(Arc::clone(&held));
            }
        }
    }

    fn answered(&mut self, answer: &PublishEventsResponse) {
        // Answers come in the order of the batches.
        let Some(held) = self.under_way.pop_front() else { return };
        if answer.error_label.is_empty() {
            held.outbox.acknowledge(answer.sequence);
        } else {
            held.lose();
        }
    }

    /// Returns when the next batch is due.
    async fn due(&self) {
        let now = self.shared.clock.monotonic();
        let due = self.shared.held().iter().filter_map(|held| held.outbox.due()).min();
        match due.filter(|_| self.under_way.len() < UNDER_WAY) {
            Some(due) => self.shared.clock.sleep(due.since(now).max(Duration::from_millis(1))).await,
            None => std::future::pending().await,
        }
    }
}

async fn next(answers: &mut Streaming<PublishEventsResponse>) -> Result<PublishEventsResponse> {
    answers
        .message()
        .await?
        .ok_or_else(|| Error::new(airunner_core::Label::Unreachable, "the server ended the stream of events"))
}
