//! The cgroup of one job: made before it, removed when nothing is left in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CgroupError, io_error, write};
use crate::job::Usage;

/// How long the killed may take to vanish; only a process stuck in the kernel needs more than a moment.
const VANISH_TIME: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A job's cgroup. Dropping it kills what is in it and removes it, if it is empty by then.
#[derive(Debug)]
pub(crate) struct JobCgroup {
    leaf: Leaf,
    directory: OwnedFd,
}

/// A cgroup by its path, whoever made it.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    path: PathBuf,
}

pub(crate) fn leaf_at(path: &Path) -> Leaf {
    Leaf { path: path.to_owned() }
}

impl JobCgroup {
    pub(super) fn create(path: PathBuf) -> Result<Self, CgroupError> {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CgroupError::Exists(path)),
            Err(error) => Err(io_error(path)(error)),
            Ok(()) => {
                let leaf = Leaf { path };
                match File::open(&leaf.path) {
                    Ok(directory) => Ok(Self { leaf, directory: directory.into() }),
                    Err(error) => {
                        leaf.remove();
                        Err(io_error(leaf.path)(error))
                    }
                }
            }
        }
    }

    pub(super) fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write(&self.leaf.path.join(file), value)
    }

    pub(super) fn set_if_there(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        if self.leaf.path.join(file).exists() { self.set(file, value) } else { Ok(()) }
    }

    /// To be born there.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(crate) fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl Drop for JobCgroup {
    fn drop(&mut self) {
        self.leaf.kill();
        self.leaf.remove();
    }
}

impl Leaf {
    /// Kills all that is in it, forks under way among it (`cgroup.kill`). It fails only if the cgroup is gone.
    pub(crate) fn kill(&self) {
        let _ = write(&self.path.join("cgroup.kill"), "1");
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Waits until the killed are gone, and says who is there after [`VANISH_TIME`].
    pub(crate) async fn settle(&self) -> Vec<u32> {
        let mut pause = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        while self.is_populated() {
            if waited >= VANISH_TIME {
                return self.processes();
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Vec::new()
    }

    /// As [`settle`](Self::settle), in a thread of its own.
    pub(crate) fn settle_blocking(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(self.settle());
        }
    }

    /// Whether a process is in it or below; zombies do not count.
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|text| field(&text, "populated") == Some(1))
    }

    fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes it, with what a job that was allowed to has made below. What is not empty stays.
    pub(crate) fn remove(&self) {
        remove(&self.path);
    }

    /// What all processes that were ever in it used. CPU time is counted everywhere; the rest is told where the host
    /// has the controller, and a kernel that keeps the peak.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).ok();
        let number = |file: &str| read(file)?.trim().parse().ok();
        let cpu = read("cpu.stat")?;
        let io = read("io.stat");
        let sum = |name: &str| io.as_deref().map(|text| total(text, name));
        Some(Usage {
            user: Duration::from_micros(field(&cpu, "user_usec")?),
            system: Duration::from_micros(field(&cpu, "system_usec")?),
            peak_memory: number("memory.peak"),
            oom_kills: read("memory.events").and_then(|text| field(&text, "oom_kill")),
            peak_processes: number("pids.peak"),
            read_bytes: sum("rbytes"),
            written_bytes: sum("wbytes"),
        })
    }
}

/// Children first; names in a cgroup file system that are no directories cannot be removed, and need not be.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Of a file of lines `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Of a file of lines `device name=value …`.
fn total(text: &str, name: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.filter_map(|value| value.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_read() {
        let events = "low 0\noom 1\noom_kill 2\noom_group_kill 3\n";
        assert_eq!(
            (field(events, "oom_kill"), field(events, "oom"), field(events, "max")),
            (Some(2), Some(1), None)
        );
        let io = "8:0 rbytes=10 wbytes=1 rios=3\n8:16 rbytes=5 wbytes=0\n";
        assert_eq!((total(io, "rbytes"), total(io, "wbytes"), total("", "rbytes")), (15, 1, 0));
    }
}
