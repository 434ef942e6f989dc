//! What holds at every level: how a job runs, what it gets, and how its end is told.

use std::fs;

use airunner_exec::{Exit, Job, Signal, Spec, Stdin};
use tokio::time::Duration;

use crate::bench::{bounded, collect, command, line, run, runs, shell, spawn, stdout_of, until};
use crate::cell::{ISOLATED, LEVELS, at, inside, is_gone, nobody, open, open_directory, sandboxed};
use crate::trials;

trials![
    every_exit_is_told_exactly,
    arguments_and_environment_are_what_was_asked_for,
    bytes_are_exact_in_both_streams,
    input_arrives_and_its_end_does,
    the_working_directory_is_the_one_asked_for,
    jobs_run_as_their_user_without_our_groups,
    no_descriptor_and_no_environment_of_ours_reaches_a_job,
    signals_begin_at_their_defaults,
    a_stop_reaches_the_command_and_its_own_exit_is_told,
    whoever_ignores_the_signal_is_killed_after_the_grace,
    a_suspended_job_hears_the_signal,
    the_whole_tree_ends_with_its_leader,
    an_orphan_is_reaped_while_the_job_runs,
    core_files_are_never_written,
];

async fn every_exit_is_told_exactly() {
    for level in LEVELS {
        for (script, exit) in [
            ("exit 0", Exit::Code(0)),
            ("exit 1", Exit::Code(1)),
            ("exit 137", Exit::Code(137)),
            ("exit 255", Exit::Code(255)),
            ("kill -TERM $$", Exit::Signal(15)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("kill -USR1 $$", Exit::Signal(10)),
        ] {
            let spec = at(level, shell(script));
            let id = spec.clone();
            let (completion, ..) = run(spec).await;
            assert_eq!(completion.exit, exit, "{level:?}: {script}");
            assert!(completion.survivors.is_empty() && is_gone(&job_id(&id)), "{level:?}");
        }
    }
}

/// Debug shows it.
fn job_id(spec: &Spec) -> airunner_exec::JobId {
    let shown = format!("{spec:?}");
    let id = shown.split('"').nth(1).unwrap();
    airunner_exec::JobId::new(id).unwrap()
}

async fn arguments_and_environment_are_what_was_asked_for() {
    for level in ISOLATED {
        let odd = ["", "a b", "$HOME", "*", "\n", "\u{fffd}é"];
        let spec = at(level, command("printf").arg("%s|").args(odd));
        assert_eq!(stdout_of(spec).await, "|a b|$HOME|*|\n|\u{fffd}é|", "{level:?}");
        let spec = at(level, command("env").env("A", "b=c").env("EMPTY", ""));
        let mut lines: Vec<String> = stdout_of(spec).await.lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with("AIRUNNER_JOB_ID=test-"));
        lines.sort();
        assert_eq!(lines, ["A=b=c", "EMPTY=", "PATH=/usr/local/bin:/usr/bin:/bin"], "{level:?}");
    }
}

async fn bytes_are_exact_in_both_streams() {
    const TOTAL: usize = 3 << 20;
    for level in ISOLATED {
        let script = format!("head -c {TOTAL} /dev/zero; printf 'no line feed' >&2");
        let (completion, stdout, stderr) = run(at(level, shell(&script))).await;
        assert_eq!(completion.exit, Exit::Code(0));
        assert!(stdout.len() == TOTAL && stdout.iter().all(|byte| *byte == 0), "{level:?}");
        assert_eq!(stderr, b"no line feed", "{level:?}");
    }
}

async fn input_arrives_and_its_end_does() {
    for level in ISOLATED {
        let (mut job, mut output) = spawn(at(level, command("cat").stdin(Stdin::Piped))).await;
        let mut input = job.input().unwrap();
        bounded(input.write(b"one\0two")).await.unwrap();
        drop(input);
        assert_eq!(collect(&mut output).await.0, b"one\0two", "{level:?}");
        let empty = stdout_of(at(level, command("cat"))).await;
        assert_eq!(empty, "", "{level:?}");
    }
}

async fn the_working_directory_is_the_one_asked_for() {
    for level in ISOLATED {
        assert_eq!(stdout_of(at(level, command("pwd"))).await, "/\n");
        assert_eq!(stdout_of(at(level, command("pwd").directory("/usr/bin"))).await, "/usr/bin\n");
    }
}

