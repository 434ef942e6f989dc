//! `[jobs]`: rules for all jobs.

use std::time::Duration;

use airunner_app::{Settings, job::certificate::MAX_VALIDITY};
use airunner_core::Result;

use super::source::Source;

/// Bytes of output that are kept of a job where nothing is said.
const OUTPUT_LIMIT: u64 = 1 << 30;
/// The least that may be set: several batches.
const MIN_OUTPUT_LIMIT: u64 = 1 << 20;

/// Rules for all jobs.
#[derive(Clone, Copy, Debug)]
pub struct JobsConfig {
    unique: bool,
    output_limit: u64,
    certificate_validity: Duration,
}

impl JobsConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        Ok(Self {
            unique: source.boolean("jobs.unique")?.unwrap_or(false),
            output_limit: source
                .integer("jobs.output_limit", MIN_OUTPUT_LIMIT..=1 << 50)?
                .unwrap_or(OUTPUT_LIMIT),
            certificate_validity: source
                .duration("jobs.certificate_validity", Settings::MIN_VALIDITY..=MAX_VALIDITY)?
                .unwrap_or(MAX_VALIDITY),
        })
    }

    /// Whether every job is refused whose like waits or runs.
    pub fn unique(&self) -> bool {
        self.unique
    }

    /// Life of the certificates of jobs; 1 h where it is not set, which is the most.
    pub fn certificate_validity(&self) -> Duration {
        self.certificate_validity
    }

    /// Bytes of output that are kept of a job; 1 GiB where it is not set.
    pub fn output_limit(&self) -> u64 {
        self.output_limit
    }
}
