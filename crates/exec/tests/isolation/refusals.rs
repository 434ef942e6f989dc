//! What does not start, why it says so, and that nothing of it is left.

use std::fs;
use std::os::unix::fs::chown;

use airunner_exec::{Exit, IoLimit, Isolation, Job, Limits, Measure, Root, Sandbox, SpawnError, Spec, Step};

use crate::bench::{bounded, command, id, is_empty, run, shell, spawn, stdout_of};
use crate::cell::{ISOLATED, at, cgroups, inside, limited, nobody, open, open_directory, sandboxed};
use crate::trials;

trials![
    commands_that_cannot_run_are_refused_before_the_job_starts,
    strings_that_no_program_can_get_are_refused,
    limits_of_nothing_or_of_more_than_there_is_are_refused,
    somebody_has_to_say_whom_the_job_runs_as,
    a_level_without_what_it_needs_is_refused,
    a_step_that_fails_is_named,
    best_effort_tells_what_is_left_out,
    a_program_that_is_being_written_is_waited_for_and_then_refused,
    one_id_has_one_cgroup,
    whatever_is_refused_leaves_nothing,
];

async fn refused(spec: Spec) -> SpawnError {
    match Job::spawn(spec).await {
        Err(error) => error,
        Ok(job) => panic!("it started: {:?}", bounded(job.wait()).await),
    }
}

async fn commands_that_cannot_run_are_refused_before_the_job_starts() {
    let dir = open_directory();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("plain"), "").unwrap();
    fs::create_dir(path("sub")).unwrap();
    for (name, text) in
        [("noise", "\u{1}noise"), ("orphan", "#!/missing/shell\n"), ("private", "#!/bin/sh\n")]
    {
        fs::write(path(name), text).unwrap();
        open(path(name).as_ref(), if name == "private" { 0o700 } else { 0o755 });
    }
    let shows = Sandbox::new().read_only(dir.path());
    for level in ISOLATED {
        let refused = |name: &str| refused(at(level, command(name)).sandbox(shows.clone()));
        assert!(matches!(refused("no-such-command").await, SpawnError::NotFound { .. }), "{level:?}");
        assert!(matches!(refused(&path("ghost")).await, SpawnError::NotFound { .. }));
        assert!(matches!(refused(&path("sub")).await, SpawnError::IsDirectory(_)));
        assert!(matches!(refused(&path("plain")).await, SpawnError::NotExecutable(_)));
        assert!(matches!(refused(&path("private")).await, SpawnError::NotExecutable(_)));
        // To no shell, either.
        assert!(matches!(refused(&path("noise")).await, SpawnError::BadFormat(_)));
        assert!(matches!(refused(&path("orphan")).await, SpawnError::NoInterpreter(_)));
    }
    // What the sandbox does not show is not there.
    let hidden = Job::spawn(sandboxed(command(&path("orphan")))).await;
    assert!(matches!(hidden, Err(SpawnError::NotFound { .. })));
}

async fn strings_that_no_program_can_get_are_refused() {
    for level in ISOLATED {
        let refused = |spec: Spec| refused(at(level, spec));
        assert!(matches!(refused(command("")).await, SpawnError::EmptyCommand));
        assert!(matches!(refused(command("a\0b")).await, SpawnError::Nul("command")));
        assert!(matches!(refused(command("ls").arg("a\0b")).await, SpawnError::Nul("arguments")));
        assert!(matches!(refused(command("ls").env("A", "\0")).await, SpawnError::Nul("environment")));
        assert!(matches!(refused(command("ls").env("A=B", "x")).await, SpawnError::BadEnvironmentName(_)));
        assert!(matches!(refused(command("ls").env("", "x")).await, SpawnError::BadEnvironmentName(_)));
        // Ten megabytes: in many arguments, and in one.
        let many = vec!["x".repeat(100_000); 100];
        assert!(matches!(refused(command("ls").args(many)).await, SpawnError::TooLong), "{level:?}");
        assert!(matches!(refused(command("ls").arg("x".repeat(10_000_000))).await, SpawnError::TooLong));
        for directory in ["/missing", "relative", "/bin/sh"] {
            let error = refused(command("ls").directory(directory)).await;
            assert!(matches!(error, SpawnError::BadDirectory { .. }), "{level:?}: {directory}: {error}");
        }
    }
}

async fn limits_of_nothing_or_of_more_than_there_is_are_refused() {
    let none = Limits::new;
    let io = |device| IoLimit { device, reads: Some(1), ..IoLimit::default() };
    for limits in [
        none().cpus(0.0),
        none().cpus(10_000.0),
        none().memory(0),
        none().memory(u64::MAX),
        none().processes(0),
        none().processes(1 << 40),
        none().open_files(0),
        none().file_size(0),
        none().io(io((4095, 0))),
    ] {
        for level in ISOLATED {
            let error = refused(at(level, shell("true")).limits(limits.clone()).best_effort()).await;
            assert!(matches!(error, SpawnError::BadLimit { .. }), "{limits:?}");
        }
        let error = refused(shell("true").limits(limits)).await;
        assert!(matches!(error, SpawnError::LimitsWithoutIsolation));
    }
    for size in [0, u64::MAX] {
        let error = refused(inside("true").sandbox(Sandbox::new().tmp_size(size))).await;
        assert!(matches!(error, SpawnError::BadLimit { .. }));
    }
}

