//! Output in segment files, a directory a job. Blocking work runs off the async threads, a bounded amount at a time.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{
    Error, JobId, KeptOutput, Label, OutputChunk, OutputRead, OutputStore, Result, Sequence,
};
use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::{
    check,
    segment::{self, Limits, Segment, Tail},
};

/// Appends, and reads, that run at a time.
const AT_ONCE: usize = 8;
/// Appends that wait at most; each holds its chunks in memory.
const WAITING: usize = 256;
/// Jobs whose tail is remembered.
const TAILS: usize = 256;
/// Places where reads ended that are remembered.
const PLACES: usize = 1_024;
/// Bytes of a segment, at most, give or take a batch.
const SEGMENT: u64 = 8 * 1024 * 1024;

pub(crate) struct SegmentOutput {
    dir: PathBuf,
    limits: Limits,
    tails: Mutex<HashMap<JobId, Arc<AsyncMutex<Option<Tail>>>>>,
    places: Arc<Mutex<Places>>,
    waiting: Arc<Semaphore>,
    appending: Semaphore,
    reading: Semaphore,
}

/// Where reads ended: in which segment, at which offset. The next read of a watcher begins there.
type Places = HashMap<(JobId, Sequence), (Sequence, u64)>;

impl SegmentOutput {
    /// Output in `dir`, at most `limit` bytes a job.
    pub(crate) fn open(dir: PathBuf, limit: u64) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| {
            let message = format!("the directory for output {} can't be made: {error}", dir.display());
            Error::new(Label::File, message).with_cause(error)
        })?;
        Ok(Self {
            dir,
            // A sixteenth is lost at a time, once the limit is reached.
            limits: Limits { job: limit, segment: (limit / 16).clamp(4 * 1024, SEGMENT) },
            tails: Mutex::default(),
            places: Arc::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            appending: Semaphore::new(AT_ONCE),
            reading: Semaphore::new(AT_ONCE),
        })
    }

    fn job_dir(&self, job: &JobId) -> PathBuf {
        self.dir.join(job.to_string())
    }

    fn tail(&self, job: JobId) -> Arc<AsyncMutex<Option<Tail>>> {
        let mut tails = lock(&self.tails);
        if tails.len() >= TAILS {
            // Those that nobody appends to now are found again when they are needed.
            tails.retain(|_, tail| Arc::strong_count(tail) > 1);
        }
        tails.entry(job).or_default().clone()
    }

    /// Lets output go, while nobody appends to it.
    async fn clear(
        &self,
        job: JobId,
        act: impl FnOnce(&Path) -> io::Result<u64> + Send + 'static,
    ) -> Result<u64> {
        let mut tail = self.tail(job).lock_owned().await;
        *tail = None;
        let dir = self.job_dir(&job);
        let freed = self.read_blocking(move || act(&dir)).await;
        lock(&self.tails).remove(&job);
        freed
    }

    async fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.reading.acquire().await.map_err(Error::internal)?;
        let read = tokio::task::spawn_blocking(read).await.map_err(Error::internal)?;
        read.map_err(|error| output_error(&error).with_cause(error))
    }
}

