//! Jobs that are started and followed, on a worker that really runs them.

use std::{
    io::{Read as _, Write as _},
    process::Stdio,
};

use airunner_core::PrincipalType;

use crate::{
    bed::Run,
    live::Live,
    prompt::{at_terminal_of, cli},
};

#[test]
fn without_a_worker_a_start_fails_at_once_and_leaves_no_job() {
    let live = Live::new();
    live.run(&["job", "start", "--", "true"]).failed(1, "no-worker").failed(1, "airunner-cli worker");
    live.run(&["job", "exec", "--", "true"]).failed(255, "no-worker");
    assert_eq!(live.json(&["job", "list"])["jobs"].as_array().unwrap().len(), 0);
}

#[test]
fn a_started_job_is_told_with_its_process_and_listed_while_it_runs() {
    let live = Live::new();
    let _worker = live.worker();
    let user = live.principal("ann", PrincipalType::User);
    let started = user.json(&["job", "start", "--", "sleep", "600"]);
    let (id, pid) = (started["job_id"].as_str().unwrap(), started["process_id"].as_u64().unwrap());
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, b"sleep\x00600\x00");

    // Bare `job` lists one's own running jobs, one a line: id and command.
    assert_eq!(user.run(&["job"]).succeeded().stdout, format!("{id} sleep 600\n"));
    assert_eq!(live.run(&["job"]).succeeded().stdout, "");
    let text = user.run(&["job", "start", "--", "sleep", "601"]).succeeded().stdout;
    assert!(text.contains("job id") && text.contains("process id"), "{text}");
    assert_eq!(user.run(&["job"]).succeeded().stdout.lines().count(), 2);

    user.run(&["job", "stop", id, "--grace", "0"]).succeeded();
    let code = user.run(&["job", "attach", id]).code;
    assert_eq!(code, 128 + 9);
}

