//! Bytes out: exact, in order, bounded.

use std::fs;

use airunner_exec::{Exit, Job, Stream};

use crate::bench::{bounded, collect, kill, line, shell, spawn, stat_field, until};

/// Every byte value, so that no text handling goes unnoticed.
const ALL_BYTES: &str = r"i=0; while [ $i -lt 256 ]; do printf \\$(printf %03o $i); i=$((i+1)); done";

#[tokio::test]
async fn bytes_are_exact_live_and_in_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let script = format!("{ALL_BYTES}; printf 'no newline' >&2");
    let (job, mut output) = spawn(shell(&script).log_dir(&logs)).await;
    let (stdout, stderr) = collect(&mut output).await;
    assert_eq!(stdout, (0..=255).collect::<Vec<u8>>());
    assert_eq!(stderr, b"no newline");
    let drained = bounded(job.drained()).await.unwrap();
    assert_eq!((drained.stdout, drained.stderr, drained.held), (256, 10, false));
    assert_eq!(fs::read(logs.join("stdout")).unwrap(), stdout);
    assert_eq!(fs::read(logs.join("stderr")).unwrap(), stderr);
}

#[tokio::test]
async fn the_streams_are_apart_and_in_order_of_arrival() {
    let dir = tempfile::tempdir().unwrap();
    // One for each stream: a reader must not meet the last writer before that one has closed.
    let gates = ["out", "err"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    assert!(std::process::Command::new("mkfifo").args(&gates).status().unwrap().success());
    // The job writes only when it is told that the earlier output has arrived.
    let [out, err] = &gates;
    let script = format!("for n in 1 2 3; do echo out$n; read _ <{out}; echo err$n >&2; read _ <{err}; done");
    let (job, mut output) = spawn(shell(&script)).await;
    let mut seen = Vec::new();
    let mut offsets = (0, 0);
    for _ in 0..6 {
        let chunk = bounded(output.next()).await.unwrap();
        let offset = if chunk.stream == Stream::Stdout { &mut offsets.0 } else { &mut offsets.1 };
        assert_eq!(chunk.offset, *offset);
        *offset += chunk.bytes.len() as u64;
        seen.push((chunk.sequence, chunk.stream, String::from_utf8(chunk.bytes).unwrap()));
        let gate = gates[usize::from(chunk.stream == Stream::Stderr)].clone();
        bounded(tokio::task::spawn_blocking(move || fs::write(gate, "\n"))).await.unwrap().unwrap();
    }
    let of = |n: u64| {
        let line = n / 2 + 1;
        if n.is_multiple_of(2) {
            (n, Stream::Stdout, format!("out{line}\n"))
        } else {
            (n, Stream::Stderr, format!("err{line}\n"))
        }
    };
    assert_eq!(seen, (0..6).map(of).collect::<Vec<_>>());
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn a_slow_reader_blocks_the_job_and_loses_nothing() {
    const TOTAL: u64 = 32 << 20;
    const BUFFER: u64 = 4;
    // The shell becomes the writer, whose wchar then tells how much it got rid of.
    let (job, mut output) = spawn(shell(&format!("exec head -c {TOTAL} /dev/zero")).buffer(4)).await;
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", job.pid())).unwrap_or_default();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut before = 0;
    let mut still = 0;
    until("the job blocks", || {
        let now = written();
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
        still > 50 && stat_field(job.pid(), 3).as_deref() == Some("S")
    })
    .await;
    // The buffer, a chunk on its way, and the pipe itself; head may count a write that is still blocked.
    assert!(before <= (BUFFER + 4) * 64 * 1024, "{before} bytes went out unread");
    let (stdout, _) = collect(&mut output).await;
    assert_eq!(stdout.len() as u64, TOTAL);
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn a_line_of_a_gigabyte_streams_in_bounded_memory() {
    const TOTAL: u64 = 1 << 30;
    let peak = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = peak();
    let (job, mut output) = spawn(shell(&format!("exec head -c {TOTAL} /dev/zero"))).await;
    let mut total = 0;
    while let Some(chunk) = bounded(output.next()).await {
        assert!(chunk.bytes.len() <= airunner_exec::CHUNK_LIMIT && chunk.offset == total);
        total += chunk.bytes.len() as u64;
    }
    assert_eq!(total, TOTAL);
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    // Other tests share the process, hence the room; the line itself would be 1,048,576 KiB.
    let grown = peak() - before;
    assert!(grown < 256 * 1024, "grew by {grown} KiB");
}

#[tokio::test]
async fn output_that_nobody_wants_does_not_block_and_is_still_logged() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let mut job = Job::spawn(shell("head -c 5000000 /dev/zero").log_dir(&logs)).await.unwrap();
    drop(job.output());
    assert!(job.output().is_none());
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    assert_eq!(bounded(job.drained()).await.unwrap().stdout, 5_000_000);
    assert_eq!(fs::metadata(logs.join("stdout")).unwrap().len(), 5_000_000);
}

#[tokio::test]
async fn the_end_is_told_while_output_waits_and_none_of_it_is_lost() {
    let (job, mut output) =
        spawn(shell("head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2").buffer(1)).await;
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    let (stdout, stderr) = collect(&mut output).await;
    assert_eq!((stdout.len(), stderr.len()), (60_000, 60_000));
    assert!(!bounded(job.drained()).await.unwrap().held);
}

#[tokio::test]
async fn output_of_a_killed_job_up_to_the_kill_is_there() {
    let (job, mut output) = spawn(shell("echo first; echo second; exec sleep 600")).await;
    let mut text = line(&mut output).await;
    if !text.contains("second") {
        text.push_str(&line(&mut output).await);
    }
    job.stop(airunner_exec::Signal::Kill, std::time::Duration::ZERO).await;
    assert!(text.contains("first") && text.contains("second"));
    assert!(bounded(output.next()).await.is_none());
}

#[tokio::test]
async fn a_process_that_left_the_group_cannot_hold_the_output_open() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    // setsid forks when it must: the file tells the pid of what has left the group.
    let script = format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600' & \
        until [ -e {0} ]; do :; done; echo done",
        pid_file.display()
    );
    let (job, mut output) = spawn(shell(&script)).await;
    let (stdout, _) = collect(&mut output).await;
    assert_eq!(stdout, b"done\n");
    assert_eq!(bounded(job.wait()).await.exit, Exit::Code(0));
    assert!(bounded(job.drained()).await.unwrap().held);
    kill_stray(&pid_file);
}

#[tokio::test]
async fn a_flood_from_outside_the_group_ends_too() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; trap \"\" PIPE; exec yes' & \
        until [ -e {0} ]; do :; done",
        pid_file.display()
    );
    let (job, mut output) = spawn(shell(&script)).await;
    while bounded(output.next()).await.is_some() {}
    assert!(bounded(job.drained()).await.unwrap().held);
    // Its pipe is closed now, so it has ended, unless it was between two writes.
    kill_stray(&pid_file);
}

/// The test made that process, and `setsid` took it out of reach of the library.
fn kill_stray(pid_file: &std::path::Path) {
    kill(fs::read_to_string(pid_file).unwrap().trim().parse().unwrap(), rustix::process::Signal::KILL);
}
