//! Events of a job: their order, the control events that are rows, and the port that keeps those.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{AttemptOutcome, JobId, PrincipalId, Result, Timestamp};

/// An event's place in its job: `attempt * 2^40 + n`, where the worker numbers n from 1 within its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Bits for n.
    const BITS: u32 = 40;
    /// The last n, kept for the event that ends the attempt.
    const LAST: u64 = (1 << Self::BITS) - 1;
    /// The largest n that a worker may give.
    pub const MAX_N: u64 = Self::LAST - 1;

    /// Event `n` of `attempt`; n is cut to [`Sequence::MAX_N`].
    pub const fn new(attempt: u32, n: u64) -> Self {
        let n = if n > Self::MAX_N { Self::MAX_N } else { n };
        Self(((attempt as u64) << Self::BITS) | n)
    }

    /// The place of the event that ends `attempt`, after all others of it.
    pub const fn end_of(attempt: u32) -> Self {
        Self(((attempt as u64) << Self::BITS) | Self::LAST)
    }

    /// The number as it stands on the wire.
    pub const fn from_u64(sequence: u64) -> Self {
        Self(sequence)
    }

    /// The number as it stands on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The attempt.
    pub const fn attempt(self) -> u32 {
        (self.0 >> Self::BITS) as u32
    }

    /// The number within the attempt.
    pub const fn n(self) -> u64 {
        self.0 & Self::LAST
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened. Output is not here: its bytes are no rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The process runs, with this id on the worker's machine.
    Started {
        /// The process id.
        process_id: u32,
    },
    /// Something worth saying went on: a clone, a retry.
    Note {
        /// One line for people.
        message: String,
    },
    /// The attempt is over. Written by the store, once an attempt.
    AttemptEnded {
        /// How.
        outcome: AttemptOutcome,
        /// Whether the job is over with it.
        last: bool,
    },
}

/// A control event: a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEvent {
    /// Its place.
    pub sequence: Sequence,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// Control events that a worker publishes under its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub attempt: u32,
    /// Who publishes; must hold the lease at `now` (`lease-lost`).
    pub holder: PrincipalId,
    /// The time of the act.
    pub now: Timestamp,
    /// The events, of this attempt, in order. Those that are there already are dropped.
    pub events: Vec<ControlEvent>,
}

/// Keeps control events.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Appends events, durably, if the holder holds the lease (`lease-lost`). `Started` also sets the job's
    /// `process_id` and `started_at`. With no events it only checks the lease.
    async fn publish(&self, publication: Publication) -> Result<()>;

    /// Up to `limit` control events after `after`, in order.
    async fn events_after(&self, job_id: &JobId, after: Sequence, limit: u32) -> Result<Vec<ControlEvent>>;

    /// The last control event that a worker published in this attempt; none if there is none.
    async fn last_published(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>>;
}
