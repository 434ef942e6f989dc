//! The line down: jobs as they are leased to this worker, and what is asked of those that it holds.

use std::{sync::Arc, time::Duration};

use airunner_client::{Backoff, Error, Result};
use airunner_core::TerminalSize;
use airunner_proto::job::v1::{Claim, DequeueJobsRequest, Terminal, dequeue_jobs_response::Message};

use super::{
    held::{Cancel, Control, Held},
    outbox::{FLUSH_AFTER, FLUSH_ECHO_AFTER, Outbox},
    shared::Shared,
    task,
};

/// The grace period where the server names none.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Keeps a line open until the worker is over: a new one after a loss, on a new connection after the identity was
/// exchanged, a narrower one when fewer jobs are to be held. Between two nothing is lost of the jobs that are held: a
/// line tells everything that still holds of those it is opened for, and repeats the claims of this worker that it is
/// not opened for.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut capacity = shared.capacity.subscribe();
    let mut changes = shared.client.identity_changes();
    let mut backoff = Backoff::default();
    for number in 1.. {
        let wanted = *capacity.borrow_and_update();
        let generation = *changes.borrow_and_update();
        let attended = tokio::select! {
            () = shared.over.cancelled() => return,
            _ = capacity.changed() => None,
            _ = changes.changed(), if wanted > 0 => None,
            attended = attend(&shared, number, wanted, &mut backoff) => Some(attended),
        };
        // The stream is gone by now.
        shared.in_force.send_replace(0);
        let Some(attended) = attended else { continue };
        let mut pause = backoff.next(&*shared.random);
        if let Err(error) = attended {
            if shared.is_refusal(&error, generation) {
                return;
            }
            tracing::warn!(%error, "the worker's line is lost; opening another");
            pause = pause.max(error.retry_after().unwrap_or_default());
        }
        tokio::select! {
            () = shared.over.cancelled() => return,
            () = shared.clock.sleep(pause) => {}
        }
    }
}

/// Opens a line for this many jobs and attends to it until it ends.
async fn attend(shared: &Arc<Shared>, number: u64, wanted: u32, backoff: &mut Backoff) -> Result<()> {
    if wanted == 0 {
        return std::future::pending().await;
    }
    let request = DequeueJobsRequest {
        queues: shared.options.queues.iter().map(ToString::to_string).collect(),
        max_jobs: wanted,
        visibility_timeout: Some(duration(shared.options.visibility)),
        task_tokens: shared.held().iter().map(|held| held.token.clone()).collect(),
        worker_id: shared.id.to_string(),
        labels: shared.options.labels.clone().into_iter().collect(),
        strict_order: shared.options.strict_order,
    };
    let mut line = shared.client.jobs().dequeue_jobs(request).await?.into_inner();
    while let Some(response) = line.message().await? {
        backoff.reset();
        shared.in_force.send_if_modified(|in_force| std::mem::replace(in_force, wanted) != wanted);
        match response.message {
            Some(Message::Drain(_)) => return Ok(()),
            Some(message) => heard(shared, number, message),
            None => {}
        }
    }
    Ok(())
}

fn heard(shared: &Arc<Shared>, number: u64, message: Message) {
    match message {
        Message::Claim(claim) => {
            if let Err(error) = claimed(shared, claim) {
                tracing::error!(?error, "a job was claimed that can't be read");
            }
        }
        Message::Cancel(cancel) => {
            let grace = cancel.grace.and_then(|grace| grace.try_into().ok()).unwrap_or(DEFAULT_GRACE);
            let signal = cancel.signal;
            with(shared, &cancel.job_id, cancel.attempt, |held| {
                held.cancel(number, Cancel { signal, grace });
            });
        }
        Message::Input(input) => {
            let piece = Control::Input { bytes: input.data, end: input.end };
            with(shared, &input.job_id, input.attempt, |held| held.input(number, piece));
        }
        Message::Resize(resize) => {
            if let Some(size) = resize.terminal.and_then(size) {
                let piece = Control::Resize(size);
                with(shared, &resize.job_id, resize.attempt, |held| held.input(number, piece));
            }
        }
        // It is told of every job that is over, those that we ended too.
        Message::LeaseLost(lost) => with(shared, &lost.job_id, lost.attempt, Held::lose),
        Message::Waiting(_) | Message::Drain(_) => {}
    }
}

fn with(shared: &Shared, job_id: &str, attempt: u32, tell: impl FnOnce(&Held)) {
    if let Some(held) = shared.find(job_id, attempt) {
        tell(&held);
    }
}

fn claimed(shared: &Arc<Shared>, mut claim: Claim) -> Result<()> {
    let job = claim.job.take().ok_or_else(|| unreadable("the job"))?;
    if shared.knows(&job.job_id, job.attempt) {
        tracing::warn!(
            job = job.job_id,
            attempt = job.attempt,
            "a lease came twice, and is not taken up again"
        );
        return Ok(());
    }
    let length = claim.visibility_timeout.and_then(|length| length.try_into().ok());
    let length = length.unwrap_or(shared.options.visibility);
    let now = shared.clock.monotonic();
    let patience = if job.terminal.is_some() { FLUSH_ECHO_AFTER } else { FLUSH_AFTER };
    let (memory, spool) = shared.output_room();
    let outbox = Outbox::new(job.attempt, memory, spool, patience, Arc::clone(&shared.wake));
    let name = (job.job_id.clone(), job.attempt, claim.task_token);
    let (held, controls) = Held::new(name, (length, now), outbox);
    tracing::info!(job = held.job_id, attempt = held.attempt, owner = job.owner, "took a job");
    shared.hold(&held);
    tokio::spawn(task::run(
        Arc::clone(shared),
        held,
        task::Work { job, environment: claim.environment },
        controls,
    ));
    Ok(())
}

/// None where the server says what no terminal can be.
pub(super) fn size(terminal: Terminal) -> Option<TerminalSize> {
    TerminalSize::new(terminal.rows, terminal.columns).ok()
}

fn unreadable(what: &str) -> Error {
    airunner_core::Error::internal(format!("the claim lacks {what}")).into()
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    // Ours are hours at most.
    prost_types::Duration::try_from(duration).unwrap_or_default()
}
