//! What happens around the supervising process: its death, the sweep after it, its own traces.
//!
//! The tests marked as ignored are roles: other tests run them in a process of their own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use airunner_exec::{
    Exit, JOB_ID_VARIABLE, Job, JobId, MarkError, SpawnError, Status, Swept, harden_self, resolve_user, sweep,
};
use rustix::process::Signal;

use crate::bench::{
    bounded, collect, id, is_empty, is_root, kill, line, members, run, runs, shell, spawn, stat_field,
    stdout_of, until,
};

const DIRECTORY: &str = "AIRUNNER_TEST_MARKS";

/// This test binary, to run only that role.
fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("supervisor::{name}"), "--ignored", "--nocapture"]);
    command
}

#[tokio::test]
#[ignore = "a role: holds a job until it is killed"]
async fn supervisor_role() {
    let marks = std::env::var_os(DIRECTORY).unwrap();
    let family = "sleep 600 & sh -c 'sleep 600 & sleep 600' & echo ready; wait";
    let (job, mut output) = spawn(shell(family).mark_dir(marks)).await;
    line(&mut output).await;
    writeln!(std::io::stdout(), "\njob {} {}", job.id(), job.pid()).unwrap();
    job.wait().await;
}

/// A supervisor with a running job, killed.
async fn killed_supervisor(marks: &Path) -> (JobId, u32) {
    let mut supervisor =
        role("supervisor_role").env(DIRECTORY, marks).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = supervisor.stdout.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix("job ").map(str::to_owned)).unwrap()
    });
    let said = bounded(read).await.unwrap();
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let (id, pid) = said.split_once(' ').unwrap();
    (JobId::new(id).unwrap(), pid.parse().unwrap())
}

#[tokio::test]
async fn what_a_killed_supervisor_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let (job, pid) = killed_supervisor(&marks).await;
    assert!(members(pid).len() >= 3, "the job outlives its supervisor");
    assert!(!is_empty(&marks));
    assert_eq!(bounded(sweep(&marks)).await.unwrap(), Swept { killed: vec![job], ..Swept::default() });
    assert_eq!(members(pid), [0; 0]);
    assert!(is_empty(&marks));
    assert_eq!(bounded(sweep(&marks)).await.unwrap(), Swept::default());
}

#[tokio::test]
async fn members_are_swept_when_their_leader_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let (job, pid) = killed_supervisor(&marks).await;
    kill(pid, Signal::KILL);
    until("the leader is gone", || !runs(pid)).await;
    assert!(!members(pid).is_empty());
    assert_eq!(bounded(sweep(&marks)).await.unwrap().killed, [job]);
    assert_eq!(members(pid), [0; 0]);
    assert!(is_empty(&marks));
}

#[tokio::test]
async fn a_job_that_ended_after_its_supervisor_leaves_only_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let (job, pid) = killed_supervisor(&marks).await;
    until("the group is gone", || {
        let left = members(pid);
        for member in &left {
            kill(*member, Signal::KILL);
        }
        left.is_empty()
    })
    .await;
    assert_eq!(bounded(sweep(&marks)).await.unwrap().cleared, [job]);
    assert!(is_empty(&marks));
}

/// A process that is no job, in a group of its own, and is ended with the test.
struct Bystander(Child);

impl Bystander {
    fn new(env: Option<&JobId>) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").process_group(0).envs(env.map(|id| (JOB_ID_VARIABLE, id.as_str())));
        Self(command.spawn().unwrap())
    }

    fn start(&self) -> u64 {
        stat_field(self.0.id(), 22).unwrap().parse().unwrap()
    }

    /// A mark as a supervisor that is gone would have left it.
    fn mark(marks: &Path, id: &JobId, leader: &str) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let text = format!("airunner-job 1\nboot={}\nsupervisor={} 1\n{leader}end\n", boot.trim(), i32::MAX);
        fs::write(marks.join(format!("{id}.mark")), text).unwrap();
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_reused_pid_is_never_killed() {
    let marks = private_directory();
    let (reused, exact) = (id(), id());
    let (innocent, guilty) = (Bystander::new(None), Bystander::new(None));
    let leader = |of: &Bystander, start| format!("leader={0} {start} {0}\n", of.0.id());
    // Same pid and group, but it began later than the mark says.
    Bystander::mark(marks.path(), &reused, &leader(&innocent, innocent.start() - 1));
    Bystander::mark(marks.path(), &exact, &leader(&guilty, guilty.start()));
    let swept = bounded(sweep(marks.path())).await.unwrap();
    assert_eq!((swept.cleared, swept.killed), (vec![reused], vec![exact]));
    assert!(runs(innocent.0.id()) && !runs(guilty.0.id()));
}

