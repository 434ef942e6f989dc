//! Leases: extended at a third of their length, and given up when they run out.

use std::{sync::Arc, time::Duration};

use airunner_client::Error;
use airunner_proto::job::v1::ExtendLeaseRequest;
use tonic::Request;

use super::{held::Held, line::duration, shared::Shared};

/// How often the leases are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Leases in one request.
const BATCH: usize = 64;

/// Extends the leases of all held jobs until the worker is over.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.over.cancelled() => return,
            () = shared.clock.sleep(LOOK) => {}
        }
        let now = shared.clock.monotonic();
        for held in shared.held().iter().filter(|held| held.is_over(now)) {
            // The server gives it to another soon, whatever it would say to us now.
            tracing::warn!(job = held.job_id, "the lease ran out before it could be extended");
            held.lose();
        }
        let due: Vec<_> =
            shared.held().into_iter().filter(|held| !held.lost.is_cancelled() && held.is_due(now)).collect();
        for batch in due.chunks(BATCH) {
            extend(&shared, batch).await;
        }
    }
}

async fn extend(shared: &Shared, batch: &[Arc<Held>]) {
    let visibility = shared.options.visibility;
    let mut request = Request::new(ExtendLeaseRequest {
        task_tokens: batch.iter().map(|held| held.token.clone()).collect(),
        visibility_timeout: Some(duration(visibility)),
    });
    // One that is not answered must leave time for another.
    request.set_timeout(visibility / 4);
    let generation = *shared.client.identity_changes().borrow();
    let since = shared.clock.monotonic();
    match shared.client.jobs().extend_lease(request).await {
        Ok(answer) => {
            for (held, result) in batch.iter().zip(answer.into_inner().results) {
                if result.error_label.is_empty() {
                    held.extended(since);
                } else {
                    held.lose();
                }
            }
        }
        Err(status) => {
            let error = Error::from(status);
            if !shared.is_refusal(&error, generation) {
                tracing::warn!(%error, "leases can't be extended; trying again");
            }
        }
    }
}
