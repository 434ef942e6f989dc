//! `[jobs]`: rules for all jobs.

use std::{ops::RangeInclusive, time::Duration};

use airunner_app::{RetentionPolicy, Settings, job::certificate::MAX_VALIDITY};
use airunner_core::Result;

use super::source::Source;
use crate::duration;

/// Bytes of output that are kept of a job where nothing is said.
const OUTPUT_LIMIT: u64 = 1 << 30;
/// The least that may be set: several batches.
const MIN_OUTPUT_LIMIT: u64 = 1 << 20;

/// The shortest and the longest time that jobs can be kept: they are pruned every minute, and DynamoDB counts seconds.
const RETENTION: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(10 * 365 * 24);

/// Rules for all jobs.
#[derive(Clone, Copy, Debug)]
pub struct JobsConfig {
    unique: bool,
    output_limit: u64,
    retention: RetentionPolicy,
    certificate_validity: Duration,
}

impl JobsConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let jobs = source.duration("jobs.retention", RETENTION)?.unwrap_or(RetentionPolicy::DEFAULT);
        let output = source.duration("jobs.output_retention", RETENTION)?.unwrap_or(jobs);
        if output > jobs {
            return Err(source.refuse(
                "jobs.output_retention",
                format!(
                    "is longer than jobs.retention, {}: output goes with its job at the latest",
                    duration::format(jobs)
                ),
            ));
        }
        // 0 is no bound, as it is where nothing is said.
        let output_total = source.integer("jobs.output_total", 0..=1 << 60)?.filter(|total| *total > 0);
        Ok(Self {
            retention: RetentionPolicy { jobs, output, output_total, late: Duration::ZERO },
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

    /// How long jobs and their output are kept; 30 days where it is not set, whatever the output takes up together.
    pub fn retention(&self) -> RetentionPolicy {
        self.retention
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