#[async_trait]
impl OutputStore for SegmentOutput {
    async fn append_output(&self, job_id: &JobId, chunks: &[OutputChunk]) -> Result<()> {
        check(chunks)?;
        let Some(first) = chunks.first() else { return Ok(()) };
        let attempt = first.sequence.attempt();
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(unavailable("output can't be kept fast enough: try again in a second"));
        };
        // Appends to one job wait for each other, in order; those to different jobs share the disk.
        let mut tail = self.tail(*job_id).lock_owned().await;
        let _permit = self.appending.acquire().await.map_err(Error::internal)?;
        let (dir, limits, chunks) = (self.job_dir(job_id), self.limits, chunks.to_vec());
        let append = move || {
            let current = tail.take().filter(|tail| tail.is_current(attempt, limits));
            let mut found = current.map_or_else(|| Tail::find(&dir, attempt), Ok)?;
            found.append(&dir, &chunks, limits)?;
            // A tail after a failure is not trusted: it is found anew.
            *tail = Some(found);
            Ok::<_, io::Error>(())
        };
        let appended = tokio::task::spawn_blocking(append).await.map_err(Error::internal)?;
        appended.map_err(|error| output_error(&error).with_cause(error))
    }

    async fn output_after(&self, job_id: &JobId, after: Sequence, max_bytes: usize) -> Result<OutputRead> {
        let (job_id, dir, places) = (*job_id, self.job_dir(job_id), self.places.clone());
        self.read_blocking(move || {
            // A segment that is let go while it is read makes the list stale; then the next one begins later.
            let mut tries = 3;
            loop {
                match read(&dir, job_id, after, max_bytes, &places) {
                    Err(error) if error.kind() == ErrorKind::NotFound && tries > 0 => tries -= 1,
                    result => return result,
                }
            }
        })
        .await
    }

    async fn last_output(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        let dir = self.job_dir(job_id);
        self.read_blocking(move || segment::last(&dir, attempt)).await
    }

    async fn kept_outputs(&self, after: Option<JobId>, limit: u32) -> Result<Vec<KeptOutput>> {
        let dir = self.dir.clone();
        self.read_blocking(move || kept(&dir, after, limit as usize)).await
    }

    async fn release_output(&self, job_id: &JobId) -> Result<u64> {
        self.clear(*job_id, segment::release).await
    }

    async fn remove_output(&self, job_id: &JobId) -> Result<u64> {
        self.clear(*job_id, segment::remove).await
    }
}

fn read(
    dir: &Path,
    job: JobId,
    after: Sequence,
    max_bytes: usize,
    places: &Mutex<Places>,
) -> io::Result<OutputRead> {
    let segments = segment::list(dir)?;
    // Asked after the list: what is lost from the list on is told in any case.
    let lost_until = segment::lost_until(dir)?.filter(|lost| *lost > after);
    let mut found = OutputRead { chunks: Vec::new(), lost_until };
    let start = segments.iter().rposition(|segment| segment.first <= after).unwrap_or(0);
    let mut bytes = 0;
    for segment in segments.iter().skip(start) {
        let offset = resume(segment, job, after, places)?;
        let mut is_full = false;
        let mut last = None;
        let end = segment.scan(offset, after, |chunk| {
            bytes += chunk.bytes.len();
            is_full = bytes > max_bytes && !found.chunks.is_empty();
            if !is_full {
                last = Some(chunk.sequence);
                found.chunks.push(chunk);
            }
            !is_full
        })?;
        let mut places = lock(places);
        if places.len() >= PLACES {
            places.clear();
        }
        places.insert((job, last.unwrap_or(after)), (segment.first, end));
        if is_full {
            break;
        }
    }
    Ok(found)
}

/// The jobs that have a directory. What is not called by a job's id is not ours.
fn kept(dir: &Path, after: Option<JobId>, limit: usize) -> io::Result<Vec<KeptOutput>> {
    let mut jobs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let job = name.to_str().and_then(|name| name.parse::<JobId>().ok());
        jobs.extend(job.filter(|job| after.is_none_or(|after| *job > after)));
    }
    jobs.sort_unstable();
    let kept = |job_id: JobId| {
        let bytes = segment::bytes(&dir.join(job_id.to_string()))?;
        Ok(KeptOutput { job_id, bytes })
    };
    jobs.into_iter().take(limit).map(kept).collect()
}

/// The offset at which what comes after `after` begins, or 0 if that is not known.
fn resume(segment: &Segment, job: JobId, after: Sequence, places: &Mutex<Places>) -> io::Result<u64> {
    let place = lock(places).get(&(job, after)).copied();
    match place.filter(|(first, _)| *first == segment.first) {
        Some((_, offset)) if segment.continues_at(offset, after)? => Ok(offset),
        _ => Ok(0),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(message: &str) -> Error {
    Error::new(Label::StoreUnavailable, message).with_retry_after(Duration::from_secs(1))
}

fn output_error(error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Error::new(
            Label::StoreFull,
            "the disk for output is full: nothing is written until there is room",
        )
        .with_retry_after(Duration::from_secs(10)),
        _ => unavailable("output can't be read or written"),
    }
}
