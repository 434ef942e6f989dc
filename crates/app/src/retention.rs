//! Lets jobs and output go that were kept for as long as the policy wants: a little at a time, so that nobody waits for
//! it, and from where it was. Whoever is stopped in the middle leaves nothing that the next does not find. That this
//! server is the one to do it is `housekeeping.rs`'s to see to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::{Fencing, JobControl, JobId, KeptOutput, Result, Timestamp};
use tokio::sync::Mutex;

use crate::context::{Context, RetentionPolicy};

/// Jobs that a step deletes at most: the store's writer is held for less than a millisecond.
const JOBS: u32 = 10;
/// Jobs whose output a step looks at.
const PAGE: u32 = 500;
/// Jobs whose output a step lets go at most: each time the disk is waited for.
const RELEASES: usize = 10;
/// How long nothing is looked for once nothing was due.
const REST: Duration = Duration::from_mins(1);
/// The longest that all output rests between two times that it is gone through, which asks the store for every job that is
/// kept.
const LONGEST_REST: Duration = Duration::from_hours(1);
/// Jobs that are remembered while output is gone through, those that ended first.
const REMEMBERED: usize = 10_000;
/// Output whose job is not known is let be for so long: whoever enqueues it may be about to.
const UNKNOWN: Duration = Duration::from_hours(1);

pub(crate) struct Retention {
    context: Arc<Context>,
    progress: Mutex<Progress>,
    is_behind: AtomicBool,
}

#[derive(Default)]
struct Progress {
    jobs_due: Timestamp,
    sweep_due: Timestamp,
    sweep: Sweep,
}

/// Going through all output there is.
#[derive(Default)]
struct Sweep {
    after: Option<JobId>,
    /// Whether everything was seen: what is over the total is what is left to do.
    is_read: bool,
    bytes: u64,
    /// Output that may go, by when its job ended.
    oldest: BTreeMap<(Timestamp, JobId), u64>,
}

impl Sweep {
    fn keep(&mut self, kept: KeptOutput, ended: Option<Timestamp>) {
        self.bytes += kept.bytes;
        if let Some(at) = ended.filter(|_| kept.bytes > 0) {
            self.oldest.insert((at, kept.job_id), kept.bytes);
            if self.oldest.len() > REMEMBERED {
                self.oldest.pop_last();
            }
        }
    }
}