#[test]
fn exec_ends_as_the_job_did_and_prints_what_it_printed() {
    let live = Live::new();
    let _worker = live.worker();
    let run = live.run(&["job", "exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, "out\n"), "{}", run.stderr);
    assert!(run.stderr.contains("err\n"), "{}", run.stderr);
    assert_eq!(live.run(&["job", "exec", "--", "true"]).succeeded().stdout, "");
    assert_eq!(live.run(&["job", "exec", "--", "sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    // What can't be run is no exit code of the job's.
    live.run(&["job", "exec", "--", "/no/such/program"]).failed(255, "/no/such/program");
    live.run(&["job", "exec", "--server", "127.0.0.1:1", "--", "true"]).failed(255, "can't reach");
}

#[test]
fn exec_sends_standard_input_and_tells_programs_every_event() {
    let live = Live::new();
    let _worker = live.worker();
    let mut command = live.bed.command(&["job", "exec", "--stdin", "--", "tr", "a-z", "A-Z"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"shout\n").unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, "SHOUT\n");

    let run = Run::of(&mut live.bed.command(&["job", "exec", "--output", "json", "--", "echo", "x"]));
    let lines: Vec<serde_json::Value> =
        run.succeeded().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["job_id"].is_string() && lines[0]["process_id"].is_u64());
    assert_eq!(lines[1]["kind"], "started");
    assert_eq!(lines.last().unwrap()["kind"], "ended");
}

#[test]
fn ctrl_c_detaches_from_what_exec_started() {
    let live = Live::new();
    let _worker = live.worker();
    let mut command = live.bed.command(&["job", "exec", "--", "sh", "-c", "echo ready; exec sleep 600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the job goes on") && said.contains("job attach"), "{said}");
    let running = live.run(&["job"]).succeeded().stdout;
    let id = running.split(' ').next().unwrap();
    live.run(&["job", "stop", id, "--grace", "0"]).succeeded();
}

#[test]
fn output_on_its_way_to_a_file_says_at_the_terminal_how_much_has_come() {
    let live = Live::new();
    let _worker = live.worker();
    let script = "head -c 3145728 /dev/zero; echo told >&2";
    let started = live.json(&["job", "start", "--", "sh", "-c", script]);
    let id = started["job_id"].as_str().unwrap();
    assert_eq!(live.run(&["job", "attach", id]).code, 0);
    let file = live.bed.folder.path().join("output");
    for follow in ["", "--follow"] {
        let line = format!("{} job logs {id} {follow} > {}", cli(), file.display());
        let shown = at_terminal_of("xterm", &live.bed, &line, &[]);
        assert_eq!(std::fs::read(&file).unwrap(), vec![0; 3 << 20], "{follow}");
        assert!(shown.contains("MiB so far") && shown.contains("told"), "{follow}: {shown:?}");
        // Where the output itself is shown, nothing is beside it.
        let line = format!("{} job logs {id} {follow} --stream stderr", cli());
        assert_eq!(at_terminal_of("xterm", &live.bed, &line, &[]), "told\r\n", "{follow}");
    }
}

#[test]
fn what_a_job_wants_of_the_queue_is_shown_and_found_again() {
    let live = Live::new();
    let submitted = live.run(&[
        "job",
        "submit",
        "--priority",
        "-7",
        "--require",
        "arch=arm64",
        "--retry-delay",
        "90s",
        "--label",
        "branch=main",
        "--",
        "true",
    ]);
    let id = submitted.succeeded().stdout.trim().to_owned();
    let shown = live.json(&["job", "show", &id]);
    assert_eq!((shown["priority"].as_i64(), shown["requires"]["arch"].as_str()), (Some(-7), Some("arm64")));
    assert_eq!(shown["labels"]["branch"], "main");
    let text = live.run(&["job", "show", &id]).succeeded().stdout;
    for line in ["-7", "arch=arm64", "branch=main", "1m30s"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    live.run(&["job", "submit", "--label", "branch=other", "--", "true"]).succeeded();
    let listed = live.json(&["job", "list", "--label", "branch=main"]);
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(listed["jobs"][0]["job_id"], id.as_str());
    live.run(&["job", "submit", "--priority", "101", "--", "true"]).failed(2, "priority");
    // The worker that waits is another kind.
    let _worker = live.worker();
    live.run(&["job", "start", "--require", "arch=arm64", "--", "true"]).failed(1, "arch=arm64");
}

#[test]
fn show_tells_what_happened_when_and_draws_it_where_that_can_be_seen() {
    let live = Live::new();
    let _worker = live.worker();
    let script = "echo one; echo two >&2; exit 3";
    let id = live.run(&["job", "submit", "--", "sh", "-c", script]).succeeded().stdout.trim().to_owned();
    assert_eq!(live.run(&["job", "attach", &id]).code, 3);

    let shown = live.json(&["job", "show", &id]);
    let history = &shown["history"];
    let kinds: Vec<_> =
        history["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "attempt_ended"]);
    assert_eq!(
        (history["output_bytes"].as_u64(), history["output_is_whole"].as_bool()),
        (Some(8), Some(true))
    );
    let parts = history["output_over_time"].as_array().unwrap().iter();
    assert_eq!(parts.map(|part| part.as_u64().unwrap()).sum::<u64>(), 8);

    // A program that reads it gets text, and whoever asked for no more than that.
    let plain = live.run(&["job", "show", &id]).succeeded().stdout;
    assert!(
        plain.contains("attempt 1 runs, as process ") && plain.contains("attempt 1 exited with 3"),
        "{plain}"
    );
    assert!(plain.is_ascii() && !plain.contains("time line"), "{plain}");
    let show = format!("{} job show {id}", cli());
    for variables in ["NO_COLOR=1", "LC_ALL=C LANG=C.UTF-8", "TERM=dumb"] {
        let text = at_terminal_of("xterm", &live.bed, &format!("env {variables} {show}"), &[]);
        assert!(text.contains("attempt 1 exited") && text.is_ascii(), "{variables}: {text}");
    }
    let drawn = at_terminal_of("xterm", &live.bed, &format!("env LANG=C.UTF-8 {show}"), &[]);
    assert!(drawn.contains("time line") && drawn.contains('┫') && drawn.contains('█'), "{drawn}");
    let widest = drawn.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest} columns: {drawn}");
}

#[test]
fn show_does_not_wait_for_a_job_that_goes_on() {
    let live = Live::new();
    let _worker = live.worker();
    let started = live.json(&["job", "start", "--", "sh", "-c", "echo begun; exec sleep 600"]);
    let id = started["job_id"].as_str().unwrap();
    let shown = live.json(&["job", "show", id]);
    assert_eq!(
        (shown["state"].as_str(), shown["history"]["events"][0]["kind"].as_str()),
        (Some("running"), Some("started"))
    );
    let waiting = live.run(&["job", "submit", "--queue", "other", "--", "true"]).succeeded().stdout;
    let shown = live.json(&["job", "show", waiting.trim()]);
    assert_eq!(shown["history"]["events"].as_array().unwrap().len(), 0);
    live.run(&["job", "stop", id, "--grace", "0"]).succeeded();
}

#[test]
fn every_job_is_a_line_with_its_id_command_state_and_age() {
    let live = Live::new();
    let _worker = live.worker();
    live.run(&["job", "exec", "--", "echo", "two words"]).succeeded();
    let waiting = live.run(&["job", "submit", "--queue", "other", "--", "make", "test"]).succeeded().stdout;
    let listed = live.run(&["job", "list"]).succeeded().stdout;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(
        lines[0].starts_with("ID") && lines[0].contains("STATE") && lines[0].contains("CREATED"),
        "{listed}"
    );
    assert!(lines[1].starts_with(waiting.trim()) && lines[1].contains("scheduled"), "{listed}");
    assert!(lines[1].ends_with("make test") && lines[2].trim_end().ends_with("echo 'two words'"), "{listed}");
    assert!(lines.iter().skip(1).all(|line| line.contains(" now ") || line.contains(" ago ")), "{listed}");
    assert!(lines[2].contains("completed"), "{listed}");
}

#[test]
fn output_that_is_no_longer_kept_is_no_empty_output() {
    let live = Live::new();
    let _worker = live.worker();
    let id = live.run(&["job", "submit", "--", "echo", "bytes"]).succeeded().stdout.trim().to_owned();
    live.run(&["job", "attach", &id]).succeeded();
    assert_eq!(live.run(&["job", "output", &id]).succeeded().stdout, "bytes\n");
    let job = id.parse().unwrap();
    let output = live.server.stores.output.clone();
    assert!(live.runtime.block_on(output.release_output(&job)).unwrap() > 0);
    for args in [&["job", "output", &id][..], &["job", "logs", "--follow", &id]] {
        live.run(args).failed(5, "no longer kept");
    }
    assert_eq!(live.json(&["job", "output", &id])["incomplete"], true);
    let watched = live.run(&["job", "attach", &id]);
    assert!(watched.succeeded().stderr.contains("no longer kept"));
}