#[tokio::test]
async fn a_supervisor_killed_before_it_named_the_leader_is_swept_by_the_environment() {
    let marks = private_directory();
    let (job, other) = (id(), id());
    let (left, innocent) = (Bystander::new(Some(&job)), Bystander::new(Some(&other)));
    Bystander::mark(marks.path(), &job, "");
    assert_eq!(bounded(sweep(marks.path())).await.unwrap().killed, [job]);
    assert!(!runs(left.0.id()) && runs(innocent.0.id()));
}

#[tokio::test]
async fn a_running_supervisor_keeps_its_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let spec = shell("echo up; exec sleep 600").mark_dir(&marks);
    let (job, mut output) = spawn(spec.clone()).await;
    line(&mut output).await;
    assert_eq!(bounded(sweep(&marks)).await.unwrap().live, [job.id().clone()]);
    assert_eq!(job.status(), Status::Running);
    assert!(runs(job.pid()));
    assert!(matches!(Job::spawn(spec).await, Err(SpawnError::Mark(MarkError::Exists(_)))), "one id, one job");
}

#[tokio::test]
async fn only_marks_that_are_ours_are_touched() {
    let marks = private_directory();
    for name in ["README", "other.txt", ".x.mark", "a b.mark"] {
        fs::write(marks.path().join(name), "").unwrap();
    }
    fs::write(marks.path().join("newer.mark"), "airunner-job 2\nend\n").unwrap();
    fs::write(marks.path().join("cut.mark"), "airunner-jo").unwrap();
    let swept = bounded(sweep(marks.path())).await.unwrap();
    let ids = |name| vec![JobId::new(name).unwrap()];
    assert_eq!(swept, Swept { cleared: ids("cut"), unknown: ids("newer"), ..Swept::default() });
    assert_eq!(fs::read_dir(marks.path()).unwrap().count(), 5);
    assert_eq!(bounded(sweep(marks.path().join("missing"))).await.unwrap(), Swept::default());
}

fn private_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

#[test]
fn many_jobs_leave_neither_descriptors_nor_processes() {
    assert!(role("trace_role").stdout(Stdio::null()).status().unwrap().success());
}

#[tokio::test]
#[ignore = "a role: counts what its process holds, so it must be alone in it"]
async fn trace_role() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let one = async |number: u32| {
        let spec = shell("sleep 600 & echo out; echo err >&2; exit 1").mark_dir(&marks);
        let (completion, ..) = run(spec.log_dir(dir.path().join(number.to_string()))).await;
        assert_eq!(completion.exit, Exit::Code(1));
        let missing = shell("").mark_dir(&marks).directory("/missing").log_dir(dir.path().join("none"));
        assert!(Job::spawn(missing).await.is_err());
    };
    // The first also opens what the runtime keeps.
    one(0).await;
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for number in 1..=64 {
        one(number).await;
    }
    // The last pump may still be on its way out.
    until("all descriptors are closed", || descriptors() == before).await;
    let own = std::process::id().to_string();
    let children = fs::read_dir("/proc").unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        pid.and_then(|pid| stat_field(pid, 4)).is_some_and(|parent| parent == own)
    });
    assert_eq!(children.count(), 0, "no child is left, not even a zombie");
    assert!(is_empty(&marks));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 66, "65 logs and the marks' directory");
}

#[test]
fn a_hardened_process_dumps_nothing_and_still_runs_jobs() {
    assert!(role("hardened_role").stdout(Stdio::null()).status().unwrap().success());
}

#[tokio::test]
#[ignore = "a role: hardens its whole process"]
async fn hardened_role() {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
    harden_self().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let limit = getrlimit(Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    let read = format!("cat /proc/{}/environ >/dev/null 2>&1 || echo refused; ulimit -c", std::process::id());
    let spec = shell(&read);
    // Root may read all, so it runs the job as somebody else; another user's own jobs are refused as well.
    let spec = if is_root() { spec.run_as(resolve_user("nobody").unwrap()) } else { spec };
    assert_eq!(stdout_of(spec).await, "refused\n0\n");
    let (_job, mut output) = spawn(shell("echo out")).await;
    assert_eq!(collect(&mut output).await.0, b"out\n");
}
