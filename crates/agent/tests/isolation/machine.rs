//! What of a job can be seen on this machine, and what this machine has.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use airunner_exec::{Cgroups, Measure};
use airunner_proto::job::v1::{Isolation, JobSpec};

use crate::bed::shell;

pub(crate) const ISOLATED: [Isolation; 2] = [Isolation::Limits, Isolation::Sandbox];

/// A job of one shell line at this level.
pub(crate) fn at(level: Isolation, line: &str) -> JobSpec {
    JobSpec { isolation: level.into(), max_attempts: 1, ..shell(line) }
}

/// How long a job sleeps that is to be found by that: as many seconds as no other.
pub(crate) fn long_sleep() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    1_000_000 + std::process::id() * 100 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The processes that sleep so long, by whatever number this machine knows them.
pub(crate) fn sleeping(seconds: u32) -> Vec<u32> {
    let wanted = format!("sleep\0{seconds}\0");
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let sleeps =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes());
    pids.filter(sleeps).collect()
}

/// Whether there is a cgroup of this job.
pub(crate) fn has_cgroup(job_id: &str) -> bool {
    let cgroups = Cgroups::delegated().unwrap();
    let mut found = fs::read_dir(cgroups.directory()).unwrap();
    found.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(&format!("job-{job_id}.")))
}

/// Whether this limit can be had here.
pub(crate) fn can_limit(measure: Measure) -> bool {
    !Cgroups::survey().unwrap().contains(&measure)
}
