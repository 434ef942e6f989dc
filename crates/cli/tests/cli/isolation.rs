//! Isolation, limits and usage of jobs, from the command line through a worker's real process and back.

use std::{fs, os::unix::fs::PermissionsExt};

use airunner_core::Isolation;

use crate::{live::Live, prompt::at_terminal};

#[test]
fn what_a_job_asks_for_is_shown_with_what_it_used() {
    let live = Live::new();
    let _worker = live.worker();
    let asked = ["--isolation", "limits", "--open-files", "64", "--file-size", "1M"];
    let command = ["--", "sh", "-c", "ulimit -n"];
    let run = live.run(&[&["job", "exec"][..], &asked, &command].concat());
    assert_eq!(run.succeeded().stdout, "64\n");
    let job = live.json(&["job", "list"])["jobs"][0].clone();
    let id = job["job_id"].as_str().unwrap();
    let shown = live.json(&["job", "show", id]);
    assert_eq!((&shown["isolation"], &shown["limits"]["open_files"]), (&"limits".into(), &64.into()));
    assert_eq!(
        (&shown["limits"]["file_size_bytes"], shown["limits"]["memory_bytes"].is_null()),
        (&1_048_576.into(), true)
    );
    assert_eq!(
        (&shown["usage"]["isolation"], &shown["usage"]["left_out"]),
        (&"limits".into(), &serde_json::json!([]))
    );
    assert!(shown["usage"]["user_micros"].is_u64() && shown["usage"]["system_micros"].is_u64(), "{shown}");
    let text = live.run(&["job", "show", id]).succeeded().stdout;
    assert!(text.contains("64 open files, files of 1 MiB") && text.contains("CPU time"), "{text}");
    assert!(!text.contains('█'), "a bar is for people: {text}");
}

#[test]
fn on_a_terminal_what_was_used_stands_against_its_limit_as_a_bar() {
    let live = Live::new();
    let _worker = live.worker_with(&["--same-user", "--best-effort"]);
    let spin = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done";
    let asked = ["--isolation", "limits", "--best-effort", "--cpus", "0.5", "--", "sh", "-c", spin];
    live.run(&[&["job", "exec"][..], &asked].concat()).succeeded();
    let id = live.json(&["job", "list"])["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    let shown = at_terminal(&live.bed, &format!("{} job show {id}", env!("CARGO_BIN_EXE_airunner-cli")), &[]);
    assert!(shown.contains('█') && shown.contains("% of 0.5 CPUs"), "{shown}");
}

#[test]
fn limits_that_nothing_keeps_are_refused_before_there_is_a_job() {
    let live = Live::new();
    live.run(&["job", "submit", "--isolation", "none", "--memory", "64M", "--", "true"])
        .failed(1, "ask for the isolation limits or sandbox");
    live.run(&["job", "submit", "--isolation", "limits", "--host-network", "--", "true"])
        .failed(1, "host_network");
    live.run(&["job", "submit", "--memory", "1K", "--", "true"]).failed(1, "1 MiB to 64 TiB");
    live.run(&["job", "submit", "--cpus", "half", "--", "true"]).failed(2, "no number of CPUs");
    live.run(&["job", "submit", "--isolation", "jail", "--", "true"]).failed(2, "possible values");
    assert_eq!(live.json(&["job", "list"])["jobs"].as_array().unwrap().len(), 0);
}

#[test]
fn a_job_at_no_level_reads_the_key_of_its_worker() {
    // Without root a worker runs jobs as itself, and says so.
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: only root runs jobs as another user"
    );
    for level in Isolation::ALL {
        let live = Live::new();
        let worker = live.worker_with(&["--isolation", level.as_str()]);
        // What is kept from jobs is kept by the file's own mode, or by not being there.
        let folder = worker.home.folder.path();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        let key = folder.join("identity/key.pem");
        assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
        let line = format!(
            "id -u; cat {} && echo read; cat /proc/{}/environ && echo read; touch {}/x && echo written",
            key.display(),
            worker.id(),
            folder.join("identity").display(),
        );
        let run = live.run(&["job", "exec", "--", "sh", "-c", &line]);
        assert_eq!((run.code, run.stdout.as_str()), (1, "65534\n"), "{level}: {}", run.stderr);
        let used = live.json(&["job", "list"])["jobs"][0]["usage"]["isolation"].clone();
        assert_eq!(used, level.as_str());
    }
}