async fn jobs_run_as_their_user_without_our_groups() {
    let nobody = nobody();
    for level in LEVELS {
        let ids = stdout_of(at(level, shell("id -u; id -g; id -G"))).await;
        assert_eq!(ids, format!("{}\n{1}\n{1}\n", nobody.uid, nobody.gid), "{level:?}");
    }
}

async fn no_descriptor_and_no_environment_of_ours_reaches_a_job() {
    // One that this process lets its children inherit.
    let leak = fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    for level in ISOLATED {
        let listed = stdout_of(at(level, shell("ls /proc/self/fd"))).await;
        // The last is that of the listing.
        assert_eq!(listed, "0\n1\n2\n3\n", "{level:?}");
        let seen = stdout_of(at(level, command("cat").arg("/proc/self/environ"))).await;
        let names: Vec<&str> =
            seen.split_terminator('\0').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        assert_eq!(names, ["AIRUNNER_JOB_ID", "PATH"], "{level:?}");
    }
}

async fn signals_begin_at_their_defaults() {
    for level in ISOLATED {
        let wanted = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        let seen = stdout_of(at(level, shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"))).await;
        assert_eq!(seen, wanted, "{level:?}");
    }
}

async fn a_stop_reaches_the_command_and_its_own_exit_is_told() {
    for level in LEVELS {
        let script = "trap 'echo bye; exit 3' TERM; echo set; while :; do sleep 0.01; done";
        let (job, mut output) = spawn(at(level, shell(script))).await;
        assert_eq!(line(&mut output).await, "set");
        let completion = bounded(job.stop(Signal::Term, Duration::from_hours(1))).await;
        assert_eq!(completion.exit, Exit::Code(3), "{level:?}");
        assert_eq!(collect(&mut output).await.0, b"bye\n", "{level:?}");
        assert!(is_gone(job.id()) && !runs(job.pid()));
    }
}

async fn whoever_ignores_the_signal_is_killed_after_the_grace() {
    for level in LEVELS {
        let script = "trap '' TERM; echo set; while :; do sleep 600; done";
        let (job, mut output) = spawn(at(level, shell(script))).await;
        line(&mut output).await;
        let completion = bounded(job.stop(Signal::Term, Duration::from_millis(50))).await;
        assert_eq!(completion.exit, Exit::Signal(9), "{level:?}");
        assert!(is_gone(job.id()));
    }
}

async fn a_suspended_job_hears_the_signal() {
    for level in LEVELS {
        let (job, mut output) =
            spawn(at(level, shell("trap 'exit 6' TERM; echo set; kill -STOP $$; exit 1"))).await;
        line(&mut output).await;
        let completion = bounded(job.stop(Signal::Term, Duration::from_hours(1))).await;
        assert_eq!(completion.exit, Exit::Code(6), "{level:?}");
    }
}

async fn the_whole_tree_ends_with_its_leader() {
    for level in ISOLATED {
        // One in a session of its own, whose parent is gone; it holds the pipe.
        let (job, mut output) =
            spawn(at(level, shell("setsid sh -c 'sleep 600 & echo started'; exit 4"))).await;
        let completion = bounded(job.wait()).await;
        assert_eq!((completion.exit, completion.survivors.len()), (Exit::Code(4), 0), "{level:?}");
        assert_eq!(collect(&mut output).await.0, b"started\n");
        assert!(!bounded(job.drained()).await.unwrap().held, "{level:?}: nobody holds the pipe");
        assert!(is_gone(job.id()));
    }
}

async fn an_orphan_is_reaped_while_the_job_runs() {
    // The orphan becomes a child of process 1, which must not let it be a zombie.
    let script = "sh -c '(sleep 0.01 & echo $! >/tmp/orphan)'; pid=$(cat /tmp/orphan); \
        while [ -e /proc/$pid ]; do sleep 0.01; done; echo reaped";
    assert_eq!(stdout_of(inside(script)).await, "reaped\n");
}

async fn core_files_are_never_written() {
    let dir = open_directory();
    open(dir.path(), 0o777);
    for level in ISOLATED {
        let spec = at(level, shell("kill -SEGV $$")).directory(dir.path());
        let spec = if level == airunner_exec::Isolation::Sandbox {
            sandboxed(spec).sandbox(airunner_exec::Sandbox::new().writable(dir.path()))
        } else {
            spec
        };
        let (completion, ..) = run(spec).await;
        assert_eq!(completion.exit, Exit::Signal(11));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{level:?}");
    }
    let job = Job::spawn(inside("sleep 600")).await.unwrap();
    let pid = job.pid();
    drop(job);
    until("a dropped job is gone", || !runs(pid)).await;
}
