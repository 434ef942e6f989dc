//! The part of the cgroup tree (v2) that was delegated to this process: itself in one leaf, each job in another.
//! Must not touch anything outside of that part, but to be given controllers.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::isolation::Measure;
use crate::limits::Limits;
use crate::spec::JobId;

mod leaf;

pub(crate) use leaf::{JobCgroup, Leaf, leaf_at};

/// Where this process may make cgroups for its jobs. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Cgroups {
    tree: Arc<Tree>,
}

#[derive(Debug)]
struct Tree {
    directory: PathBuf,
    controllers: Vec<Controller>,
}

/// The ones that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Cpu,
    Memory,
    Pids,
    Io,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Io];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }

    fn measure(self) -> Measure {
        match self {
            Self::Cpu => Measure::CpuLimit,
            Self::Memory => Measure::MemoryLimit,
            Self::Pids => Measure::ProcessLimit,
            Self::Io => Measure::IoLimit,
        }
    }
}

/// No cgroups can be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup file system of version 2 is mounted, or this process is in none.
    #[error("this host has no cgroup v2: mount one (`mount -t cgroup2 none /sys/fs/cgroup`)")]
    NoCgroup2,
    /// The kernel is too old.
    #[error("this kernel has no cgroup.kill: run Linux 5.14 or later")]
    NoKill,
    /// The directory is not in a cgroup file system of version 2.
    #[error("{0} is in no cgroup v2 file system: name a directory of one")]
    NotACgroup(PathBuf),
    /// The job's cgroup is there.
    #[error(
        "cgroup {0} exists: that job runs already, or a killed supervisor left it; sweep its marks first"
    )]
    Exists(PathBuf),
    /// The cgroup holds other processes, so that no controller can be handed on to cgroups in it (the rule of cgroups(7)
    /// that only leaves hold processes).
    #[error(
        "cgroup {directory} holds other processes than this one ({}), and so gives its controllers to no job: start the \
         worker in a cgroup of its own, as a service with Delegate=yes, or by hand with `systemd-run --scope -p Delegate=yes`",
        name_processes(.processes)
    )]
    Occupied {
        /// The cgroup.
        directory: PathBuf,
        /// The others; 0 is one that this process can't see.
        processes: Vec<u32>,
    },
    /// Reading or writing failed.
    #[error(
        "cgroup file {path} cannot be used: {source}; have the cgroup delegated to this user (`Delegate=yes`)"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The leaf that this process moves itself into: a cgroup with controllers may hold no process but in leaves.
const SUPERVISOR: &str = "supervisor";
/// Where jobs go when this process is in the root of the tree, where nothing is delegated.
const BELOW_ROOT: &str = "airunner";
const MOUNTS: &str = "/proc/self/mountinfo";

impl Cgroups {
    /// Takes over the cgroup that this process is in, as a service manager delegates it; below the root of the tree,
    /// where that is it, a new one, `airunner`.
    ///
    /// This process moves to the leaf `supervisor`, with all its threads. Call it once, at start, before anything else
    /// is started in this cgroup. Blocks shortly.
    pub fn delegated() -> Result<Self, CgroupError> {
        Self::at(delegated_directory()?)
    }

    /// What [`delegated`](Self::delegated) would come to, without moving this process or leaving anything: the limits for
    /// which there is no controller. Blocks shortly.
    pub fn survey() -> Result<Vec<Measure>, CgroupError> {
        let directory = delegated_directory()?;
        // Below the root of the tree it is still to be made.
        let place = if directory.exists() { Some(directory.as_path()) } else { directory.parent() };
        let place = place.ok_or(CgroupError::NoCgroup2)?;
        let trial = place.join(format!("survey-{}", std::process::id()));
        fs::create_dir(&trial).map_err(io_error(&trial))?;
        let can_kill = trial.join("cgroup.kill").exists();
        fs::remove_dir(&trial).map_err(io_error(&trial))?;
        if !can_kill {
            return Err(CgroupError::NoKill);
        }
        let there = controllers(place)?;
        let others = if directory.exists() { others(&directory) } else { Vec::new() };
        if !there.is_empty() && !others.is_empty() {
            return Err(CgroupError::Occupied { directory, processes: others });
        }
        Ok(Controller::ALL.into_iter().filter(|one| !there.contains(one)).map(Controller::measure).collect())
    }

