//! What a job gets, and what is told of it.

use std::{fs, os::unix::fs::PermissionsExt};

use airunner_proto::job::v1::{JobSpec, JobState, OutputStream, WriteJobInputRequest, exit::How};

use crate::bed::{Bed, open_directory, shell, soon, user};

#[tokio::test]
async fn a_job_runs_and_its_output_comes_back_with_its_start_and_its_end() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let spec = JobSpec { command: "echo".to_owned(), args: vec!["hello".to_owned()], ..Default::default() };
    let report = bed.run(spec).await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert_eq!((report.text().as_str(), report.stderr.as_slice()), ("hello\n", &b""[..]));
    let first = 1 << 40;
    assert_eq!(report.sequences[..2], [first + 1, first + 2]);
    assert_eq!(report.started.len(), 1);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn output_is_exact_to_the_byte_on_both_streams() {
    let bytes: Vec<u8> =
        (0..1_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let bed = Bed::new().await;
    let worker = bed.worker();
    let place = open_directory();
    let file = place.path().join("bytes");
    fs::write(&file, &bytes).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let report = bed.run(shell(&format!("cat {0}; cat {0} >&2", file.display()))).await;
    assert!(report.stdout == bytes, "stdout differs: {} bytes", report.stdout.len());
    assert!(report.stderr == bytes, "stderr differs: {} bytes", report.stderr.len());
    let mut sorted = report.sequences.clone();
    sorted.dedup();
    assert!(sorted.is_sorted() && sorted == report.sequences);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_printed_in_turn_is_told_in_turn() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let report = bed.run(shell("echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c")).await;
    let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
    let expected = [(out, "a\n"), (err, "b\n"), (out, "c\n")];
    assert_eq!(report.printed, expected.map(|(stream, text)| (stream, text.to_owned())));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn codes_and_signals_are_told_as_they_are() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for (line, how) in
        [("exit 7", How::Code(7)), ("kill -KILL $$", How::Signal(9)), ("kill -TERM $$", How::Signal(15))]
    {
        let report = bed.run(shell(line)).await;
        assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(how)), "{line}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_failure_that_says_so() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let spec = JobSpec { command: "no-such-command".to_owned(), max_attempts: 1, ..Default::default() };
    let report = bed.run(spec).await;
    assert_eq!((report.state(), report.exit()), (JobState::Failed, None));
    assert!(report.reason().contains("no-such-command"), "{}", report.reason());
    assert!(report.started.is_empty());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_gets_its_own_environment_and_nothing_of_ours() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let mut spec =
        shell("env | grep -v '^_=\\|^SHLVL=\\|^PWD=' | sort; pwd; id -u; ls -A; touch mine; umask");
    spec.environment = [("COLOUR".to_owned(), "blue".to_owned())].into();
    let job_id = bed.submit(spec).await;
    let report = bed.watch(&job_id).end().await;
    let home = worker.state.path().join("work").join(format!("{job_id}-1"));
    let home = home.display();
    let uid =
        if user() == airunner_agent::JobUser::Same { rustix::process::geteuid().as_raw() } else { 65_534 };
    let text = report.text();
    let (shown, _umask) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(
        shown,
        format!(
            "AIRUNNER_ATTEMPT=1\nAIRUNNER_JOB_ID={job_id}\nCOLOUR=blue\nHOME={home}\n\
             PATH=/usr/local/bin:/usr/bin:/bin\n{home}\n{uid}"
        )
    );
    assert_eq!(report.stderr, b"");
    assert!(!worker.state.path().join("work").join(format!("{job_id}-1")).exists());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn standard_input_arrives_once_and_ends() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let job_id = bed.submit(JobSpec { command: "cat".to_owned(), stdin: true, ..Default::default() }).await;
    let mut watch = bed.watch(&job_id);
    let write = async |data: &[u8], end| {
        let request =
            WriteJobInputRequest { job_id: job_id.clone(), data: data.to_vec(), end, ..Default::default() };
        soon(bed.admin.jobs().write_job_input(request)).await.unwrap();
    };
    write(b"one \x00\xff ", false).await;
    watch.until(|seen| seen.stdout.len() == 7).await;
    write(b"two", true).await;
    let report = watch.end().await;
    assert_eq!(report.stdout, b"one \x00\xff two");
    assert_eq!(report.exit(), Some(How::Code(0)));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn as_many_jobs_run_at_a_time_as_the_worker_has_places() {
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| options.concurrency = 3);
    let place = open_directory();
    // Each ends only when three run at a time.
    let line = format!(
        "cd {} && touch $AIRUNNER_JOB_ID && while [ $(ls | wc -l) -lt 3 ]; do sleep 0.02; done",
        place.path().display()
    );
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(bed.submit(shell(&line)).await);
    }
    for job in jobs {
        assert_eq!(bed.watch(&job).end().await.exit(), Some(How::Code(0)));
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_takes_one_job_after_the_other() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let mut jobs = Vec::new();
    for n in 0..10 {
        jobs.push(bed.submit(shell(&format!("echo {n}"))).await);
    }
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(bed.watch(job).end().await.text(), format!("{n}\n"));
    }
    worker.stop().await.unwrap();
}
