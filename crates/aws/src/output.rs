//! Output of jobs in S3: one object a batch, put before it is acknowledged; the background merges batches into
//! segments. Every server reads every job's output: what is there is known from the objects' names alone
//! (`output/names.rs`). What lies in them is as in a segment file.

mod bucket;
mod merge;
mod names;
mod read;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{
    Error, JobId, KeptOutput, Label, OutputChunk, OutputRead, OutputStore, Result, Sequence,
};
use airunner_store::output::{all_of, check, record};
use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use bucket::Bucket;
pub use bucket::{create_bucket, has_bucket};
use names::{Kind, Listing, Object};

use crate::Aws;

/// Appends, and reads, that run at a time.
const AT_ONCE: usize = 16;
/// Appends that wait at most; each holds its chunks in memory.
const WAITING: usize = 256;
/// Jobs whose tail is remembered.
const TAILS: usize = 256;
/// Places where reads ended that are remembered.
const PLACES: usize = 1_024;
/// Bytes of a segment, at most, give or take a batch.
const SEGMENT: u64 = 8 * 1024 * 1024;
/// So many batches are merged into a segment, and so many small segments into a larger one.
const RUN: usize = 32;
/// Merges that run at a time; each holds a segment in memory.
const MERGES: usize = 2;

/// How large things may get, in bytes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    job: u64,
    segment: u64,
}

/// Output in a bucket.
pub struct S3Output {
    inner: Arc<Inner>,
    waiting: Semaphore,
    appending: Semaphore,
    reading: Semaphore,
}

struct Inner {
    bucket: Bucket,
    limits: Limits,
    tails: Mutex<HashMap<JobId, Arc<AsyncMutex<Option<Tail>>>>>,
    places: Mutex<HashMap<(JobId, Sequence), (String, u64)>>,
    merging: Mutex<HashSet<JobId>>,
    merges: Arc<Semaphore>,
}

/// Where the next chunk of an attempt goes, as far as this server knows. Another may have gone on since: then batches
/// overlap, and readers drop what they have.
#[derive(Clone, Copy, Debug)]
struct Tail {
    attempt: u32,
    last: Option<Sequence>,
    /// Bytes of the job.
    bytes: u64,
    /// Batches that no segment holds.
    batches: usize,
}

impl S3Output {
    /// Output in `bucket`, which must be there, at most `limit` bytes a job. Takes `s3:ListBucket`, `s3:GetObject`,
    /// `s3:PutObject` and `s3:DeleteObject`.
    ///
    /// # Errors
    /// `aws-missing` and what AWS says otherwise.
    pub async fn open(aws: &Aws, bucket: &str, limit: u64) -> Result<Self> {
        let bucket = Bucket::open(aws, bucket).await?;
        // A sixteenth is lost at a time, once the limit is reached.
        let limits = Limits { job: limit, segment: (limit / 16).clamp(4 * 1024, SEGMENT) };
        let inner = Inner {
            bucket,
            limits,
            tails: Mutex::default(),
            places: Mutex::default(),
            merging: Mutex::default(),
            merges: Arc::new(Semaphore::new(MERGES)),
        };
        Ok(Self {
            inner: Arc::new(inner),
            waiting: Semaphore::new(WAITING),
            appending: Semaphore::new(AT_ONCE),
            reading: Semaphore::new(AT_ONCE),
        })
    }
}

