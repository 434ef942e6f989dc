//! Wake-ups within this process: who waits for a job to move or for a queue to fill. What really happened is read
//! from the store; a wake-up only says that it is worth looking.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::{Clock, Job, JobId, JobState, Monotonic, QueueName};
use dashmap::DashMap;
use tokio::sync::Notify;

type Waiters<K> = DashMap<K, HashMap<u64, Arc<Notify>>>;

/// Everyone in this process who waits for jobs.
#[derive(Debug, Default)]
pub struct JobHub {
    next: AtomicU64,
    jobs: Waiters<JobId>,
    queues: Waiters<QueueName>,
    published: DashMap<JobId, Monotonic>,
}

/// A place among the waiters; it is given up when this is dropped.
pub(crate) struct Subscription {
    hub: Arc<crate::context::Context>,
    id: u64,
    job: Option<JobId>,
    queues: Vec<QueueName>,
}

impl Subscription {
    /// Wakes `notify` whenever this job may have moved.
    pub(crate) fn to_job(context: &Arc<crate::context::Context>, job: JobId, notify: &Arc<Notify>) -> Self {
        let id = context.jobs.next.fetch_add(1, Relaxed);
        context.jobs.jobs.entry(job).or_default().insert(id, notify.clone());
        Self { hub: context.clone(), id, job: Some(job), queues: Vec::new() }
    }

    /// Wakes `notify` whenever one of these queues may have work.
    pub(crate) fn to_queues(
        context: &Arc<crate::context::Context>,
        queues: &[QueueName],
        notify: &Arc<Notify>,
    ) -> Self {
        let id = context.jobs.next.fetch_add(1, Relaxed);
        for queue in queues {
            context.jobs.queues.entry(queue.clone()).or_default().insert(id, notify.clone());
        }
        Self { hub: context.clone(), id, job: None, queues: queues.to_vec() }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let hub = &self.hub.jobs;
        if let Some(job) = &self.job {
            leave(&hub.jobs, job, self.id);
            if !hub.jobs.contains_key(job) {
                hub.published.remove(job);
            }
        }
        for queue in &self.queues {
            leave(&hub.queues, queue, self.id);
        }
    }
}

impl JobHub {
    /// The queues that workers wait for on this server.
    pub fn waiting_queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<_> = self.queues.iter().map(|entry| entry.key().clone()).collect();
        queues.sort();
        queues
    }

    /// A job moved.
    pub(crate) fn job_changed(&self, job: &Job) {
        wake(&self.jobs, &job.id);
        if job.state == JobState::Scheduled {
            wake(&self.queues, &job.queue);
        }
    }

    /// A job was published to, through this server.
    pub(crate) fn published(&self, job: &JobId, clock: &dyn Clock) {
        if self.jobs.contains_key(job) {
            self.published.insert(*job, clock.monotonic());
            wake(&self.jobs, job);
        }
    }

    /// Whether the job's worker publishes through this server, so that its watchers need not ask the store.
    pub(crate) fn is_published_here(&self, job: &JobId, clock: &dyn Clock) -> bool {
        let last = self.published.get(job).map(|at| *at);
        last.is_some_and(|at| clock.monotonic().since(at) < Duration::from_secs(1))
    }

    /// Every line has something to look at.
    pub(crate) fn wake_lines(&self) {
        for queue in &self.queues {
            queue.values().for_each(|line| line.notify_one());
        }
    }

    /// A queue has work.
    pub(crate) fn queue_filled(&self, queue: &QueueName) {
        wake(&self.queues, queue);
    }
}

fn wake<K: Eq + Hash>(waiters: &Waiters<K>, key: &K) {
    if let Some(entry) = waiters.get(key) {
        for notify in entry.values() {
            notify.notify_one();
        }
    }
}

fn leave<K: Eq + Hash>(waiters: &Waiters<K>, key: &K, id: u64) {
    if let Some(mut entry) = waiters.get_mut(key) {
        entry.remove(&id);
    }
    waiters.remove_if(key, |_, entry| entry.is_empty());
}
