//! How a worker's real process fetches repositories, as its options say.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use airunner_core::{Labels, PrincipalType, QueueName};

use crate::{bed::Bed, live::Live, server::Server};

const SECRET: &str = "s3cret-of-the-worker";

/// A repository with a commit, in this directory.
fn make_repository(place: &Path) {
    fs::write(place.join("file"), "closed\n").unwrap();
    // Of a program, so that it stays large when it is packed.
    let program = fs::read(env!("CARGO_BIN_EXE_airunner-cli")).unwrap();
    fs::write(place.join("large"), &program[program.len() / 4..][..1 << 20]).unwrap();
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "first"]] {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        assert!(Command::new("git").args(identity).args(args).current_dir(place).status().unwrap().success());
    }
}

/// A file of credentials of this mode, in the worker's folder.
fn write_credentials(bed: &Bed, server: &Server, mode: u32) -> String {
    let path = bed.folder.path().join("credentials");
    fs::write(&path, format!("{} user=ci secret={SECRET}\n", server.url(""))).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn a_worker_fetches_with_its_credentials_and_keeps_what_it_fetched() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, as workers that keep things do");
    let (live, origin) = (Live::new(), tempfile::tempdir().unwrap());
    make_repository(origin.path());
    let server = Server::start(origin.path());
    server.admit(&[("ci", SECRET)]);
    let bed = live.principal("w1", PrincipalType::Worker);
    // Whoever jobs run as passes through, and whoever fetches.
    fs::set_permissions(bed.folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let path = |name: &str| bed.folder.path().join(name).display().to_string();
    let (state, cache) = (path("state"), path("kept"));
    let credentials = write_credentials(&bed, &server, 0o600);
    let log = fs::File::create(path("log")).unwrap();
    let usual = ["worker", "--state-dir", &state, "--drain", "0", "--git-protocols", "http"];
    let git = ["--git-credentials", &credentials, "--git-cache", &cache, "--git-cache-size", "64M"];
    let mut command = bed.command(&[&usual[..], &git].concat());
    let mut worker =
        command.env("AIRUNNER_LOG", "trace").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let queue = QueueName::default_queue();
    live.until("a worker waits", async || {
        live.server.app.fleet.has_worker(&queue, &Labels::new()).await.unwrap()
    });
    for is_warm in [false, true] {
        let run = live.run(&[
            "job",
            "exec",
            "--repo",
            &server.url(".git"),
            "--",
            "sh",
            "-c",
            "cat file; env; cat .git/config",
        ]);
        let run = run.succeeded();
        assert!(run.stdout.starts_with("closed\n") && !run.stdout.contains(SECRET), "{}", run.stdout);
        assert!(!run.stderr.contains(SECRET), "{}", run.stderr);
        let given = server.given();
        assert!(if is_warm { given < 2_000 } else { given > 50_000 }, "{given} bytes");
    }
    assert!(fs::read_dir(&cache).unwrap().count() == 1);
    live.run(&["job", "exec", "--repo", "https://me:pw@example.org/a", "--", "true"])
        .failed(255, "worker.git_credentials");
    assert!(Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success());
    worker.wait().unwrap();
    let log = fs::read_to_string(path("log")).unwrap();
    assert!(log.contains("TRACE") && !log.contains(SECRET), "{} bytes", log.len());
}

#[test]
fn options_that_contradict_each_other_and_files_that_others_read_are_refused() {
    let (live, origin) = (Live::new(), tempfile::tempdir().unwrap());
    let server = Server::start(origin.path());
    let bed = live.principal("w1", PrincipalType::Worker);
    fs::set_permissions(bed.folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
    bed.run(&["worker", "--git-cache", "x", "--no-git-cache"]).failed(2, "cannot be used with");
    bed.run(&["worker", "--git-cache-size", "much"]).failed(2, "no size");
    let state = bed.folder.path().join("state").display().to_string();
    let credentials = write_credentials(&bed, &server, 0o644);
    let worker = ["worker", "--state-dir", &state, "--git-credentials", &credentials];
    let refused = bed.run(&worker).failed(1, "chmod 0600");
    assert!(!refused.stderr.contains(SECRET));
    bed.run(&[&worker[..], &["--same-user"]].concat()).failed(1, "could read every credential");
}
