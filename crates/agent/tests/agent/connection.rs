//! Lost connections and exchanged identities, which a job must not notice.

use std::{sync::Arc, time::Duration};

use airunner_e2e::ShiftedClock;
use airunner_proto::job::v1::{JobSpec, JobState, WriteJobInputRequest, exit::How};

use crate::bed::{Bed, Proxy, Worker, is_alive, lines, loaded, open_directory, shell, soon, until};

/// Prints numbers for a second or so.
const COUNTING: &str =
    "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i % 30)) -ne 0 ] || sleep 0.01; done";

fn numbers(last: u32) -> String {
    (1..=last).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect()
}

#[tokio::test]
async fn output_survives_lost_connections_without_gap_or_repeat() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |_| {});
    let job_id = bed.submit(shell(COUNTING)).await;
    let mut watch = bed.watch(&job_id);
    for count in [1, 500, 1_000, 1_500] {
        watch.until(|seen| lines(&seen.stdout) >= count).await;
        proxy.cut();
    }
    let report = watch.end().await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert!(report.text() == numbers(3_000), "{}", report.text());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_goes_on_printing_while_the_server_takes_nothing_and_nothing_of_it_is_lost() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |options| {
        options.concurrency = 64;
        options.output_buffer = 64 * (4 << 20);
    });
    let place = open_directory();
    let at = |name: &str| place.path().join(name);
    // Far more than memory holds of one job among 64.
    let line = "echo ready; until [ -e go ]; do sleep 0.01; done; seq 500000; : > printed";
    let job_id = bed.submit(shell(&format!("cd {}; {line}", place.path().display()))).await;
    let mut watch = bed.watch(&job_id);
    watch.until(|seen| !seen.stdout.is_empty()).await;
    proxy.hold_to_server();
    std::fs::write(at("go"), "").unwrap();
    until(async || at("printed").exists()).await;
    assert_eq!(std::fs::read_dir(worker.state.path().join("output")).unwrap().count(), 0);
    proxy.lose();
    let report = watch.end().await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert!(report.text() == format!("ready\n{}", numbers(500_000)));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn output_survives_an_exchanged_identity_without_gap_or_repeat() {
    let bed = Bed::new().await;
    let client = bed.client();
    let worker = Worker::start(client.clone(), open_directory(), |_| {});
    let job_id = bed.submit(shell(COUNTING)).await;
    let mut watch = bed.watch(&job_id);
    for count in [1, 1_000] {
        watch.until(|seen| lines(&seen.stdout) >= count).await;
        let successor = bed.server.issue(&bed.credentials.id).await;
        client.replace_identity(loaded(&successor, "")).unwrap();
    }
    let report = watch.end().await;
    assert_eq!(report.exit(), Some(How::Code(0)));
    assert!(report.text() == numbers(3_000), "{}", report.text());
    // The next job comes over the new connection.
    assert_eq!(bed.run(shell("echo more")).await.text(), "more\n");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn input_survives_a_lost_connection_and_is_not_repeated() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |_| {});
    let job_id = bed.submit(JobSpec { command: "cat".to_owned(), stdin: true, ..Default::default() }).await;
    let mut watch = bed.watch(&job_id);
    for n in 1..=4_usize {
        let end = n == 4;
        let request = WriteJobInputRequest {
            job_id: job_id.clone(),
            data: n.to_string().into(),
            end,
            ..Default::default()
        };
        soon(bed.admin.jobs().write_job_input(request)).await.unwrap();
        if !end {
            watch.until(|seen| seen.stdout.len() >= n).await;
            proxy.cut();
        }
    }
    let report = watch.end().await;
    assert_eq!(report.text(), "1234");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_waits_for_a_server_that_is_away() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |_| {});
    for n in 0..3 {
        proxy.cut();
        assert_eq!(bed.run(shell(&format!("echo {n}"))).await.text(), format!("{n}\n"));
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_claim_was_lost_with_the_connection_runs_on_the_next_one_and_once() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |_| {});
    assert_eq!(bed.run(shell("echo ready")).await.text(), "ready\n");
    proxy.hold_from_server();
    let job_id = bed.submit(shell("echo $AIRUNNER_ATTEMPT")).await;
    until(async || bed.job(&job_id).await.state() == JobState::Running).await;
    proxy.lose();
    let report = bed.watch(&job_id).end().await;
    assert_eq!((report.text().as_str(), report.started.len()), ("1\n", 1));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_the_worker_has_let_go_of_is_not_taken_up_again() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let clock = Arc::new(ShiftedClock::default());
    let worker = Worker::start_at(clock.clone(), bed.client_through(&proxy), open_directory(), |options| {
        options.visibility = Duration::from_secs(10);
    });
    assert_eq!(bed.run(shell("echo ready")).await.text(), "ready\n");
    let place = open_directory();
    let ran = place.path().join("ran");
    let attempts = || std::fs::read_to_string(&ran).unwrap_or_default();

    // The server never hears of the start, and the worker gives the lease up before the server does.
    proxy.hold_to_server();
    let line = "echo $AIRUNNER_ATTEMPT >> ran; [ $AIRUNNER_ATTEMPT -gt 1 ] || exec sleep 1000";
    let job_id = bed.submit(shell(&format!("cd {}; {line}", place.path().display()))).await;
    until(async || attempts() == "1\n").await;
    let before = bed.job(&job_id).await;
    clock.advance(Duration::from_secs(11));
    until(async || worker.holds_no_workspace()).await;
    proxy.lose();

    // The server takes the claim for lost, and sends it again: it extends the lease for that.
    until(async || bed.job(&job_id).await.lease_deadline != before.lease_deadline).await;
    assert_eq!((bed.job(&job_id).await.attempt, bed.job(&job_id).await.process_id), (1, 0));
    bed.server.turn_ahead(Duration::from_secs(13)).await;
    bed.server.app.housekeeping.step().await.unwrap();
    assert_eq!(bed.watch(&job_id).end().await.exit(), Some(How::Code(0)));
    assert_eq!(attempts(), "1\n2\n");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_lease_is_extended_at_a_third_of_its_length() {
    let bed = Bed::new().await;
    let worker = Worker::start_at(bed.server.clock.clone(), bed.client(), open_directory(), |options| {
        options.visibility = Duration::from_secs(10);
    });
    let job_id = bed.submit(shell("echo ready; exec sleep 1000")).await;
    bed.watch(&job_id).until(|seen| !seen.stdout.is_empty()).await;
    for _ in 0..4 {
        let before = bed.job(&job_id).await.lease_deadline.unwrap();
        bed.server.advance(Duration::from_secs(4)).await;
        until(async || bed.job(&job_id).await.lease_deadline.unwrap().seconds >= before.seconds + 4).await;
    }
    assert_eq!(bed.job(&job_id).await.attempt, 1);
    worker.stop_now().await;
}

