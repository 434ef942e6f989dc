//! What a job gets, and why one does not start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use airunner_exec::{
    Exit, Isolation, JOB_ID_VARIABLE, Job, MarkError, RunAs, SpawnError, Spec, Status,
    inheritable_descriptors, resolve_user,
};

use crate::bench::{bounded, command, id, is_empty, is_root, line, run, shell, spawn, stdout_of};

#[tokio::test]
async fn a_command_runs_and_its_exit_is_told() {
    let spec = command("sh").args(["-c", "exit 7"]).isolation(Isolation::None);
    let (job, _output) = spawn(spec.clone()).await;
    assert!(job.id().as_str().starts_with("test-") && job.pid() > 1);
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(7));
    assert_eq!(job.status(), Status::Ended(Exit::Code(7)));
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(7), "it can be asked again");
    let (completion, ..) = run(shell("kill -USR1 $$")).await;
    assert_eq!(completion.exit, Exit::Signal(10));
}

#[tokio::test]
async fn arguments_reach_no_shell() {
    let args = ["$(id)", "a b", "", "*", ";true", "`x`", "é\n"];
    let printed = stdout_of(command("printf").arg("[%s]").args(args)).await;
    assert_eq!(printed, args.map(|arg| format!("[{arg}]")).concat());
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for_and_the_jobs_id() {
    assert!(std::env::vars_os().count() > 1, "there is something to leak");
    let spec = Spec::new(id(), "env").env("A", "1").env("EMPTY", "").env("NOT_UTF8", "x=y");
    let (name, _output) = spawn(spec.clone()).await;
    let printed = stdout_of(spec).await;
    let want = format!("A=1\nEMPTY=\nNOT_UTF8=x=y\n{JOB_ID_VARIABLE}={}\n", name.id());
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&printed), sorted(&want));
}

#[tokio::test]
async fn the_working_directory_is_the_root_or_the_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let place = fs::canonicalize(dir.path()).unwrap();
    assert_eq!(stdout_of(command("pwd")).await, "/\n");
    assert_eq!(stdout_of(command("pwd").directory(&place)).await, format!("{}\n", place.display()));
}

#[tokio::test]
async fn a_job_leads_a_group_of_its_own_and_reads_nothing() {
    let (job, mut output) =
        spawn(shell("cat; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat")).await;
    let group = line(&mut output).await;
    assert_eq!(group.trim(), job.pid().to_string());
}

#[tokio::test]
async fn no_descriptor_leaks_into_a_job() {
    let _file = tempfile::tempfile().unwrap();
    let _socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_other, _other_output) = spawn(command("sleep").arg("600")).await;
    let (job, mut output) = spawn(shell("echo up; kill -STOP $$")).await;
    // By now the loader has closed its own.
    line(&mut output).await;
    let open = format!("/proc/{}/fd", job.pid());
    let target = |number: &str| fs::read_link(format!("{open}/{number}")).unwrap();
    // What this process got from its own parent is beyond the library, and is what it warns of.
    let mut expected = vec!["0".to_owned(), "1".to_owned(), "2".to_owned()];
    expected.extend(inheritable_descriptors().unwrap().iter().map(ToString::to_string));
    expected.sort();
    let mut numbers: Vec<_> =
        fs::read_dir(&open).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    numbers.sort();
    assert_eq!(numbers, expected);
    assert_eq!(target("0"), Path::new("/dev/null"));
    assert_ne!(target("1"), target("2"));
    assert!(target("1").to_str().unwrap().starts_with("pipe:"));
}

