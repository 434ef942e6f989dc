//! Wake-ups within this process: who waits for a job to move or for a queue to fill. What really happened is read
//! from the store; a wake-up only says that it is worth looking. What was published last to a job that is watched is held
//! here too (`recent.rs`), so that a thousand watchers ask the store no more than one.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::{
    Clock, Job, JobId, JobState, Labels, Monotonic, NextJob, QueueName, Sequence, ServedQueue, Timestamp,
    holds_all,
};
use dashmap::DashMap;
use tokio::sync::Notify;

use super::recent::{Recent, Since};
use crate::event::PublishedEvent;

type Waiters<K, W> = DashMap<K, HashMap<u64, W>>;

/// Different kinds of workers that are told apart in what other servers are told: more would make a row of each heartbeat
/// that is too long.
const MAX_SERVED: usize = 200;

/// Everyone in this process who waits for jobs.
#[derive(Debug, Default)]
pub struct JobHub {
    next: AtomicU64,
    jobs: DashMap<JobId, Watched>,
    queues: Waiters<QueueName, Taker>,
}

/// What someone wants to know of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That it moved: it ended, is to be stopped, was given input.
    Moves,
    /// Also that something was published.
    Events,
}

/// A job that someone waits for.
#[derive(Debug, Default)]
struct Watched {
    waiters: HashMap<u64, (Interest, Arc<Notify>)>,
    /// How often it moved.
    moves: u64,
    published_at: Option<Monotonic>,
    recent: Recent,
}

impl Watched {
    fn wake(&self, interest: Interest) {
        for (_, notify) in
            self.waiters.values().filter(|(wants, _)| interest == Interest::Moves || *wants == interest)
        {
            notify.notify_one();
        }
    }

    fn has_watchers(&self) -> bool {
        self.waiters.values().any(|(wants, _)| *wants == Interest::Events)
    }
}

/// Who waits for jobs of a queue.
#[derive(Debug)]
struct Taker {
    labels: Arc<Labels>,
    notify: Arc<Notify>,
}

/// A place among the waiters; it is given up when this is dropped.
pub(crate) struct Subscription {
    hub: Arc<crate::context::Context>,
    id: u64,
    job: Option<JobId>,
    queues: Vec<QueueName>,
}

impl Subscription {
    /// Wakes `notify` whenever there may be news of this job.
    pub(crate) fn to_job(
        context: &Arc<crate::context::Context>,
        job: JobId,
        interest: Interest,
        notify: &Arc<Notify>,
    ) -> Self {
        let id = context.jobs.next.fetch_add(1, Relaxed);
        context.jobs.jobs.entry(job).or_default().waiters.insert(id, (interest, notify.clone()));
        Self { hub: context.clone(), id, job: Some(job), queues: Vec::new() }
    }