    /// As [`delegated`](Self::delegated), in a directory of a cgroup file system, which is made if it is missing.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Self, CgroupError> {
        let directory = std::path::absolute(directory.into()).map_err(io_error(""))?;
        if directory.to_str().is_none_or(|path| path.contains('\n')) {
            // A mark could not name it.
            return Err(CgroupError::NotACgroup(directory));
        }
        make(&directory)?;
        let kind = rustix::fs::statfs(&directory).map_err(|error| io_error(&directory)(error.into()))?;
        if kind.f_type != CGROUP2 {
            return Err(CgroupError::NotACgroup(directory));
        }
        let supervisor = directory.join(SUPERVISOR);
        make(&supervisor)?;
        if !supervisor.join("cgroup.kill").exists() {
            return Err(CgroupError::NoKill);
        }
        write(&supervisor.join("cgroup.procs"), &std::process::id().to_string())?;
        if let Some(above) = directory.parent() {
            // Where this process owns that one, too. Elsewhere it was given what it has.
            let _ = enable(above);
        }
        let controllers = enable(&directory).map_err(|error| match error {
            CgroupError::Io { source, .. } if Errno::from_io_error(&source) == Some(Errno::BUSY) => {
                CgroupError::Occupied { processes: others(&directory), directory: directory.clone() }
            }
            other => other,
        })?;
        Ok(Self { tree: Arc::new(Tree { directory, controllers }) })
    }

    /// The directory of all of it.
    pub fn directory(&self) -> &Path {
        &self.tree.directory
    }

    /// Where a job's leaf is: named for its supervisor, too, since one that was killed may have left one of that id to its
    /// own next start, while another over the same tree runs the job anew.
    pub(crate) fn path(&self, id: &JobId) -> PathBuf {
        self.tree.directory.join(format!("job-{id}.{}", std::process::id()))
    }

    /// The limits among these for which the host has no controller.
    pub(crate) fn missing(&self, limits: &Limits) -> Vec<Measure> {
        let wanted = [
            (limits.cpus.is_some(), Controller::Cpu),
            (limits.memory.is_some(), Controller::Memory),
            (limits.processes.is_some(), Controller::Pids),
            (!limits.io.is_empty(), Controller::Io),
        ];
        let missing = wanted.into_iter().filter(|(wanted, controller)| *wanted && !self.has(*controller));
        missing.map(|(_, controller)| controller.measure()).collect()
    }

    /// Makes a job's leaf, with those of the limits that the host has a controller for.
    pub(crate) fn create(&self, id: &JobId, limits: &Limits) -> Result<JobCgroup, CgroupError> {
        let leaf = JobCgroup::create(self.path(id))?;
        // From here on a failure drops the leaf, which removes it.
        if let Some(cpus) = limits.cpus.filter(|_| self.has(Controller::Cpu)) {
            leaf.set("cpu.max", &cpu_max(cpus))?;
        }
        if let Some(bytes) = limits.memory.filter(|_| self.has(Controller::Memory)) {
            leaf.set("memory.max", &bytes.to_string())?;
            leaf.set("memory.oom.group", "1")?;
            // Only where the kernel counts swap.
            leaf.set_if_there("memory.swap.max", "0")?;
        }
        if let Some(processes) = limits.processes.filter(|_| self.has(Controller::Pids)) {
            leaf.set("pids.max", &processes.to_string())?;
        }
        if self.has(Controller::Io) {
            for limit in &limits.io {
                leaf.set("io.max", &io_max(limit))?;
            }
        }
        Ok(leaf)
    }

    fn has(&self, controller: Controller) -> bool {
        self.tree.controllers.contains(&controller)
    }
}