#[tokio::test]
async fn signals_that_this_process_ignores_are_not_ignored_by_the_job() {
    // Rust programs ignore SIGPIPE; a job that inherited this would not end with its reader.
    let ignored = stdout_of(command("grep").args(["SigIgn", "/proc/self/status"])).await;
    let mask = u64::from_str_radix(ignored.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(mask & (1 << 12), 0, "{ignored}");
}

/// A directory with one of each thing that does not run.
fn things() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let put = |name: &str, text: &[u8], mode| {
        let path = root.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put("plain", b"#!/bin/sh\n", 0o644);
    put("garbage", b"\x7fELF but not really", 0o755);
    put("orphan", b"#!/nowhere/interpreter\n", 0o755);
    put("private", b"#!/bin/sh\n", 0o700);
    fs::create_dir(root.join("sub")).unwrap();
    (dir, root)
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let (_keep, root) = things();
    let kept = tempfile::tempdir().unwrap();
    let refused = async |spec: Spec| {
        let (logs, marks) = (kept.path().join("logs"), kept.path().join("marks"));
        let error = Job::spawn(spec.log_dir(&logs).mark_dir(&marks)).await.unwrap_err();
        assert!(!logs.exists(), "{error} left logs");
        assert!(!marks.exists() || is_empty(&marks), "{error} left a mark");
        assert!(error.to_string().contains(": "), "{error} says what to do");
        error
    };
    let at = |name: &str| command(root.join(name).to_str().unwrap());
    assert!(matches!(refused(command("no-such-command")).await, SpawnError::NotFound { .. }));
    assert!(matches!(refused(at("ghost")).await, SpawnError::NotFound { .. }));
    assert!(matches!(refused(command("ls").env("PATH", &root)).await, SpawnError::NotFound { .. }));
    assert!(matches!(refused(at("sub")).await, SpawnError::IsDirectory(_)));
    assert!(matches!(refused(at("plain")).await, SpawnError::NotExecutable(_)));
    assert!(matches!(refused(at("garbage")).await, SpawnError::BadFormat(_)));
    assert!(matches!(refused(at("orphan")).await, SpawnError::NoInterpreter(_)));
    assert!(matches!(refused(command("")).await, SpawnError::EmptyCommand));
    assert!(matches!(refused(command("a\0b")).await, SpawnError::Nul("command")));
    assert!(matches!(refused(command("ls").arg("a\0b")).await, SpawnError::Nul("arguments")));
    assert!(matches!(refused(command("ls").env("A", "\0")).await, SpawnError::Nul("environment")));
    assert!(matches!(refused(command("ls").env("A\0", "")).await, SpawnError::Nul("environment")));
    assert!(matches!(refused(command("ls").directory("/\0")).await, SpawnError::Nul("working directory")));
    for name in ["", "A=B", "="] {
        let error = refused(command("ls").env(name, "x")).await;
        assert!(matches!(error, SpawnError::BadEnvironmentName(_)), "{name}");
    }
    let error = refused(command("ls").env(JOB_ID_VARIABLE, "x")).await;
    assert!(matches!(error, SpawnError::ReservedEnvironmentName(_)));
    for directory in [root.join("ghost"), root.join("plain"), PathBuf::from("relative")] {
        let error = refused(command("ls").directory(&directory)).await;
        assert!(matches!(error, SpawnError::BadDirectory { .. }), "{directory:?}");
    }
    let long = "x".repeat(200_000);
    assert!(matches!(refused(command("ls").args(vec![long; 100])).await, SpawnError::TooLong));
}

#[tokio::test]
async fn a_program_that_is_being_written_is_waited_for_and_then_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tool");
    fs::copy("/bin/true", &path).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let spec = command(path.to_str().unwrap());
    assert!(matches!(Job::spawn(spec.clone()).await, Err(SpawnError::Busy(_))));
    drop(writer);
    assert_eq!(run(spec).await.0.exit, Exit::Code(0));
}

#[tokio::test]
async fn the_command_is_found_in_the_jobs_own_path_and_directory() {
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    fs::write(&tool, "#!/bin/sh\necho \"$0 ran\"\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let want = format!("{} ran\n", tool.display());
    assert_eq!(stdout_of(Spec::new(id(), "tool").env("PATH", dir.path())).await, want);
    let relative = stdout_of(Spec::new(id(), "./tool").directory(dir.path())).await;
    assert!(relative.ends_with("/tool ran\n"), "{relative}");
}

#[tokio::test]
async fn logs_that_exist_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("stderr"), "kept").unwrap();
    let error = Job::spawn(shell("echo new >&2").log_dir(dir.path())).await.unwrap_err();
    assert!(matches!(error, SpawnError::Log { .. }));
    assert_eq!(fs::read(dir.path().join("stderr")).unwrap(), b"kept");
    assert!(!dir.path().join("stdout").exists());
}

#[tokio::test]
async fn marks_that_others_could_forge_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Job::spawn(shell("true").mark_dir(dir.path())).await.unwrap_err();
    assert!(matches!(error, SpawnError::Mark(MarkError::UnsafeDirectory(_))));
}

/// As root: the job has changed. As anyone else: the error says that it cannot.
#[tokio::test]
async fn a_job_runs_as_another_user_without_our_groups() {
    let spec = shell("id -u; id -g; id -G; cat /proc/1/environ >/dev/null 2>&1 || echo refused");
    if !is_root() {
        let refused = Job::spawn(spec.run_as(resolve_user("root").unwrap())).await;
        assert!(matches!(refused, Err(SpawnError::RunAsRefused(_))));
        return;
    }
    let nobody = resolve_user("nobody").unwrap();
    let spec = spec.run_as(nobody);
    let RunAs { uid, gid } = nobody;
    assert_eq!(stdout_of(spec).await, format!("{uid}\n{gid}\n{gid}\nrefused\n"));
}

#[tokio::test]
async fn what_another_user_may_not_enter_or_execute_is_told_apart() {
    if !is_root() {
        let own = RunAs { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
        assert_eq!(run(shell("true").run_as(own)).await.0.exit, Exit::Code(0), "its own user needs no right");
        return;
    }
    let (_keep, root) = things();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = resolve_user("nobody").unwrap();
    let private = command(root.join("private").to_str().unwrap()).run_as(nobody);
    assert!(matches!(Job::spawn(private.clone()).await, Err(SpawnError::NotExecutable(_))));
    chown(root.join("private"), Some(nobody.uid), None).unwrap();
    assert_eq!(run(private.clone()).await.0.exit, Exit::Code(0));
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
    let closed = private.directory(root.join("sub"));
    assert!(matches!(Job::spawn(closed).await, Err(SpawnError::BadDirectory { .. })));
}

/// This program's `main` is the test harness's, which knows nothing of stage two.
#[tokio::test]
async fn a_program_without_stage_two_is_told_to_call_it() {
    use airunner_exec::Isolation::{Limits, Sandbox};
    let isolated = [Limits, Sandbox].map(|level| shell("true").isolation(level).same_user().best_effort());
    for spec in isolated.into_iter().chain([shell("true").pty(24, 80)]) {
        let error = Job::spawn(spec).await.unwrap_err();
        assert!(matches!(error, SpawnError::StageTwoMissing), "{error}");
    }
}
