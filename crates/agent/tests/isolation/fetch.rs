//! The fetching of a job's repository: in a cgroup wherever its job is, and as its job's user.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use airunner_proto::job::v1::{JobSpec, JobState, Repository};

use crate::{
    bed::{Bed, open_directory},
    machine::{ISOLATED, at},
    trials,
};

trials![a_repository_is_fetched_in_the_cgroup_of_its_job_and_as_its_user];

/// Tells who it runs as and where, and is git then.
const GIT: &str =
    "#!/bin/sh\n{ id -u; cat /proc/self/cgroup; } >>\"$HOME/fetched\"\nexec /usr/bin/git \"$@\"\n";

fn git(directory: &std::path::Path, args: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    let done = Command::new("git").current_dir(directory).args(identity).args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn a_repository_is_fetched_in_the_cgroup_of_its_job_and_as_its_user() {
    let place = open_directory();
    let repository = place.path().join("project");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q"]);
    fs::write(repository.join("hello"), "hello from the repository\n").unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "first"]);
    let programs = place.path().join("bin");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("git"), GIT).unwrap();
    fs::set_permissions(programs.join("git"), PermissionsExt::from_mode(0o755)).unwrap();

    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| {
        options.git_protocols.push("file".to_owned());
        options.path = format!("{}:/usr/bin:/bin", programs.display());
    });
    for level in ISOLATED {
        let url = format!("file://{}", repository.display());
        let spec = JobSpec {
            repository: Some(Repository { url, revision: String::new() }),
            ..at(level, "cat hello \"$HOME/fetched\"")
        };
        let job_id = bed.submit(spec).await;
        let report = bed.watch(&job_id).end().await;
        assert_eq!(report.state(), JobState::Completed, "{}", report.reason());
        let text = report.text();
        assert!(text.starts_with("hello from the repository\n65534\n"), "{level:?}: {text}");
        assert!(text.contains(&format!("/job-{job_id}.")), "{level:?}: {text}");
        assert!(bed.job(&job_id).await.usage.unwrap().user_time.is_some());
    }
    worker.stop().await.unwrap();
}
