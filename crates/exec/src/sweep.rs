//! Ends what a killed supervisor left running, by the marks it left. Must never touch a process that is not
//! proven to be a job's: pids are reused.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::task::spawn_blocking;

use crate::cgroup::{self, Leaf};
use crate::error::MarkError;
use crate::mark::{Process, Record};
use crate::procfs::{self, Stat};
use crate::spec::{JOB_ID_VARIABLE, JobId};
use crate::{group, mark};

/// What a sweep found, each job once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes were left, and were killed; the mark is gone.
    pub killed: Vec<JobId>,
    /// Only the mark was left, and is gone.
    pub cleared: Vec<JobId>,
    /// The job's supervisor runs: not touched.
    pub live: Vec<JobId>,
    /// Something of it outlived the kill by five seconds, so the mark stays for the next sweep.
    pub survived: Vec<JobId>,
    /// The mark is of another version of this library: not touched.
    pub unknown: Vec<JobId>,
}

struct Found {
    id: JobId,
    verdict: Verdict,
}

enum Verdict {
    Live,
    Unknown,
    Ended,
    /// Killed, and these are to be waited for.
    Killed {
        groups: Vec<Pid>,
        cgroup: Option<Leaf>,
    },
}

/// Kills the jobs whose supervisor was killed, as their marks in `directory` tell, and removes the marks.
///
/// Call it at start, before the first job; each supervisor needs a directory of its own. A group is killed only if its leader still has the pid and the
/// start time of the mark, or if a member began with the job's [`JOB_ID_VARIABLE`]; a supervisor that runs,
/// this process among them, keeps its jobs. Marks of an earlier boot are removed. A job's cgroup is killed and removed
/// with all that is in it; without one, what left the job's group is not found.
///
/// # Errors
/// [`MarkError`] if the directory is writable by others or unreadable. A missing one is an empty one.
pub async fn sweep(directory: impl Into<PathBuf>) -> Result<Swept, MarkError> {
    let directory = directory.into();
    let place = directory.clone();
    let Ok(found) = spawn_blocking(move || search(&place)).await else { return Ok(Swept::default()) };
    let mut swept = Swept::default();
    for Found { id, verdict } in found? {
        match verdict {
            Verdict::Live => swept.live.push(id),
            Verdict::Unknown => swept.unknown.push(id),
            Verdict::Ended => {
                unmark(&directory, &id).await;
                swept.cleared.push(id);
            }
            Verdict::Killed { groups, cgroup } => {
                let mut left = false;
                for group in groups {
                    left |= !group::settle(group).await.is_empty();
                }
                if let Some(cgroup) = cgroup {
                    left |= !cgroup.settle().await.is_empty();
                    cgroup.remove();
                }
                if left {
                    swept.survived.push(id);
                } else {
                    unmark(&directory, &id).await;
                    swept.killed.push(id);
                }
            }
        }
    }
    Ok(swept)
}

/// Best effort: a mark that stays is found again by the next sweep.
async fn unmark(directory: &Path, id: &JobId) {
    let (mark, draft) = (mark::path(directory, id), mark::draft(directory, id));
    let _ = spawn_blocking(move || [fs::remove_file(draft), fs::remove_file(mark)]).await;
}

/// Reads the marks and kills. Waiting is for the caller: this blocks, but never for long.
fn search(directory: &Path) -> Result<Vec<Found>, MarkError> {
    let refuse = || MarkError::io(directory);
    if !directory.try_exists().map_err(refuse())? {
        return Ok(Vec::new());
    }
    mark::prepare_directory(directory)?;
    let mut marks = Vec::new();
    for entry in fs::read_dir(directory).map_err(refuse())? {
        let path = entry.map_err(refuse())?.path();
        if path.extension().is_some_and(|extension| extension == "mark")
            && let Some(Ok(id)) = path.file_stem().and_then(|stem| stem.to_str()).map(JobId::new)
        {
            marks.push((id, fs::read_to_string(&path).map_err(MarkError::io(&path))?));
        }
    }
    if marks.is_empty() {
        return Ok(Vec::new());
    }
    let boot = procfs::boot_id().map_err(MarkError::io("/proc/sys/kernel/random/boot_id"))?;
    let processes = procfs::all().map_err(MarkError::io("/proc"))?;
    let judge = |(id, text): (JobId, String)| {
        let verdict = judge(&id, &text, &boot, &processes);
        Found { id, verdict }
    };
    Ok(marks.into_iter().map(judge).collect())
}