async fn somebody_has_to_say_whom_the_job_runs_as() {
    for level in ISOLATED {
        let spec = shell("id -u").isolation(level).cgroups(cgroups());
        assert!(matches!(refused(spec.clone()).await, SpawnError::UserNotChosen));
        assert_eq!(stdout_of(spec.same_user()).await, "0\n", "{level:?}");
    }
}

async fn a_level_without_what_it_needs_is_refused() {
    for level in ISOLATED {
        let spec = shell("true").isolation(level).run_as(nobody());
        assert!(matches!(refused(spec).await, SpawnError::NoCgroups));
    }
}

async fn a_step_that_fails_is_named() {
    let step_of = async |spec| match refused(spec).await {
        SpawnError::StageTwo { step, path, source } => (step, path, source.kind()),
        error => panic!("{error}"),
    };
    let missing = Sandbox::new().read_only("/missing/directory");
    let (step, path, kind) = step_of(inside("true").sandbox(missing)).await;
    assert_eq!((step, kind), (Step::Mounts, std::io::ErrorKind::NotFound));
    assert_eq!(path.to_str(), Some("/missing/directory"));
    // A root without a place for its /proc.
    let dir = open_directory();
    let bare = Sandbox::new().root(Root::Directory(dir.path().into()));
    assert_eq!(step_of(inside("true").sandbox(bare)).await.0, Step::Mounts);
    assert!(is_empty(dir.path()), "and none was made in it");
    let error = refused(inside("true").sandbox(Sandbox::new().writable("/a/../b"))).await;
    assert!(matches!(error, SpawnError::BadSandboxPath(_)));
    let text = refused(inside("true").sandbox(Sandbox::new().read_only("/missing"))).await.to_string();
    assert_eq!(text, "the job's process cannot mount at /missing: No such file or directory (os error 2)");
}

async fn best_effort_tells_what_is_left_out() {
    // No cgroup was said.
    let spec = shell("exit 3").isolation(Isolation::Sandbox).run_as(nobody()).best_effort();
    let (job, _output) = spawn(spec).await;
    assert_eq!(job.left_out(), [Measure::Cgroup]);
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(3));
    // Where everything can be had nothing is left out.
    let (job, _output) = spawn(inside("exit 3").best_effort()).await;
    assert!(job.left_out().is_empty());
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(3));
    // What the caller got wrong is an error all the same.
    let wrong = inside("true").sandbox(Sandbox::new().read_only("/missing")).best_effort();
    assert!(matches!(refused(wrong).await, SpawnError::StageTwo { step: Step::Mounts, .. }));
}

async fn a_program_that_is_being_written_is_waited_for_and_then_refused() {
    let dir = open_directory();
    let path = dir.path().join("tool");
    fs::copy("/bin/true", &path).unwrap();
    for level in ISOLATED {
        let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let spec =
            || at(level, command(path.to_str().unwrap())).sandbox(Sandbox::new().read_only(dir.path()));
        assert!(matches!(refused(spec()).await, SpawnError::Busy(_)), "{level:?}");
        drop(writer);
        assert_eq!(run(spec()).await.0.exit, Exit::Code(0));
    }
}

async fn one_id_has_one_cgroup() {
    let id = id();
    let spec = || limited(Spec::new(id.clone(), "sleep").arg("600").env("PATH", "/usr/bin:/bin"));
    let job = Job::spawn(spec()).await.unwrap();
    assert!(matches!(refused(spec()).await, SpawnError::Cgroup(_)));
    bounded(job.stop(airunner_exec::Signal::Kill, std::time::Duration::ZERO)).await;
    let again = Job::spawn(spec()).await.unwrap();
    bounded(again.stop(airunner_exec::Signal::Kill, std::time::Duration::ZERO)).await;
}

async fn whatever_is_refused_leaves_nothing() {
    let dir = open_directory();
    chown(dir.path(), Some(0), None).unwrap();
    let (marks, logs) = (dir.path().join("marks"), dir.path().join("logs"));
    let name = id();
    for level in ISOLATED {
        let spec = |command: &str| {
            let spec = Spec::new(name.clone(), command).mark_dir(&marks).log_dir(&logs);
            at(level, spec)
        };
        for wrong in [
            spec("no-such-command"),
            spec("/bin"),
            spec("ls").directory("/missing"),
            spec("/bin/ls").args(vec!["x".repeat(100_000); 100]),
        ] {
            refused(wrong).await;
            assert!(is_empty(&marks) && !logs.exists(), "{level:?}");
            assert!(crate::cell::is_gone(&name), "{level:?}");
        }
    }
    let left = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| {
        fs::read(entry.path().join("environ")).is_ok_and(|all| {
            String::from_utf8_lossy(&all).split('\0').any(|pair| pair == format!("AIRUNNER_JOB_ID={name}"))
        })
    });
    assert_eq!(left.count(), 0);
}
