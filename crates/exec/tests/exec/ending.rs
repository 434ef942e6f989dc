//! How jobs end, by themselves and by force, and that nothing of them is left.

use std::fs;
use std::time::Duration;

use airunner_exec::{Exit, Job, STOP_GRACE, Signal, Spec, Status};

use crate::bench::{bounded, collect, is_empty, kill, line, members, run, runs, shell, spawn, until};

/// Three processes beside the leader, one of them an orphan.
const FAMILY: &str = "sleep 600 & sh -c 'sleep 600 & sleep 600' & sh -c 'sleep 600 & exit'; echo ready";

fn holding(script: &str) -> Spec {
    shell(&format!("{FAMILY}; {script}"))
}

/// A grace that no test waits for: what ends before it ended for another reason.
const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn when_the_leader_exits_its_group_goes_and_the_output_ends() {
    let (job, mut output) = spawn(holding("exit 5")).await;
    let completion = bounded(job.wait()).await;
    assert_eq!((completion.exit, completion.survivors.len()), (Exit::Code(5), 0));
    assert_eq!(members(job.pid()), [0; 0]);
    // The grandchildren had the pipes, too.
    assert_eq!(collect(&mut output).await.0, b"ready\n");
    assert!(!bounded(job.drained()).await.unwrap().held);
}

#[tokio::test]
async fn a_stop_lets_the_job_clear_up() {
    let (job, mut output) = spawn(holding("trap 'echo bye; exit 3' TERM; echo set; wait")).await;
    while line(&mut output).await.lines().last() != Some("set") {}
    let completion = bounded(job.stop(Signal::default(), LONG)).await;
    assert_eq!(completion.exit, Exit::Code(3));
    assert_eq!(collect(&mut output).await.0, b"bye\n");
    assert_eq!(members(job.pid()), [0; 0]);
    assert_eq!(STOP_GRACE, Duration::from_secs(10));
}

#[tokio::test]
async fn the_signal_reaches_the_whole_group() {
    let script = "trap : USR1; \
        sh -c 'trap \"echo child; exit\" USR1; echo set; while :; do sleep 0.01; done' & wait; wait; exit 4";
    let (job, mut output) = spawn(shell(script)).await;
    line(&mut output).await;
    assert_eq!(bounded(job.stop(Signal::Usr1, LONG)).await.exit, Exit::Code(4));
    assert_eq!(collect(&mut output).await.0, b"child\n");
}

#[tokio::test]
async fn a_job_that_ignores_the_signal_is_killed_after_the_grace() {
    let (job, mut output) = spawn(shell("trap '' TERM; echo set; while :; do sleep 600; done")).await;
    line(&mut output).await;
    let completion = bounded(job.stop(Signal::Term, Duration::from_millis(50))).await;
    assert_eq!(completion.exit, Exit::Signal(9));
    assert_eq!(members(job.pid()), [0; 0]);
}

#[tokio::test]
async fn no_grace_kills_at_once() {
    let (job, mut output) = spawn(holding("trap 'echo never' TERM; echo set; wait")).await;
    while line(&mut output).await.lines().last() != Some("set") {}
    let completion = bounded(job.stop(Signal::Term, Duration::ZERO)).await;
    assert_eq!(completion.exit, Exit::Signal(9));
    assert_eq!(collect(&mut output).await.0, b"");
}

#[tokio::test]
async fn of_two_stops_the_earlier_kill_counts() {
    let (job, mut output) =
        spawn(shell("trap 'echo heard' TERM; echo set; while :; do sleep 600; done")).await;
    line(&mut output).await;
    let mut patient = Box::pin(job.stop(Signal::Term, Duration::from_millis(50)));
    // Polled once, so that it has asked.
    assert!(tokio::time::timeout(Duration::ZERO, &mut patient).await.is_err());
    let completion = bounded(job.stop(Signal::Term, LONG)).await;
    assert_eq!(completion.exit, Exit::Signal(9));
    assert_eq!(bounded(patient).await, completion);
    assert_eq!(bounded(job.stop(Signal::Term, LONG)).await, completion, "an ended job is left alone");
}

#[tokio::test]
async fn a_suspended_job_hears_the_signal() {
    let (job, mut output) = spawn(shell("trap 'exit 6' TERM; echo set; while :; do sleep 0.01; done")).await;
    line(&mut output).await;
    kill(job.pid(), rustix::process::Signal::STOP);
    until("it is suspended", || crate::bench::stat_field(job.pid(), 3).as_deref() == Some("T")).await;
    assert_eq!(job.status(), Status::Running);
    assert_eq!(bounded(job.stop(Signal::Term, LONG)).await.exit, Exit::Code(6));
}

#[tokio::test]
async fn a_dropped_handle_ends_the_job_and_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let (job, mut output) = spawn(holding("wait").mark_dir(&marks)).await;
    line(&mut output).await;
    let pid = job.pid();
    assert!(!is_empty(&marks) && members(pid).len() > 1);
    drop(job);
    collect(&mut output).await;
    until("the mark is gone", || is_empty(&marks)).await;
    assert_eq!(members(pid), [0; 0]);
}

