//! How isolated jobs are cleared away while their supervisor lives.

use std::fs;

use airunner_exec::{Exit, Isolation, Job, Position, Signal};
use tokio::time::Duration;

use crate::bench::{bounded, is_empty, line, runs, shell, spawn, until};
use crate::cell::{ISOLATED, at, cgroup_of, inside, is_gone, limited, open_directory};
use crate::trials;

trials![
    a_dropped_handle_ends_the_job_and_all_of_it,
    a_spawn_that_is_given_up_leaves_nothing,
    no_process_escapes_the_kill_of_its_cgroup,
    an_init_that_is_killed_takes_its_sandbox_along,
    no_mount_and_no_file_is_left,
    many_at_once_are_all_told_apart,
    readers_of_the_log_get_every_byte_while_it_runs,
];

async fn a_dropped_handle_ends_the_job_and_all_of_it() {
    for level in ISOLATED {
        let dir = open_directory();
        let marks = dir.path().join("marks");
        let spec = at(level, shell("setsid sleep 600 & echo up; sleep 600")).mark_dir(&marks);
        let (job, mut output) = spawn(spec).await;
        line(&mut output).await;
        let (pid, id) = (job.pid(), job.id().clone());
        let inside = cgroup_of(&id).join("cgroup.procs");
        let mut members: Vec<u32> = Vec::new();
        until("all of it is there", || {
            let listed = fs::read_to_string(&inside).unwrap();
            members = listed.lines().map(|line| line.parse().unwrap()).collect();
            members.len() >= 3
        })
        .await;
        assert!(members.contains(&pid));
        drop(job);
        until("all of it is gone", || members.iter().all(|member| !runs(*member))).await;
        until("its cgroup and its mark are gone", || is_gone(&id) && is_empty(&marks)).await;
    }
}

async fn a_spawn_that_is_given_up_leaves_nothing() {
    for level in ISOLATED {
        let dir = open_directory();
        let marks = dir.path().join("marks");
        let spec = at(level, shell("exec sleep 600")).mark_dir(&marks);
        let id = crate::bench::id();
        {
            // Polled once, which starts it, and dropped.
            let mut spawning = Box::pin(Job::spawn(spec));
            let waker = std::task::Waker::noop();
            let started = spawning.as_mut().poll(&mut std::task::Context::from_waker(waker));
            assert!(started.is_pending());
        }
        until("its mark was made and is gone", || marks.exists() && is_empty(&marks)).await;
        assert!(is_gone(&id));
    }
}

async fn no_process_escapes_the_kill_of_its_cgroup() {
    // Each in a session of its own, and the parent gone; with signals ignored.
    let script = "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'trap \"\" TERM HUP INT; sleep 600 & echo up; wait' & done; wait";
    let (job, mut output) = spawn(limited(shell(script))).await;
    let mut seen = 0;
    while seen < 8 {
        seen += line(&mut output).await.lines().count();
    }
    let inside = cgroup_of(job.id()).join("cgroup.procs");
    let mut members: Vec<u32> = Vec::new();
    until("all of them are there", || {
        let listed = fs::read_to_string(&inside).unwrap();
        members = listed.lines().map(|line| line.parse().unwrap()).collect();
        members.len() >= 16
    })
    .await;
    let completion = bounded(job.stop(Signal::Kill, Duration::ZERO)).await;
    assert_eq!((completion.exit, completion.survivors.len()), (Exit::Signal(9), 0));
    assert!(members.iter().all(|member| !runs(*member)) && is_gone(job.id()));
}

async fn an_init_that_is_killed_takes_its_sandbox_along() {
    let (job, mut output) = spawn(inside("setsid sleep 600 & echo up; sleep 600")).await;
    line(&mut output).await;
    crate::bench::kill(job.pid(), rustix::process::Signal::KILL);
    assert_eq!(bounded(job.wait()).await.exit, Exit::Signal(9));
    assert!(is_gone(job.id()));
}

async fn no_mount_and_no_file_is_left() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let temporary = || fs::read_dir("/tmp").unwrap().count();
    let (before, _) = (mounts(), temporary());
    for _ in 0..5 {
        let (job, _output) = spawn(inside("touch /tmp/left-by-a-job; exit 0")).await;
        bounded(job.wait()).await;
        assert!(!fs::exists("/tmp/left-by-a-job").unwrap());
    }
    assert_eq!(mounts(), before);
}

async fn many_at_once_are_all_told_apart() {
    let one = async |number: i32| {
        let level = if number % 2 == 0 { Isolation::Sandbox } else { Isolation::Limits };
        let (completion, stdout, _) =
            crate::bench::run(at(level, shell(&format!("echo {number}; exit {number}")))).await;
        assert_eq!(completion.exit, Exit::Code(number));
        assert_eq!(stdout, format!("{number}\n").into_bytes());
    };
    let mut running = tokio::task::JoinSet::new();
    for number in 0..24 {
        running.spawn(one(number));
    }
    while let Some(done) = bounded(running.join_next()).await {
        done.unwrap();
    }
}

async fn readers_of_the_log_get_every_byte_while_it_runs() {
    let dir = open_directory();
    let spec = inside("echo one; echo two >&2; read -r line; echo $line").stdin(airunner_exec::Stdin::Piped);
    let (mut job, output) = spawn(spec.log_dir(dir.path().join("log"))).await;
    drop(output);
    let mut first = job.output_from(Position::Start).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 8 {
        seen.extend(bounded(first.next()).await.unwrap().unwrap().bytes);
    }
    let mut late = job.output_from(Position::Now).unwrap();
    job.input().unwrap().write(b"three\n").await.unwrap();
    let rest = async |reader: &mut airunner_exec::LogReader| {
        let mut bytes = Vec::new();
        while let Some(piece) = bounded(reader.next()).await.unwrap() {
            bytes.extend(piece.bytes);
        }
        bytes
    };
    assert_eq!(rest(&mut late).await, b"three\n");
    assert_eq!(rest(&mut first).await, b"three\n");
    let mut again = job.output_from(Position::Start).unwrap();
    assert_eq!(rest(&mut again).await.len(), 14);
}