#[async_trait]
impl OutputStore for S3Output {
    async fn append_output(&self, job_id: &JobId, chunks: &[OutputChunk]) -> Result<()> {
        check(chunks)?;
        let Some(first) = chunks.first() else { return Ok(()) };
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let error = Error::new(
                Label::StoreUnavailable,
                "output can't be kept fast enough: try again in a second",
            );
            return Err(error.with_retry_after(Duration::from_secs(1)));
        };
        // Appends to one job wait for each other, in order.
        let mut tail = self.inner.tail(*job_id).lock_owned().await;
        let _permit = self.appending.acquire().await.map_err(Error::internal)?;
        // A tail after a failure is not trusted: it is found anew.
        let known = tail.take().filter(|tail| tail.attempt == first.sequence.attempt());
        let mut found = match known {
            Some(tail) => tail,
            None => Tail::of(&self.inner.bucket.list(job_id, None).await?, first.sequence.attempt()),
        };
        self.inner.append(*job_id, &mut found, chunks).await?;
        if found.batches >= RUN {
            found.batches = 0;
            merge::in_background(&self.inner, *job_id);
        }
        *tail = Some(found);
        Ok(())
    }

    async fn output_after(&self, job_id: &JobId, after: Sequence, max_bytes: usize) -> Result<OutputRead> {
        let _permit = self.reading.acquire().await.map_err(Error::internal)?;
        read::after(&self.inner, *job_id, after, max_bytes).await
    }

    async fn last_output(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let _permit = self.reading.acquire().await.map_err(Error::internal)?;
        Ok(self.inner.bucket.list(job_id, Some(attempt)).await?.last_of(attempt))
    }

    async fn kept_outputs(&self, after: Option<JobId>, limit: u32) -> Result<Vec<KeptOutput>> {
        let _permit = self.reading.acquire().await.map_err(Error::internal)?;
        self.inner.bucket.jobs(after, limit as usize).await
    }

    async fn release_output(&self, job_id: &JobId) -> Result<u64> {
        let listing = self.inner.bucket.list(job_id, None).await?;
        let Some(last) = listing.objects.last() else { return Ok(0) };
        let gone: Vec<_> = listing.objects.iter().map(|object| object.key(*job_id)).collect();
        let lost = all_of(last.first.attempt());
        self.inner.let_go(*job_id, &listing, lost, gone).await?;
        self.inner.forget_tail(*job_id);
        Ok(listing.bytes())
    }

    async fn remove_output(&self, job_id: &JobId) -> Result<u64> {
        let bytes = self.inner.bucket.list(job_id, None).await?.bytes();
        self.inner.bucket.delete(&self.inner.bucket.keys(job_id).await?).await?;
        self.inner.forget_tail(*job_id);
        Ok(bytes)
    }
}

impl Tail {
    fn of(listing: &Listing, attempt: u32) -> Self {
        Self {
            attempt,
            last: listing.last_of(attempt),
            bytes: listing.bytes(),
            batches: listing.objects.iter().filter(|object| object.kind == Kind::Batch).count(),
        }
    }
}

impl Inner {
    fn tail(&self, job: JobId) -> Arc<AsyncMutex<Option<Tail>>> {
        let mut tails = lock(&self.tails);
        if tails.len() >= TAILS {
            // Those that nobody appends to now are found again when they are needed.
            tails.retain(|_, tail| Arc::strong_count(tail) > 1);
        }
        tails.entry(job).or_default().clone()
    }

    /// Puts those chunks that are not kept yet, as one object. It is there as a whole, or not at all.
    async fn append(&self, job: JobId, tail: &mut Tail, chunks: &[OutputChunk]) -> Result<()> {
        let new: Vec<_> =
            chunks.iter().filter(|chunk| tail.last.is_none_or(|last| chunk.sequence > last)).collect();
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(()) };
        let mut body = Vec::new();
        for chunk in &new {
            record::write(chunk, &mut body);
        }
        let size = body.len() as u64;
        let batch = Object { first: first.sequence, last: last.sequence, kind: Kind::Batch, size };
        // An object of this name holds the same chunks: an attempt to put it whose answer was lost, or another server's.
        self.bucket.put_new(&batch.key(job), body).await?;
        tail.last = Some(last.sequence);
        tail.bytes += size;
        tail.batches += 1;
        if tail.bytes > self.limits.job {
            tail.bytes = self.enforce(job).await?;
        }
        Ok(())
    }

    /// Lets the oldest go until the job keeps to its limit; the newest stays. Returns how many bytes stay.
    async fn enforce(&self, job: JobId) -> Result<u64> {
        let listing = self.bucket.list(&job, None).await?;
        let room = self.limits.job.saturating_sub(self.limits.segment);
        let mut total = listing.bytes();
        let mut gone = Vec::new();
        let mut lost = None;
        for pair in listing.objects.windows(2) {
            if total <= room {
                break;
            }
            total -= pair[0].size;
            gone.push(pair[0].key(job));
            lost = Some(Sequence::from_u64(pair[1].first.as_u64().saturating_sub(1)));
        }
        let Some(lost) = lost else { return Ok(total) };
        self.let_go(job, &listing, lost, gone).await?;
        Ok(total)
    }

    /// Deletes objects. First it is written that what they hold, up to `lost`, goes, so that nobody misses it unawares.
    async fn let_go(
        &self,
        job: JobId,
        listing: &Listing,
        lost: Sequence,
        mut gone: Vec<String>,
    ) -> Result<()> {
        self.bucket.put_new(&names::lost_key(job, lost), Vec::new()).await?;
        gone.extend(
            listing.lost.iter().filter(|older| **older < lost).map(|older| names::lost_key(job, *older)),
        );
        self.bucket.delete(&gone).await
    }

    fn forget_tail(&self, job: JobId) {
        lock(&self.tails).remove(&job);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