#[tokio::test]
async fn a_job_whose_lease_cannot_be_extended_is_killed_before_another_gets_it() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let clock = Arc::new(ShiftedClock::default());
    let client = bed.client_through(&proxy);
    let worker = Worker::start_at(clock.clone(), client, open_directory(), |options| {
        options.visibility = Duration::from_secs(10);
    });
    let job_id = bed.submit(shell("echo ready; exec sleep 1000")).await;
    let pid = bed.watch(&job_id).until(|seen| !seen.stdout.is_empty()).await.started[0];
    proxy.close();
    clock.advance(Duration::from_secs(9));
    assert!(is_alive(pid));
    clock.advance(Duration::from_secs(1));
    until(async || !is_alive(pid)).await;
    worker.stop_now().await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_before_it_heard_that_its_last_job_is_over_ends_all_the_same() {
    let bed = Bed::new().await;
    let proxy = Proxy::to(bed.server.addresses.api).await;
    let place = open_directory();
    let over = place.path().join("over");
    let worker = Worker::start(bed.client_through(&proxy), open_directory(), |options| {
        // Longer than the test waits.
        options.drain = Duration::from_hours(1);
    });
    let job_id =
        bed.submit(shell(&format!("echo ready; until [ -e {} ]; do sleep 0.01; done", over.display()))).await;
    let mut watch = bed.watch(&job_id);
    watch.until(|seen| !seen.stdout.is_empty()).await;
    // The server has said by now that it has the line; what it says from here on is not heard.
    proxy.hold_from_server();
    std::fs::write(&over, "").unwrap();
    assert_eq!(watch.end().await.state(), JobState::Completed);
    worker.shutdown.cancel();
    proxy.lose();
    worker.ended().await.unwrap();
}
