//! Output with its intents measured. The other ports measure theirs where they hand them to their engine.

use std::sync::Arc;

use airunner_core::{
    Intent, JobId, KeptOutput, OutputChunk, OutputRead, OutputStore, Result, Sequence, StoreMeasures,
};
use async_trait::async_trait;

/// An output store whose intents are measured.
pub struct Measured {
    inner: Arc<dyn OutputStore>,
    measures: Arc<StoreMeasures>,
}

impl Measured {
    /// Measures what `inner` does, into `measures`.
    pub fn new(inner: Arc<dyn OutputStore>, measures: Arc<StoreMeasures>) -> Self {
        Self { inner, measures }
    }
}

#[async_trait]
impl OutputStore for Measured {
    async fn append_output(&self, job_id: &JobId, chunks: &[OutputChunk]) -> Result<()> {
        self.measures.observe(Intent::AppendOutput, self.inner.append_output(job_id, chunks)).await
    }

    async fn output_after(&self, job_id: &JobId, after: Sequence, max_bytes: usize) -> Result<OutputRead> {
        self.measures.observe(Intent::OutputAfter, self.inner.output_after(job_id, after, max_bytes)).await
    }

    async fn last_output(&self, job_id: &JobId, attempt: u32) -> Result<Option<Sequence>> {
        self.measures.observe(Intent::LastOutput, self.inner.last_output(job_id, attempt)).await
    }

    async fn kept_outputs(&self, after: Option<JobId>, limit: u32) -> Result<Vec<KeptOutput>> {
        self.measures.observe(Intent::KeptOutputs, self.inner.kept_outputs(after, limit)).await
    }

    async fn release_output(&self, job_id: &JobId) -> Result<u64> {
        self.measures.observe(Intent::ReleaseOutput, self.inner.release_output(job_id)).await
    }

    async fn remove_output(&self, job_id: &JobId) -> Result<u64> {
        self.measures.observe(Intent::RemoveOutput, self.inner.remove_output(job_id)).await
    }
}