fn judge(id: &JobId, text: &str, boot: &str, processes: &[Stat]) -> Verdict {
    let Some(record) = Record::parse(text) else {
        // The first step was cut off, so nothing was started.
        return if mark::is_whole(text) { Verdict::Unknown } else { Verdict::Ended };
    };
    if record.boot != boot {
        return Verdict::Ended;
    }
    if processes.iter().any(|stat| stat.alive() && is(stat, record.supervisor)) {
        return Verdict::Live;
    }
    let entry = format!("{JOB_ID_VARIABLE}={id}");
    // The cgroup has the job's name and holds nothing else: what is in it is the job's, wherever it moved itself.
    let cgroup = record.cgroup.as_deref().map(cgroup::leaf_at).filter(Leaf::exists);
    let mut killed = false;
    if let Some(cgroup) = &cgroup {
        killed = cgroup.is_populated();
        cgroup.kill();
    }
    let mut groups = Vec::new();
    for stat in processes.iter().filter(|stat| stat.alive()) {
        let Some(target) = target(stat, &record, &entry) else { continue };
        if end(stat, target) {
            killed = true;
            if let Target::Group(group) = target
                && !groups.contains(&group)
            {
                groups.push(group);
            }
        }
    }
    if !killed && let Some(cgroup) = &cgroup {
        cgroup.remove();
    }
    if killed { Verdict::Killed { groups, cgroup } } else { Verdict::Ended }
}

/// What is proven to be the job's when a process is seen: that process with its group, or only the process.
#[derive(Debug, Clone, Copy)]
enum Target {
    Group(Pid),
    Alone,
}

fn target(stat: &Stat, record: &Record, entry: &str) -> Option<Target> {
    let Some((leader, group)) = record.leader else {
        // Killed before it could name the leader, which is the marked process that leads its own group. Of
        // others the group is not proven.
        let marked = stat.start >= record.supervisor.start && procfs::environ_has(stat.pid, entry);
        let target = if stat.group == Some(stat.pid) { Target::Group(stat.pid) } else { Target::Alone };
        return marked.then_some(target);
    };
    let member = stat.group == Some(group) && stat.start >= leader.start;
    let proven = is(stat, leader) || (member && procfs::environ_has(stat.pid, entry));
    proven.then_some(Target::Group(group))
}

fn is(stat: &Stat, process: Process) -> bool {
    stat.pid == process.pid && stat.start == process.start
}

/// Kills a process that was seen, and the group if it is still in it. Whether it was still there.
///
/// A group's number is not reused while it has a member: the process is stopped first, so that it cannot
/// leave between the last look at it and the kill of its group.
fn end(seen: &Stat, target: Target) -> bool {
    let Ok(handle) = pidfd_open(seen.pid, PidfdFlags::empty()) else { return false };
    let same = || procfs::stat(seen.pid).ok().filter(|now| now.start == seen.start && now.alive());
    if same().is_none() || pidfd_send_signal(&handle, Signal::STOP).is_err() {
        return false;
    }
    if let Target::Group(group) = target
        && same().is_some_and(|now| now.group == Some(group))
    {
        group::kill_members(group);
    }
    // A leader may have moved itself to another group. It fails only if the process is gone.
    let _ = pidfd_send_signal(&handle, Signal::KILL);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, group: i32, start: u64) -> Stat {
        let (pid, group) = (Pid::from_raw(pid).unwrap(), Pid::from_raw(group));
        Stat { pid, state: 'S', group, user_ticks: 0, system_ticks: 0, start }
    }

    /// Pids beyond the kernel's largest, so that a mistake here can meet no process.
    const LEADER: i32 = i32::MAX - 7;
    const SUPERVISOR: i32 = i32::MAX - 8;

    fn text(leader: &str) -> String {
        format!("airunner-job 1\nboot=b\nsupervisor={SUPERVISOR} 10\n{leader}end\n")
    }

    #[test]
    fn only_the_leader_of_the_mark_is_proven_by_numbers() {
        let record = Record::parse(&text(&format!("leader={LEADER} 20 {LEADER}\n"))).unwrap();
        let proven = |stat| target(&stat, &record, "X=1").is_some();
        assert!(proven(stat(LEADER, LEADER, 20)));
        assert!(!proven(stat(LEADER, LEADER, 21)), "a reused pid");
        assert!(!proven(stat(LEADER + 1, LEADER, 30)), "a member without the environment mark");
    }

    #[test]
    fn a_mark_is_judged_by_its_supervisor_its_boot_and_its_form() {
        let id = JobId::new("a").unwrap();
        let judged = |text: &str, boot, processes: &[Stat]| judge(&id, text, boot, processes);
        let whole = text("");
        assert!(matches!(judged(&whole, "b", &[stat(SUPERVISOR, 1, 10)]), Verdict::Live));
        assert!(matches!(judged(&whole, "b", &[stat(SUPERVISOR, 1, 11)]), Verdict::Ended), "another process");
        assert!(matches!(judged(&whole, "c", &[stat(SUPERVISOR, 1, 10)]), Verdict::Ended), "another boot");
        assert!(matches!(judged(&whole[..20], "b", &[]), Verdict::Ended), "cut off");
        assert!(matches!(judged("airunner-job 2\nend\n", "b", &[]), Verdict::Unknown));
        let mut zombie = stat(SUPERVISOR, 1, 10);
        zombie.state = 'Z';
        assert!(matches!(judged(&whole, "b", &[zombie]), Verdict::Ended));
    }
}
