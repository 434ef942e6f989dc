//! Output of a job: bytes in order of arrival, kept outside the rows, and the port that keeps them.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{JobId, Result, Sequence, Timestamp};

/// Which stream bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes that a job printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// Their place among the job's events.
    pub sequence: Sequence,
    /// When the worker read them.
    pub at: Timestamp,
    /// Where from.
    pub stream: OutputStream,
    /// The bytes, at most 256 KiB.
    pub bytes: Bytes,
}

/// What a read brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputRead {
    /// Chunks in order.
    pub chunks: Vec<OutputChunk>,
    /// Output up to and including this place is gone (the job's limit was reached), and it lies after the place
    /// that was asked for.
    pub lost_until: Option<Sequence>,
}

/// How much output of a job is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOutput {
    /// The job.
    pub job_id: JobId,
    /// Bytes that its output takes up, with what the store needs around them. None is left of a job whose output was
    /// let go.
    pub bytes: u64,
}

/// Keeps output.
#[async_trait]
pub trait OutputStore: Send + Sync {
    /// Appends chunks of one attempt, in order; durable when it returns. Chunks whose sequence is not after the last
    /// one kept for the attempt are dropped. The caller has checked the lease.
    async fn append_output(&self, job_id: &JobId, chunks: &[OutputChunk]) -> Result<()>;

    /// Chunks after `after`, in order, of about `max_bytes` together (at least one, if there is one).
    async fn output_after(&self, job_id: &JobId, after: Sequence, max_bytes: usize) -> Result<OutputRead>;

    /// The last chunk that was kept for this attempt; none if there is none.
    async fn last_output(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>>;

    /// What is kept, a job each, in order of their ids from the one after `after` on, about `limit` jobs. A job is
    /// there as long as anything of it is, be it only that its output was let go.
    async fn kept_outputs(&self, after: Option<JobId>, limit: u32) -> Result<Vec<KeptOutput>>;

    /// Lets all output of a job go that prints no more: whoever asks for it is told that it is gone. How many bytes
    /// that freed.
    async fn release_output(&self, job_id: &JobId) -> Result<u64>;

    /// Forgets that the job ever printed something: for jobs that are gone. How many bytes that freed.
    async fn remove_output(&self, job_id: &JobId) -> Result<u64>;
}