impl Retention {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, progress: Mutex::default(), is_behind: AtomicBool::new(false) }
    }

    /// Whether the last step left something to do.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Relaxed)
    }

    /// Does a bounded part of what is due.
    ///
    /// # Errors
    /// `version-conflict` when another took housekeeping over meanwhile; `store-unavailable` and the like. Then the
    /// next step tries the same again.
    pub(crate) async fn step(&self, fencing: Fencing) -> Result<()> {
        let now = self.context.now();
        let mut progress = self.progress.lock().await;
        self.is_behind.store(false, Relaxed);
        let mut is_behind = false;
        if is_due(progress.jobs_due, now, REST) {
            if self.prune_jobs(now, fencing).await? {
                is_behind = true;
            } else {
                progress.jobs_due = now.plus(REST);
            }
        }
        let rest = sweep_rest(&self.context.settings.retention);
        if is_due(progress.sweep_due, now, rest) {
            if self.sweep(&mut progress.sweep, now).await? {
                is_behind = true;
            } else {
                progress.sweep = Sweep::default();
                progress.sweep_due = now.plus(rest);
            }
        }
        self.is_behind.store(is_behind, Relaxed);
        Ok(())
    }

    /// Deletes jobs first and what they printed after: what is left of it when that fails belongs to no job, and the
    /// next sweep finds it. Returns whether there may be more.
    async fn prune_jobs(&self, now: Timestamp, fencing: Fencing) -> Result<bool> {
        let policy = &self.context.settings.retention;
        let before = now.minus(policy.jobs).minus(policy.late);
        let pruned = self.context.stores.jobs.prune_jobs(before, JOBS, fencing).await?;
        self.context.counters.jobs_pruned.fetch_add(pruned.len() as u64, Relaxed);
        for id in &pruned {
            if let Err(error) = self.remove(id).await {
                tracing::warn!(?error, job = %id, "the output of a job that was deleted is removed later");
            }
        }
        Ok(pruned.len() == JOBS as usize)
    }

    /// Goes on through the output. Returns whether that is to go on.
    async fn sweep(&self, sweep: &mut Sweep, now: Timestamp) -> Result<bool> {
        if sweep.is_read {
            return self.keep_to_total(sweep).await;
        }
        let page = self.context.stores.output.kept_outputs(sweep.after, PAGE).await?;
        let ids: Vec<_> = page.iter().map(|kept| kept.job_id).collect();
        let controls = self.context.stores.jobs.job_controls(&ids).await?;
        let controls: BTreeMap<_, _> =
            controls.into_iter().map(|control| (control.job_id, control)).collect();
        let mut released = 0;
        for kept in &page {
            if released == RELEASES {
                return Ok(true);
            }
            released += usize::from(self.look_at(sweep, *kept, controls.get(&kept.job_id), now).await?);
            sweep.after = Some(kept.job_id);
        }
        sweep.is_read = page.len() < PAGE as usize;
        Ok(true)
    }

    /// Lets the output go if its time is over. Returns whether it went.
    async fn look_at(
        &self,
        sweep: &mut Sweep,
        kept: KeptOutput,
        job: Option<&JobControl>,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(job) = job else {
            let is_orphan = kept.job_id.made_at().plus(UNKNOWN) < now;
            if is_orphan {
                tracing::info!(job = %kept.job_id, bytes = kept.bytes, "output of no job is removed");
                self.remove(&kept.job_id).await?;
            }
            return Ok(is_orphan);
        };
        let before = now.minus(self.context.settings.retention.output);
        let is_over = kept.bytes > 0 && job.finished_at.is_some_and(|at| at < before);
        if is_over {
            self.release(&kept.job_id).await?;
        } else {
            sweep.keep(kept, job.finished_at);
        }
        Ok(is_over)
    }

    /// Lets the output go of those jobs that ended first, until all of it keeps to its total.
    async fn keep_to_total(&self, sweep: &mut Sweep) -> Result<bool> {
        let total = self.context.settings.retention.output_total.unwrap_or(u64::MAX);
        for _ in 0..RELEASES {
            let over = sweep.oldest.first_entry().filter(|_| sweep.bytes > total);
            let Some(oldest) = over else {
                self.context.counters.output_kept_bytes.store(sweep.bytes, Relaxed);
                return Ok(false);
            };
            let (_, job) = *oldest.key();
            self.release(&job).await?;
            sweep.bytes -= oldest.remove();
        }
        Ok(true)
    }

    async fn release(&self, job: &JobId) -> Result<()> {
        let bytes = self.context.stores.output.release_output(job).await?;
        self.context.counters.output_pruned_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    async fn remove(&self, job: &JobId) -> Result<()> {
        let bytes = self.context.stores.output.remove_output(job).await?;
        self.context.counters.output_pruned_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }
}

/// A time that is further ahead than anything is put off was that of a clock which was wrong.
fn is_due(at: Timestamp, now: Timestamp, rest: Duration) -> bool {
    now >= at || at.since(now) > rest
}

/// How long all output rests before it is gone through again: a total is kept to at once, an age with a small part of
/// itself to spare.
fn sweep_rest(policy: &RetentionPolicy) -> Duration {
    if policy.output_total.is_some() { REST } else { (policy.output / 24).clamp(REST, LONGEST_REST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_rests_for_a_small_part_of_the_time_that_it_is_kept() {
        let rest = |output, output_total| {
            sweep_rest(&RetentionPolicy { output, output_total, ..RetentionPolicy::default() })
        };
        assert_eq!(rest(RetentionPolicy::DEFAULT, None), Duration::from_hours(1));
        assert_eq!(rest(Duration::from_hours(2), None), Duration::from_mins(5));
        assert_eq!(rest(Duration::from_mins(1), None), Duration::from_mins(1));
        assert_eq!(rest(RetentionPolicy::DEFAULT, Some(1)), Duration::from_mins(1));
    }
}
