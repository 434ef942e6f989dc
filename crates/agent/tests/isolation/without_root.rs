//! A worker that is not root: in a cgroup that was delegated to it, as a service manager does, and with its jobs as its own
//! user.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use airunner_core::Isolation as Level;
use airunner_exec::Cgroups;
use airunner_proto::job::v1::{Isolation, JobState};
use tempfile::TempDir;

use crate::{
    bed::{Bed, open_directory, until},
    limits::{cpu_time_holds, memory_holds, processes_hold},
    machine::at,
    origin::{Origin, noise, of},
    secrecy::credentials,
    server::Server,
    trials,
    victim::{CREDENTIALS, WorkerProcess},
};

trials![
    its_limits_hold_or_are_refused_with_their_reason,
    its_jobs_are_its_own_user_and_in_a_sandbox_find_nothing_of_it,
    nothing_of_its_jobs_is_left,
    what_it_keeps_and_who_it_is_are_beyond_jobs_in_sandboxes,
];

/// No user of /etc/passwd.
const USER: u32 = 4_242;

/// A cgroup that is another user's, and a program that this user can execute.
struct Ground {
    cgroup: PathBuf,
    program: TempDir,
}

impl Ground {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // What is there above is handed on.
        let own = Cgroups::delegated().unwrap();
        let above = own.directory();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = above.join(format!("user-{}-{number}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(cgroup.join(name), Some(USER), Some(USER)).unwrap();
        }
        let program = open_directory();
        let copy = program.path().join("worker");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        fs::set_permissions(copy, PermissionsExt::from_mode(0o755)).unwrap();
        Self { cgroup, program }
    }

    fn worker(&self, bed: &Bed, level: Level) -> WorkerProcess {
        WorkerProcess::start_by(bed, level, self.command(), Some(USER))
    }

    /// Becomes the worker.
    fn command(&self) -> Command {
        let become_it =
            "echo $$ >\"$0/cgroup.procs\" && exec setpriv --reuid=$1 --regid=$1 --clear-groups \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", become_it]).arg(&self.cgroup).arg(USER.to_string());
        command.arg(self.program.path().join("worker")).current_dir("/");
        command
    }

    fn jobs(&self) -> usize {
        let found = fs::read_dir(&self.cgroup).unwrap().map(|entry| entry.unwrap().file_name());
        found.filter(|name| name.to_string_lossy().starts_with("job-")).count()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        // A moment after the last process, it is empty.
        for _look in 0..10_000 {
            for entry in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

async fn its_limits_hold_or_are_refused_with_their_reason() {
    let (bed, ground) = (Bed::new().await, Ground::new());
    let _worker = ground.worker(&bed, Level::Limits);
    for level in [Isolation::Limits, Isolation::Sandbox] {
        memory_holds(&bed, level).await;
        processes_hold(&bed, level).await;
        cpu_time_holds(&bed, level).await;
    }
}

async fn its_jobs_are_its_own_user_and_in_a_sandbox_find_nothing_of_it() {
    for level in [Level::Limits, Level::Sandbox] {
        let (bed, ground) = (Bed::new().await, Ground::new());
        let worker = ground.worker(&bed, level);
        let key = worker.identity.path().join("key.pem");
        let line = format!(
            "id -u; cat {0} 2>/dev/null | head -n 1; ls -A {1} 2>/dev/null; ls /proc/{2} >/dev/null 2>&1 && echo seen; \
             tail -n +3 /proc/net/dev | wc -l",
            key.display(),
            worker.state.path().display(),
            worker.id()
        );
        let report = bed.run(at(Isolation::Unspecified, &line)).await;
        assert_eq!(report.state(), JobState::Completed, "{}", report.reason());
        let text = report.text();
        assert!(text.starts_with(&format!("{USER}\n")), "{text}");
        if level == Level::Sandbox {
            // The way to its workspace, and its loopback.
            assert_eq!(text, format!("{USER}\nwork\n1\n"));
        } else {
            // That is what the worker was told to allow: its jobs are its user.
            assert!(text.contains("PRIVATE KEY") && text.contains("seen"), "{text}");
        }
    }
}

async fn nothing_of_its_jobs_is_left() {
    let (bed, ground) = (Bed::new().await, Ground::new());
    let worker = ground.worker(&bed, Level::Limits);
    for level in [Isolation::Limits, Isolation::Sandbox] {
        let report = bed.run(at(level, "(setsid sleep 600 >/dev/null 2>&1 &); echo $AIRUNNER_JOB_ID")).await;
        let id = report.text();
        until(async || ground.jobs() == 0).await;
        let left = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.unwrap().path().join("environ")).ok());
        let is_of_job = |environ: &Vec<u8>| String::from_utf8_lossy(environ).contains(id.trim());
        assert_eq!(left.filter(is_of_job).count(), 0, "{level:?}");
        let workspaces = worker.state.path().join("work");
        until(async || fs::read_dir(&workspaces).is_ok_and(|mut found| found.next().is_none())).await;
    }
}

async fn what_it_keeps_and_who_it_is_are_beyond_jobs_in_sandboxes() {
    let (bed, ground, origin) = (Bed::new().await, Ground::new(), Origin::new());
    origin.commit_file("large", &noise(1, 1 << 20));
    let commit = origin.commit("closed\n");
    let server = Server::start(origin.path());
    let (_place, path) = credentials(&server, USER);
    let mut command = ground.command();
    command.env(CREDENTIALS, &path);
    let worker = WorkerProcess::start_by(&bed, Level::Sandbox, command, Some(USER));
    let line = format!("cat sub/file; cat {}; ls -A {}", path.display(), worker.state.path().display());
    for is_warm in [false, true] {
        let report = bed.run(of(&server.url(".git"), &commit, &line)).await;
        assert_eq!(report.text(), "closed\nwork\n", "{}", report.reason());
        assert_eq!(server.given() < 1 << 20, is_warm);
    }
    // At a lower level they would not be, and so it does not start.
    let mut command = ground.command();
    command.env(CREDENTIALS, &path);
    let mut refused = WorkerProcess::start_by(&bed, Level::Limits, command, Some(USER));
    assert!(!refused.ended().success());
}
