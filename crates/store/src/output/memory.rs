//! Output in memory.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use airunner_core::{JobId, KeptOutput, OutputChunk, OutputRead, OutputStore, Result, Sequence};
use async_trait::async_trait;

use super::{all_of, check};

pub(crate) struct MemoryOutput {
    limit: u64,
    jobs: Mutex<BTreeMap<JobId, Kept>>,
}

#[derive(Default)]
struct Kept {
    chunks: BTreeMap<Sequence, OutputChunk>,
    bytes: u64,
    lost_until: Option<Sequence>,
}

impl MemoryOutput {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, jobs: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Kept>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn last(&self, attempt: u32) -> Option<Sequence> {
        let places = Sequence::new(attempt, 0)..=Sequence::end_of(attempt);
        let kept = self.chunks.range(places).next_back().map(|(sequence, _)| *sequence);
        kept.or(self.lost_until.filter(|lost| lost.attempt() == attempt))
    }

    fn append(&mut self, chunk: &OutputChunk, limit: u64) {
        if self.last(chunk.sequence.attempt()).is_some_and(|last| chunk.sequence <= last) {
            return;
        }
        self.bytes += chunk.bytes.len() as u64;
        self.chunks.insert(chunk.sequence, chunk.clone());
        while self.bytes > limit && self.chunks.len() > 1 {
            let Some((sequence, lost)) = self.chunks.pop_first() else { break };
            self.bytes -= lost.bytes.len() as u64;
            self.lost_until = Some(sequence);
        }
    }
}

#[async_trait]
impl OutputStore for MemoryOutput {
    async fn append_output(&self, job_id: &JobId, chunks: &[OutputChunk]) -> Result<()> {
        check(chunks)?;
        let mut jobs = self.lock();
        let kept = jobs.entry(*job_id).or_default();
        for chunk in chunks {
            kept.append(chunk, self.limit);
        }
        Ok(())
    }

    async fn output_after(&self, job_id: &JobId, after: Sequence, max_bytes: usize) -> Result<OutputRead> {
        let jobs = self.lock();
        let Some(kept) = jobs.get(job_id) else { return Ok(OutputRead::default()) };
        let mut read =
            OutputRead { chunks: Vec::new(), lost_until: kept.lost_until.filter(|lost| *lost > after) };
        let mut bytes = 0;
        for chunk in kept.chunks.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, chunk)| chunk) {
            bytes += chunk.bytes.len();
            if bytes > max_bytes && !read.chunks.is_empty() {
                break;
            }
            read.chunks.push(chunk.clone());
        }
        Ok(read)
    }

    async fn last_output(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        Ok(self.lock().get(job_id).and_then(|kept| kept.last(attempt)))
    }

    async fn kept_outputs(&self, after: Option<JobId>, limit: u32) -> Result<Vec<KeptOutput>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = self.lock();
        let some = jobs.range((from, Bound::Unbounded)).take(limit as usize);
        Ok(some.map(|(job_id, kept)| KeptOutput { job_id: *job_id, bytes: kept.bytes }).collect())
    }

    async fn release_output(&self, job_id: &JobId) -> Result<u64> {
        let mut jobs = self.lock();
        let Some(kept) = jobs.get_mut(job_id) else { return Ok(0) };
        let Some((last, _)) = kept.chunks.last_key_value() else { return Ok(0) };
        kept.lost_until = Some(all_of(last.attempt()));
        kept.chunks.clear();
        Ok(std::mem::take(&mut kept.bytes))
    }

    async fn remove_output(&self, job_id: &JobId) -> Result<u64> {
        Ok(self.lock().remove(job_id).map_or(0, |kept| kept.bytes))
    }
}
