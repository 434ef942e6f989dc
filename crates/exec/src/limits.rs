//! What a job may use at most. Checks the numbers; the cgroup and stage two set them.

use std::fs;

use crate::error::SpawnError;

/// What a job may use at most. The first four need a cgroup ([`Isolation::Limits`](crate::Isolation) or more)
/// and the controller of their name; the rest hold for each process by itself. Default: no limit, no core files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub(crate) cpus: Option<f64>,
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) io: Vec<IoLimit>,
    pub(crate) open_files: Option<u64>,
    pub(crate) file_size: Option<u64>,
}

/// How fast a job may use one block device (`io.max`). A rate that is not given is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoLimit {
    /// Major and minor number of the whole device, not of a partition.
    pub device: (u32, u32),
    /// Bytes read a second.
    pub read_bytes: Option<u64>,
    /// Bytes written a second.
    pub write_bytes: Option<u64>,
    /// Reads a second.
    pub reads: Option<u64>,
    /// Writes a second.
    pub writes: Option<u64>,
}

/// The kernel takes no quota of less than a millisecond in its period of 100.
const LEAST_CPUS: f64 = 0.01;
/// Less than a page is no memory.
const LEAST_MEMORY: u64 = 4096;

impl Limits {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// CPU time, in CPUs: 0.5 is half of one. At least 0.01, at most what this process has.
    #[must_use]
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Memory in bytes, page cache and the sandbox's files in memory among it; swap is forbidden. When it runs out
    /// the whole job is killed, not one process of it. At most what the machine has.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Processes and threads at a time, at most what the kernel can number. The init of a sandbox counts as one.
    #[must_use]
    pub fn processes(mut self, processes: u64) -> Self {
        self.processes = Some(processes);
        self
    }

    /// Adds the limits of one block device.
    #[must_use]
    pub fn io(mut self, limit: IoLimit) -> Self {
        self.io.push(limit);
        self
    }

    /// Descriptors of each process (`RLIMIT_NOFILE`).
    #[must_use]
    pub fn open_files(mut self, files: u64) -> Self {
        self.open_files = Some(files);
        self
    }

    /// The size of each file that it writes, in bytes (`RLIMIT_FSIZE`).
    #[must_use]
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses zero, and what the machine does not have. Blocks shortly.
    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        let host = Host::read();
        if let Some(cpus) = self.cpus
            && !(cpus.is_finite() && (LEAST_CPUS..=host.cpus).contains(&cpus))
        {
            return Err(refuse("cpus", format!("{cpus} is not between {LEAST_CPUS} and {}", host.cpus)));
        }
        check_range("memory", self.memory, LEAST_MEMORY, host.memory)?;
        check_range("processes", self.processes, 1, host.processes)?;
        check_range("open files", self.open_files, 1, host.open_files)?;
        check_range("file size", self.file_size, 1, u64::MAX)?;
        for io in &self.io {
            let rates = [io.read_bytes, io.write_bytes, io.reads, io.writes];
            for rate in rates {
                check_range("io", rate, 1, u64::MAX)?;
            }
            let (major, minor) = io.device;
            if !fs::exists(format!("/sys/dev/block/{major}:{minor}")).unwrap_or(false) {
                return Err(refuse("io", format!("there is no block device {major}:{minor}")));
            }
        }
        Ok(())
    }
}

/// What this machine has.
struct Host {
    cpus: f64,
    memory: u64,
    processes: u64,
    open_files: u64,
}

impl Host {
    /// What cannot be read is not a bound.
    fn read() -> Self {
        let number = |path| fs::read_to_string(path).ok()?.trim().parse().ok();
        let cpus = std::thread::available_parallelism()
            .map_or(u32::MAX, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        Self {
            cpus: f64::from(cpus),
            memory: total_memory().unwrap_or(u64::MAX),
            processes: number("/proc/sys/kernel/pid_max").unwrap_or(u64::MAX),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .maximum
                .unwrap_or(u64::MAX),
        }
    }
}

/// In bytes.
pub(crate) fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

pub(crate) fn check_range(
    name: &'static str,
    value: Option<u64>,
    least: u64,
    most: u64,
) -> Result<(), SpawnError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(refuse(name, format!("{value} is not between {least} and {most}")))
        }
        _ => Ok(()),
    }
}

fn refuse(name: &'static str, why: String) -> SpawnError {
    SpawnError::BadLimit { name, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_more_than_the_machine_has_are_refused() {
        let refused = |limits: Limits| matches!(limits.check(), Err(SpawnError::BadLimit { .. }));
        let none = Limits::new;
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e6] {
            assert!(refused(none().cpus(cpus)), "{cpus}");
        }
        assert!(refused(none().memory(0)) && refused(none().memory(u64::MAX)));
        assert!(refused(none().processes(0)) && refused(none().processes(u64::MAX)));
        assert!(refused(none().open_files(0)) && refused(none().open_files(u64::MAX)));
        assert!(refused(none().file_size(0)));
        let nowhere = IoLimit { device: (4095, 1), reads: Some(1), ..IoLimit::default() };
        assert!(refused(none().io(nowhere)));
        none().cpus(0.5).memory(64 << 20).processes(16).open_files(64).file_size(1).check().unwrap();
    }
}