/// statfs(2).
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// Microseconds of a period of as many.
fn cpu_max(cpus: f64) -> String {
    const PERIOD: u32 = 100_000;
    format!("{:.0} {PERIOD}", cpus * f64::from(PERIOD))
}

fn io_max(limit: &crate::limits::IoLimit) -> String {
    let (major, minor) = limit.device;
    let rates = [
        ("rbps", limit.read_bytes),
        ("wbps", limit.write_bytes),
        ("riops", limit.reads),
        ("wiops", limit.writes),
    ];
    rates.iter().fold(format!("{major}:{minor}"), |mut line, (name, rate)| {
        if let Some(rate) = rate {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}={rate}");
        }
        line
    })
}

/// Where this process may make cgroups, if anywhere.
fn delegated_directory() -> Result<PathBuf, CgroupError> {
    let own = fs::read_to_string("/proc/self/cgroup").map_err(io_error("/proc/self/cgroup"))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(CgroupError::NoCgroup2)?;
    let root = mount_point()?;
    // Called a second time, it is in its leaf already.
    let own = Path::new(own);
    let own = own.parent().filter(|_| own.ends_with(SUPERVISOR)).unwrap_or(own);
    Ok(root.join(if own == Path::new("") { Path::new(BELOW_ROOT) } else { own }))
}

/// Where the tree is mounted.
fn mount_point() -> Result<PathBuf, CgroupError> {
    let mounts = fs::read_to_string(MOUNTS).map_err(io_error(MOUNTS))?;
    let found = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
    });
    found.map(PathBuf::from).ok_or(CgroupError::NoCgroup2)
}

/// Hands the controllers that a cgroup has on to those in it, and says which.
fn enable(directory: &Path) -> Result<Vec<Controller>, CgroupError> {
    let found = controllers(directory)?;
    for controller in &found {
        write(&directory.join("cgroup.subtree_control"), &format!("+{}", controller.name()))?;
    }
    Ok(found)
}

/// The processes in a cgroup itself, without this one.
fn others(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let found = text.lines().filter_map(|line| line.parse().ok());
    found.filter(|process| *process != std::process::id()).collect()
}

/// The first of them, by number and name.
fn name_processes(processes: &[u32]) -> String {
    const NAMED: usize = 3;
    let name = |process: &u32| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        if name.is_empty() { process.to_string() } else { format!("{process} {}", name.trim_end()) }
    };
    let mut names: Vec<String> = processes.iter().take(NAMED).map(name).collect();
    if processes.len() > NAMED {
        names.push(format!("{} more", processes.len() - NAMED));
    }
    names.join(", ")
}

/// The controllers that a cgroup has.
fn controllers(directory: &Path) -> Result<Vec<Controller>, CgroupError> {
    let list = directory.join("cgroup.controllers");
    let list = fs::read_to_string(&list).map_err(io_error(&list))?;
    let there = |controller: &Controller| list.split_whitespace().any(|name| name == controller.name());
    Ok(Controller::ALL.into_iter().filter(there).collect())
}

fn make(directory: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error(directory)(error)),
        _ => Ok(()),
    }
}

/// Never makes a file: outside of a cgroup file system that would be an ordinary one.
fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    use std::io::Write as _;
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io_error(path))
}

fn io_error(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.into();
    move |source| CgroupError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::IoLimit;

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        assert_eq!(cpu_max(0.5), "50000 100000");
        assert_eq!(cpu_max(1.999), "199900 100000");
        let limit = IoLimit { device: (8, 0), write_bytes: Some(5), reads: Some(7), ..IoLimit::default() };
        assert_eq!(io_max(&limit), "8:0 wbps=5 riops=7");
    }

    #[test]
    fn an_ordinary_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Cgroups::at(dir.path()), Err(CgroupError::NotACgroup(_))));
    }
}