    /// Wakes `notify` whenever one of these queues may have work for a worker of these labels.
    pub(crate) fn to_queues(
        context: &Arc<crate::context::Context>,
        queues: &[QueueName],
        labels: &Arc<Labels>,
        notify: &Arc<Notify>,
    ) -> Self {
        let id = context.jobs.next.fetch_add(1, Relaxed);
        for queue in queues {
            let taker = Taker { labels: labels.clone(), notify: notify.clone() };
            context.jobs.queues.entry(queue.clone()).or_default().insert(id, taker);
        }
        Self { hub: context.clone(), id, job: None, queues: queues.to_vec() }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let hub = &self.hub.jobs;
        if let Some(job) = &self.job {
            if let Some(mut watched) = hub.jobs.get_mut(job) {
                watched.waiters.remove(&self.id);
                if !watched.has_watchers() {
                    watched.recent = Recent::default();
                }
            }
            hub.jobs.remove_if(job, |_, watched| watched.waiters.is_empty());
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

    /// The same, apart by what those workers are; where they are too many kinds, with no labels in their place.
    pub(crate) fn served_queues(&self) -> Vec<ServedQueue> {
        let mut served = BTreeSet::new();
        for entry in &self.queues {
            for taker in entry.values() {
                let labels = Some(Labels::clone(&taker.labels));
                served.insert(ServedQueue { queue: entry.key().clone(), labels });
                if served.len() > MAX_SERVED {
                    let any = |queue| ServedQueue { queue, labels: None };
                    return self.waiting_queues().into_iter().map(any).collect();
                }
            }
        }
        served.into_iter().collect()
    }

    /// Whether a worker waits on this server that may be given jobs of this queue that require this.
    pub(crate) fn has_taker(&self, queue: &QueueName, requires: &Labels) -> bool {
        let takers = self.queues.get(queue);
        takers.is_some_and(|takers| takers.values().any(|taker| holds_all(&taker.labels, requires)))
    }

    /// A job moved.
    pub(crate) fn job_changed(&self, job: &Job) {
        if let Some(mut watched) = self.jobs.get_mut(&job.id) {
            watched.moves += 1;
            watched.wake(Interest::Moves);
        }
        if job.state == JobState::Scheduled {
            self.queue_filled(&job.queue, &job.spec.requires);
        }
    }

    /// Whether anyone on this server wants to know what is published to the job.
    pub(crate) fn is_watched(&self, job: &JobId) -> bool {
        self.jobs.get(job).is_some_and(|watched| watched.has_watchers())
    }

    /// A job was published to, through this server: these events are in the store, as far as they were told.
    pub(crate) fn published(&self, job: &JobId, events: Vec<PublishedEvent>, clock: &dyn Clock) {
        if let Some(mut watched) = self.jobs.get_mut(job).filter(|watched| watched.has_watchers()) {
            watched.published_at = Some(clock.monotonic());
            watched.recent.add(events);
            watched.wake(Interest::Events);
        }
    }

    /// Whether the job's worker publishes through this server, so that its watchers need not ask the store.
    pub(crate) fn is_published_here(&self, job: &JobId, clock: &dyn Clock) -> bool {
        let last = self.jobs.get(job).and_then(|watched| watched.published_at);
        last.is_some_and(|at| clock.monotonic().since(at) < Duration::from_secs(1))
    }

    /// How often the job has moved while someone waited for it. Whoever reads it before the store knows by it whether
    /// what the store said may have changed since.
    pub(crate) fn moves(&self, job: &JobId) -> u64 {
        self.jobs.get(job).map_or(0, |watched| watched.moves)
    }

    /// What was published to the job right after `after`, as far as that is known here.
    pub(crate) fn recent_since(&self, job: &JobId, after: Sequence) -> Since {
        self.jobs.get(job).map_or(Since::Unknown, |watched| watched.recent.since(after))
    }

    /// Every line has something to look at.
    pub(crate) fn wake_lines(&self) {
        for queue in &self.queues {
            queue.values().for_each(|taker| taker.notify.notify_one());
        }
    }

    /// A queue has work that requires this of its worker.
    pub(crate) fn queue_filled(&self, queue: &QueueName, requires: &Labels) {
        if let Some(takers) = self.queues.get(queue) {
            for taker in takers.values().filter(|taker| holds_all(&taker.labels, requires)) {
                taker.notify.notify_one();
            }
        }
    }

    /// Wakes whoever may be given one of these jobs at `now`.
    pub(crate) fn wake_takers(&self, next: &[NextJob], now: Timestamp) {
        for job in next.iter().filter(|job| job.visible_at.is_none_or(|at| at <= now)) {
            self.queue_filled(&job.queue, &job.requires);
        }
    }
}

fn leave<K: Eq + Hash, W>(waiters: &Waiters<K, W>, key: &K, id: u64) {
    if let Some(mut entry) = waiters.get_mut(key) {
        entry.remove(&id);
    }
    waiters.remove_if(key, |_, entry| entry.is_empty());
}
