//! The `git_…` settings of `[worker]`: how the worker inside the server fetches repositories, and what it keeps of them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use airunner_core::Result;

use super::source::Source;

/// Bytes that a size may be at most.
const MOST: u64 = 1 << 50;
/// The least that a fetch may bring: less holds no repository.
const LEAST_MAX_SIZE: u64 = 1 << 16;
const AGES: std::ops::RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 3_650);

/// How repositories are fetched. What is not set is the worker's own business.
#[derive(Clone, Debug)]
pub struct GitConfig {
    cache_dir: Option<PathBuf>,
    cache_size: Option<u64>,
    cache_age: Option<Duration>,
    max_size: Option<u64>,
    credentials: Option<PathBuf>,
    user: Option<String>,
}

impl GitConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let user = source.text("worker.git_user")?.map(str::to_owned);
        if user.as_deref() == Some("") {
            return Err(source.refuse("worker.git_user", "is empty: name a user"));
        }
        Ok(Self {
            cache_dir: source.path("worker.git_cache")?,
            cache_size: source.integer("worker.git_cache_size", 0..=MOST)?,
            cache_age: source.duration("worker.git_cache_age", AGES)?,
            max_size: source.integer("worker.git_max_size", LEAST_MAX_SIZE..=MOST)?,
            credentials: source.path("worker.git_credentials")?,
            user,
        })
    }

    /// Where repositories are kept between jobs.
    pub fn cache_dir(&self) -> Option<&Path> {
        self.cache_dir.as_deref()
    }

    /// Bytes of them that are kept; 0 keeps none.
    pub fn cache_size(&self) -> Option<u64> {
        self.cache_size
    }

    /// How long one is kept that nobody asks for.
    pub fn cache_age(&self) -> Option<Duration> {
        self.cache_age
    }

    /// Bytes that a fetch may bring, and that its checkout may have.
    pub fn max_size(&self) -> Option<u64> {
        self.max_size
    }

    /// The file of credentials.
    pub fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref()
    }

    /// Who fetches.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}