#[test]
fn a_runtime_that_ends_takes_its_jobs_along() {
    let dir = tempfile::tempdir().unwrap();
    let marks = dir.path().join("marks");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (job, _output) = first.block_on(async {
        let (job, mut output) = spawn(holding("wait").mark_dir(&marks)).await;
        line(&mut output).await;
        (job, output)
    });
    drop(first);
    let second = runtime();
    second.block_on(until("the group and the mark are gone", || {
        members(job.pid()).is_empty() && is_empty(&marks)
    }));
    assert_eq!(second.block_on(job.wait()).exit, Exit::Lost);
    assert!(second.block_on(job.drained()).unwrap().held);
}

#[tokio::test]
async fn a_spawn_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (marks, logs) = (dir.path().join("marks"), dir.path().join("logs"));
    let spec = holding("wait").mark_dir(&marks).log_dir(&logs);
    let id = format!("{spec:?}");
    let id = id.split('"').nth(1).unwrap().to_owned();
    let mut spawning = Box::pin(Job::spawn(spec));
    assert!(
        std::future::poll_fn(|context| std::task::Poll::Ready(spawning.as_mut().poll(context).is_pending()))
            .await
    );
    until("it has begun", || logs.exists()).await;
    drop(spawning);
    until("mark and logs are gone", || is_empty(&marks) && !logs.exists()).await;
    let carries =
        |pid: &str| fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| contains(&all, id.as_bytes()));
    until("no process carries its id", || {
        !fs::read_dir("/proc").unwrap().any(|entry| carries(&entry.unwrap().file_name().to_string_lossy()))
    })
    .await;
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn the_time_used_is_told_at_the_end() {
    let (job, _output) = spawn(shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")).await;
    assert!(job.usage().is_none());
    let completion = bounded(job.wait()).await;
    let usage = completion.usage.unwrap();
    assert!(usage.user + usage.system > Duration::ZERO, "{usage:?}");
    assert_eq!(job.usage(), Some(usage));
}

#[tokio::test]
async fn a_leader_that_joined_another_group_is_killed_too() {
    // Perl's setpgrp moves the leader into the group of its child.
    let script = "my $c = fork // die; if (!$c) { setpgrp(0, 0); print qq(up\\n); sleep 600; exit } \
        $| = 1; select(undef, undef, undef, 0.01) until getpgrp($c) == $c; setpgrp(0, $c); print qq(moved\\n); sleep 600";
    let (job, mut output) =
        spawn(crate::bench::command("perl").args(["-e", &format!("$| = 1; {script}")])).await;
    while !line(&mut output).await.contains("moved") {}
    let group: u32 = crate::bench::stat_field(job.pid(), 5).unwrap().parse().unwrap();
    assert_ne!(group, job.pid());
    assert_eq!(bounded(job.stop(Signal::Term, Duration::ZERO)).await.exit, Exit::Signal(9));
    assert!(!runs(job.pid()));
    // Its child had left the group: that is beyond this isolation level.
    for stray in members(group) {
        kill(stray, rustix::process::Signal::KILL);
    }
}

#[tokio::test]
async fn sixty_four_jobs_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let mut jobs = Vec::new();
    for number in 0..64 {
        // Opening the fifo waits until all are there.
        let script = format!("echo {number}; sleep 600 & exec 3<{}; exit {number}", gate.display());
        let (job, mut output) = spawn(shell(&script)).await;
        assert_eq!(line(&mut output).await, number.to_string());
        jobs.push((job, output));
    }
    assert!(jobs.iter().all(|(job, _)| job.status() == Status::Running));
    let opened =
        tokio::task::spawn_blocking(move || fs::OpenOptions::new().read(true).write(true).open(gate));
    let _gate = bounded(opened).await.unwrap().unwrap();
    for (number, (job, mut output)) in (0..).zip(jobs) {
        assert_eq!(bounded(job.wait()).await.exit, Exit::Code(number));
        collect(&mut output).await;
        assert_eq!(members(job.pid()), [0; 0]);
    }
}

#[tokio::test]
async fn a_fork_storm_is_ended() {
    // Each process starts another and exits: the group never stands still.
    let script =
        "my $n = 0; $| = 1; print qq(up\\n); while (1) { my $c = fork // next; exit if $c && $n++; }";
    let keep = format!("if (fork) {{ sleep 600 }} else {{ {script} }}");
    let (job, mut output) = spawn(crate::bench::command("perl").args(["-e", &keep])).await;
    line(&mut output).await;
    let completion = bounded(job.stop(Signal::Term, Duration::ZERO)).await;
    assert_eq!((completion.exit, completion.survivors.len()), (Exit::Signal(9), 0));
    assert_eq!(members(job.pid()), [0; 0]);
    let (again, ..) = run(shell("true")).await;
    assert_eq!(again.exit, Exit::Code(0));
}
