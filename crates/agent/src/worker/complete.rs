//! The end of a lease, told until the server has heard it.

use airunner_client::{Backoff, Error};
use airunner_proto::job::v1::{CompleteJobsRequest, Completion, Usage, completion::Outcome};

use super::{held::Held, shared::Shared};

/// Tells how the job ended, and what it used. Tries until the server has answered, or the lease is lost; returns whether
/// it has answered, so that the lease is over for it too.
pub(super) async fn complete(shared: &Shared, held: &Held, outcome: Outcome, usage: Option<Usage>) -> bool {
    let completion = Completion { task_token: held.token.clone(), outcome: Some(outcome), usage };
    let mut backoff = Backoff::default();
    while !held.lost.is_cancelled() {
        let request = CompleteJobsRequest { completions: vec![completion.clone()] };
        let generation = *shared.client.identity_changes().borrow();
        let error = match shared.client.jobs().complete_jobs(request).await {
            Ok(answer) => {
                let label = answer.into_inner().results.into_iter().next().map(|result| result.error_label);
                tracing::info!(job = held.job_id, attempt = held.attempt, label, "told how the job ended");
                return true;
            }
            Err(status) => Error::from(status),
        };
        if shared.is_refusal(&error, generation) {
            return false;
        }
        if !error.is_transient() && !error.is_denial() {
            tracing::error!(?error, job = held.job_id, "the server does not take the job's end");
            return false;
        }
        tracing::warn!(%error, job = held.job_id, "the job's end can't be told; trying again");
        let pause = backoff.next(&*shared.random).max(error.retry_after().unwrap_or_default());
        tokio::select! {
            () = held.lost.cancelled() => {}
            () = shared.clock.sleep(pause) => {}
        }
    }
    false
}
