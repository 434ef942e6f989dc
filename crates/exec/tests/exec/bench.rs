//! Builders and observations that the tests share.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use airunner_exec::{Chunk, Completion, Exit, Job, JobId, Output, Spec, Stream};

/// No wait of a test is longer: then something hangs.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

/// An id of its own for each job of each test process.
pub(crate) fn id() -> JobId {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    JobId::new(format!("test-{}-{number}", std::process::id())).unwrap()
}

/// A shell script as a job, with the usual PATH.
pub(crate) fn shell(script: &str) -> Spec {
    command("sh").args(["-c", script])
}

pub(crate) fn command(name: &str) -> Spec {
    Spec::new(id(), name).env("PATH", "/usr/local/bin:/usr/bin:/bin")
}

pub(crate) async fn spawn(spec: Spec) -> (Job, Output) {
    let mut job = Job::spawn(spec).await.unwrap();
    let output = job.output().unwrap();
    (job, output)
}

/// Runs to the end, and gives both streams.
pub(crate) async fn run(spec: Spec) -> (Completion, Vec<u8>, Vec<u8>) {
    let (job, mut output) = spawn(spec).await;
    let (stdout, stderr) = collect(&mut output).await;
    (bounded(job.wait()).await, stdout, stderr)
}

/// Runs to the end, and gives standard output as text. The job must succeed.
pub(crate) async fn stdout_of(spec: Spec) -> String {
    let (completion, stdout, stderr) = run(spec).await;
    assert_eq!(completion.exit, Exit::Code(0), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// All that is still to come, with a check that sequences and offsets have no gap.
pub(crate) async fn collect(output: &mut Output) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut last: Option<u64> = None;
    while let Some(Chunk { sequence, stream, offset, bytes }) = bounded(output.next()).await {
        assert!(last.is_none_or(|last| sequence == last + 1), "a gap before {sequence}");
        last = Some(sequence);
        assert!(!bytes.is_empty() && bytes.len() <= airunner_exec::CHUNK_LIMIT);
        let all = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
        assert!(sequence > 0 || offset == 0);
        all.extend(bytes);
    }
    (stdout, stderr)
}

/// Standard output up to and with the first line feed; the job is known to have come that far.
pub(crate) async fn line(output: &mut Output) -> String {
    let mut text = String::new();
    while !text.ends_with('\n') {
        let chunk = bounded(output.next()).await.expect("the output ended before the line did");
        text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
    }
    text.trim_end().to_owned()
}

pub(crate) async fn bounded<F: Future>(wait: F) -> F::Output {
    tokio::time::timeout(BOUND, wait).await.expect("it hangs")
}

/// Polls `/proc`, which tells nobody when it changes.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(BOUND, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A field of `/proc/PID/stat` as proc_pid_stat(5) counts them, from 3 on.
pub(crate) fn stat_field(pid: u32, number: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(number - 3).map(str::to_owned)
}

/// Whether the process is there, and more than a zombie.
pub(crate) fn runs(pid: u32) -> bool {
    stat_field(pid, 3).is_some_and(|state| state != "Z" && state != "X")
}

/// The living members of a process group.
pub(crate) fn members(group: u32) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| runs(*pid) && stat_field(*pid, 5) == Some(group.to_string())).collect()
}

/// Signals one process, if it is still there.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

pub(crate) fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
