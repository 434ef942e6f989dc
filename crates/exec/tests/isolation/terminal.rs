//! Jobs with a terminal, at every level.

use airunner_exec::{Chunk, Exit, Isolation, Job, NoTerminal, Output, Position, Signal, Spec, Stdin, Stream};
use tokio::time::Duration;

use crate::bench::{bounded, run, shell, spawn};
use crate::cell::{LEVELS, at, is_gone, open_directory};
use crate::trials;

trials![
    all_three_are_a_terminal_that_controls_the_job,
    it_has_the_size_asked_for_and_changes_it,
    what_is_typed_arrives_and_control_characters_act,
    all_output_is_one_stream,
    a_terminal_can_be_logged,
    hanging_up_and_stopping_end_it,
    whoever_has_no_terminal_cannot_resize_it,
];

fn terminal(level: Isolation, script: &str) -> Spec {
    at(level, shell(script)).pty(24, 80)
}

/// What a terminal shows, with plain line ends.
async fn shown(spec: Spec) -> (Exit, String) {
    let (completion, stdout, stderr) = run(spec).await;
    assert!(stderr.is_empty());
    (completion.exit, String::from_utf8(stdout).unwrap().replace("\r\n", "\n"))
}

/// Reads until the text was shown.
async fn until(output: &mut Output, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let Chunk { bytes, stream, .. } =
            bounded(output.next()).await.unwrap_or_else(|| panic!("no {text:?}, only {seen:?}"));
        assert_eq!(stream, Stream::Stdout);
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    seen
}

async fn all_three_are_a_terminal_that_controls_the_job() {
    for level in LEVELS {
        // The session's own leader, in its foreground; /dev/tty opens; `ps` names the terminal.
        let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three; echo own >/dev/tty; \
            read -r _ _ _ _ group session _ foreground _ </proc/$$/stat; \
            [ $session = $$ ] && [ $group = $$ ] && [ $foreground = $$ ] && echo leader; tty; exit 9";
        let (exit, text) = shown(terminal(level, script)).await;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (exit, &lines[..3]),
            (Exit::Code(9), &["three", "own", "leader"][..]),
            "{level:?}: {text}"
        );
        assert!(lines[3].starts_with("/dev/"), "{level:?}: {text}");
    }
}

async fn it_has_the_size_asked_for_and_changes_it() {
    for level in LEVELS {
        let script = "stty size; trap 'stty size; exit 0' WINCH; echo set; while :; do sleep 0.01; done";
        let (job, mut output) = spawn(at(level, shell(script)).pty(33, 101)).await;
        let seen = until(&mut output, "set").await;
        assert!(seen.starts_with("33 101\r\n"), "{level:?}: {seen}");
        job.resize(50, 132).unwrap();
        until(&mut output, "50 132\r\n").await;
        assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    }
}

async fn what_is_typed_arrives_and_control_characters_act() {
    for level in LEVELS {
        let script = "stty -echo; echo set; while read -r line; do echo \"got $line\"; done; \
            trap 'echo interrupted; exit 7' INT; echo end; while :; do sleep 0.01; done";
        let (mut job, mut output) = spawn(terminal(level, script).stdin(Stdin::Empty)).await;
        let mut input = job.input().unwrap();
        until(&mut output, "set\r\n").await;
        bounded(input.write(b"one\n")).await.unwrap();
        until(&mut output, "got one\r\n").await;
        bounded(input.write(b"two\n\x04")).await.unwrap();
        until(&mut output, "end\r\n").await;
        bounded(input.write(b"\x03")).await.unwrap();
        until(&mut output, "interrupted\r\n").await;
        assert_eq!(bounded(job.wait()).await.exit, Exit::Code(7), "{level:?}");
    }
}

async fn all_output_is_one_stream() {
    for level in LEVELS {
        let script = "echo out; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last";
        let (exit, text) = shown(terminal(level, script)).await;
        let wanted = format!("out\nerr\n{}\nlast\n", "x".repeat(300_000));
        assert!(exit == Exit::Code(0) && text == wanted, "{level:?}: {} bytes", text.len());
    }
}

async fn a_terminal_can_be_logged() {
    let dir = open_directory();
    let log = dir.path().join("log");
    let (job, output) = spawn(terminal(Isolation::Sandbox, "echo out; echo err >&2").log_dir(&log)).await;
    drop(output);
    bounded(job.wait()).await;
    assert_eq!(bounded(job.drained()).await.unwrap().stdout, 10);
    assert_eq!(std::fs::read(log.join("stdout")).unwrap(), b"out\r\nerr\r\n");
    let mut reader = job.output_from(Position::After { stdout: 5, stderr: 0 }).unwrap();
    let piece = bounded(reader.next()).await.unwrap().unwrap();
    assert_eq!((piece.offset, piece.bytes.as_slice()), (5, &b"err\r\n"[..]));
    assert!(bounded(reader.next()).await.unwrap().is_none());
}

async fn hanging_up_and_stopping_end_it() {
    for level in LEVELS {
        let script =
            "trap 'echo bye; exit 4' TERM; sh -c 'trap \"\" HUP TERM; echo set; sleep 600' & wait; wait";
        let (job, mut output) = spawn(terminal(level, script)).await;
        until(&mut output, "set\r\n").await;
        let completion = bounded(job.stop(Signal::Term, Duration::from_hours(1))).await;
        assert_eq!(completion.exit, Exit::Code(4), "{level:?}");
        until(&mut output, "bye\r\n").await;
        assert!(bounded(output.next()).await.is_none() && is_gone(job.id()), "{level:?}");
    }
}

async fn whoever_has_no_terminal_cannot_resize_it() {
    let job = Job::spawn(shell("true")).await.unwrap();
    assert_eq!(job.resize(1, 1), Err(NoTerminal));
}
