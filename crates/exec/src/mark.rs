//! The mark file of a running job: written before it starts, removed when all of it has ended. Must not
//! kill anything.
//!
//! A mark is made in two steps. The first names only the supervisor, so that a supervisor killed between
//! fork and the second step leaves a trace all the same. The second names the leader.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::error::MarkError;
use crate::procfs;
use crate::spec::JobId;

const FIRST_LINE: &str = "airunner-job 1";
/// A file without it was cut off while its first step was written: its job never started.
const LAST_LINE: &str = "end";

/// A process of one boot: a pid alone is reused, with its start time (clock ticks since boot) it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) start: u64,
}

/// What a mark file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) boot: String,
    pub(crate) supervisor: Process,
    /// Its cgroup, if it has one of its own; it may not be made yet.
    pub(crate) cgroup: Option<PathBuf>,
    /// The leader and its group; nobody yet in the first step.
    pub(crate) leader: Option<(Process, Pid)>,
}

/// A mark file of this process. It stays on drop: removing it is the last step of a job's end.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    draft: PathBuf,
    record: Record,
}

impl Mark {
    /// The first step. Blocks, as all here.
    pub(crate) fn place(directory: &Path, id: &JobId, cgroup: Option<PathBuf>) -> Result<Self, MarkError> {
        prepare_directory(directory)?;
        let own = procfs::own().map_err(MarkError::io("/proc/self/stat"))?;
        let boot = procfs::boot_id().map_err(MarkError::io("/proc/sys/kernel/random/boot_id"))?;
        let supervisor = Process { pid: own.pid, start: own.start };
        let record = Record { boot, supervisor, cgroup, leader: None };
        let mark = Self { path: path(directory, id), draft: draft(directory, id), record };
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&mark.path);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(MarkError::Exists(mark.path)),
            Err(error) => Err(MarkError::io(&mark.path)(error)),
            Ok(mut file) => match file.write_all(mark.record.text().as_bytes()) {
                Ok(()) => Ok(mark),
                Err(error) => {
                    mark.remove();
                    Err(MarkError::io(&mark.path)(error))
                }
            },
        }
    }

    /// The second step, atomic: a mark is never seen half-written.
    pub(crate) fn started(&mut self, leader: Pid) -> Result<(), MarkError> {
        let start = procfs::stat(leader).map_err(MarkError::io(format!("/proc/{leader}/stat")))?.start;
        self.record.leader = Some((Process { pid: leader, start }, leader));
        let write = || {
            let mut file: File =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.draft)?;
            file.write_all(self.record.text().as_bytes())?;
            fs::rename(&self.draft, &self.path)
        };
        write().map_err(MarkError::io(&self.draft))
    }

    /// Best effort: a mark that stays is swept at the next start, and finds nobody.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.draft);
        let _ = fs::remove_file(&self.path);
    }
}

impl Record {
    fn text(&self) -> String {
        let Process { pid, start } = self.supervisor;
        let leader = self.leader.map_or(String::new(), |(leader, group)| {
            format!("leader={} {} {group}\n", leader.pid, leader.start)
        });
        // It is UTF-8 and has no line feed: `Cgroups` sees to that.
        let cgroup =
            self.cgroup.as_ref().map_or(String::new(), |path| format!("cgroup={}\n", path.display()));
        format!("{FIRST_LINE}\nboot={}\nsupervisor={pid} {start}\n{cgroup}{leader}{LAST_LINE}\n", self.boot)
    }

    /// `None` if the text is cut off or of another version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.lines();
        (lines.next()? == FIRST_LINE).then_some(())?;
        let boot = lines.next()?.strip_prefix("boot=")?.to_owned();
        let supervisor = numbers(lines.next()?.strip_prefix("supervisor=")?)?;
        let mut next = lines.next()?;
        let mut cgroup = None;
        if let Some(path) = next.strip_prefix("cgroup=") {
            cgroup = Some(PathBuf::from(path));
            next = lines.next()?;
        }
        let mut leader = None;
        if let Some(fields) = next.strip_prefix("leader=") {
            let (process, group) = fields.rsplit_once(' ')?;
            leader = Some((numbers(process)?, procfs::parse_pid(group)?));
            next = lines.next()?;
        }
        (next == LAST_LINE && lines.next().is_none()).then_some(Self { boot, supervisor, cgroup, leader })
    }
}

/// Whether the text was written to its end, in whatever version.
pub(crate) fn is_whole(text: &str) -> bool {
    text.ends_with(&format!("\n{LAST_LINE}\n"))
}

/// Makes the directory if it is missing, and refuses one in which others could put marks.
pub(crate) fn prepare_directory(directory: &Path) -> Result<(), MarkError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(MarkError::io(directory)(error));
        }
        _ => {}
    }
    let meta = fs::metadata(directory).map_err(MarkError::io(directory))?;
    let mine = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && mine && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(MarkError::UnsafeDirectory(directory.to_owned()))
    }
}

/// Where the mark of a job is.
pub(crate) fn path(directory: &Path, id: &JobId) -> PathBuf {
    directory.join(format!("{id}.mark"))
}

/// Where its second step is written. No job's id begins with a point.
pub(crate) fn draft(directory: &Path, id: &JobId) -> PathBuf {
    directory.join(format!(".{id}.draft"))
}

fn numbers(text: &str) -> Option<Process> {
    let (pid, start) = text.split_once(' ')?;
    Some(Process { pid: procfs::parse_pid(pid)?, start: start.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_cut_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let id = JobId::new("job-1").unwrap();
        let cgroup = Some(PathBuf::from("/sys/fs/cgroup/a b/job-1"));
        let mut mark = Mark::place(dir.path(), &id, cgroup).unwrap();
        let read = || fs::read_to_string(path(dir.path(), &id)).unwrap();
        assert_eq!(Record::parse(&read()).unwrap(), mark.record);
        mark.started(rustix::process::getpid()).unwrap();
        let text = read();
        assert_eq!(Record::parse(&text).unwrap(), mark.record);
        assert!(mark.record.leader.is_some());
        for cut in 0..text.len() {
            assert!(Record::parse(&text[..cut]).is_none(), "cut at {cut}");
        }
        mark.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_id_has_one_mark() {
        let dir = tempfile::tempdir().unwrap();
        let id = JobId::new("job-1").unwrap();
        let first = Mark::place(dir.path(), &id, None).unwrap();
        assert!(matches!(Mark::place(dir.path(), &id, None), Err(MarkError::Exists(_))));
        first.remove();
        Mark::place(dir.path(), &id, None).unwrap();
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(prepare_directory(dir.path()), Err(MarkError::UnsafeDirectory(_))));
        let made = dir.path().join("marks");
        prepare_directory(&made).unwrap();
        assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
    }
}
