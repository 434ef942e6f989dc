//! Repositories of this machine.

use airunner_proto::job::v1::{JobSpec, JobState, exit::How};

use super::origin::{Origin, of};
use crate::bed::{Bed, Report, Worker, open_directory};

/// Runs a line in a clone at this revision, of a repository of this machine.
async fn run(origin: &Origin, bed: &Bed, revision: &str, working_dir: &str, line: &str) -> Report {
    let url = format!("file://{}", origin.path().display());
    bed.run(JobSpec { working_dir: working_dir.to_owned(), ..of(&url, revision, line) }).await
}

fn worker(bed: &Bed) -> Worker {
    bed.worker_with(|options| options.git_protocols.push("file".to_owned()))
}

#[tokio::test]
async fn a_job_runs_in_its_repository_at_the_revision_asked_for() {
    let bed = Bed::new().await;
    let worker = worker(&bed);
    let origin = Origin::new();
    let first = origin.commit("one");
    origin.git(&["tag", "v1"]);
    origin.git(&["branch", "old"]);
    let second = origin.commit("two");
    for (revision, content, commit) in [
        ("", "two", &second),
        ("main", "two", &second),
        ("old", "one", &first),
        ("v1", "one", &first),
        (first.as_str(), "one", &first),
        (&first[..10], "one", &first),
    ] {
        let report = run(&origin, &bed, revision, "", "cat sub/file; echo; git rev-parse HEAD").await;
        assert_eq!(report.reason(), "", "{revision}");
        assert_eq!(report.text(), format!("{content}\n{commit}\n"), "{revision}");
        assert!(report.notes[0].starts_with("fetching file://"), "{:?}", report.notes);
    }
    let report = run(&origin, &bed, "", "sub", "cat file; ls -A ..; git rev-list --count HEAD").await;
    assert_eq!(report.text(), "two.git\nsub\n1\n");
    assert_eq!(report.exit(), Some(How::Code(0)));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_revision_that_is_not_there_is_a_failure_that_says_so() {
    let bed = Bed::new().await;
    let worker = worker(&bed);
    let origin = Origin::new();
    origin.commit("one");
    for revision in ["no-such-branch", "0123456789012345678901234567890123456789"] {
        let report = run(&origin, &bed, revision, "", "true").await;
        assert_eq!(report.state(), JobState::Failed);
        assert!(report.reason().contains("could not be fetched"), "{}", report.reason());
        assert!(report.started.is_empty());
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_protocol_that_the_worker_does_not_allow_is_refused() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let origin = Origin::new();
    origin.commit("one");
    let report = run(&origin, &bed, "", "", "true").await;
    assert_eq!(report.state(), JobState::Failed);
    assert!(report.reason().contains("https, ssh"), "{}", report.reason());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn neither_hooks_nor_submodules_of_a_repository_run() {
    let bed = Bed::new().await;
    let worker = worker(&bed);
    let (origin, other, place) = (Origin::new(), Origin::new(), open_directory());
    other.commit("inner");
    origin.commit("one");
    let inner = format!("file://{}", other.path().display());
    origin.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &inner, "inner"]);
    let hook = format!("#!/bin/sh\ntouch {}/ran\n", place.path().display());
    for name in ["post-checkout", "pre-upload", "post-merge"] {
        let hook_path = origin.path().join(".git/hooks").join(name);
        std::fs::create_dir_all(hook_path.parent().unwrap()).unwrap();
        std::fs::write(&hook_path, &hook).unwrap();
        std::fs::set_permissions(&hook_path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    origin.commit("two");
    let report = run(&origin, &bed, "", "", "ls -A inner | wc -l; ls .git/hooks 2>/dev/null | wc -l").await;
    assert_eq!(report.text(), "0\n0\n");
    assert!(!place.path().join("ran").exists());
    worker.stop().await.unwrap();
}
