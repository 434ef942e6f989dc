//! How jobs and workers are ended, from either side.

use std::time::Duration;

use airunner_agent::Run;
use airunner_core::Label;
use airunner_proto::{
    job::v1::{CancelJobRequest, JobState, exit::How},
    principal::v1::SuspendPrincipalRequest,
};

use crate::bed::{Bed, duration, is_alive, shell, soon, until};

/// A job that ignores TERM and tells when it does.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
const OBEDIENT: &str = "echo ready; exec sleep 1000";

async fn cancel(bed: &Bed, job_id: &str, grace: Duration) {
    let request = CancelJobRequest { job_id: job_id.to_owned(), signal: 15, grace: Some(duration(grace)) };
    soon(bed.admin.jobs().cancel_job(request)).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_job_gets_the_signal_and_after_the_grace_it_is_killed() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for (line, grace, how) in [
        (OBEDIENT, Duration::from_secs(30), How::Signal(15)),
        (STUBBORN, Duration::from_millis(100), How::Signal(9)),
        (OBEDIENT, Duration::ZERO, How::Signal(9)),
    ] {
        let job_id = bed.submit(shell(line)).await;
        let mut watch = bed.watch(&job_id);
        watch.until(|seen| !seen.stdout.is_empty()).await;
        cancel(&bed, &job_id, grace).await;
        let report = watch.end().await;
        assert_eq!((report.state(), report.exit()), (JobState::Cancelled, Some(how)));
        assert!(!is_alive(report.started[0]));
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_stopped() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let spec = airunner_proto::job::v1::JobSpec {
        timeout: Some(duration(Duration::from_millis(300))),
        ..shell(OBEDIENT)
    };
    let report = bed.run(spec).await;
    assert_eq!((report.state(), report.exit()), (JobState::TimedOut, Some(How::Signal(15))));
    assert_eq!(report.text(), "ready\n");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_lease_kills_the_job_and_nothing_more_is_said_of_it() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    // Only the first attempt hangs.
    let job_id =
        bed.submit(shell("echo $AIRUNNER_ATTEMPT; [ $AIRUNNER_ATTEMPT -gt 1 ] || exec sleep 1000")).await;
    let mut watch = bed.watch(&job_id);
    let first = watch.until(|seen| !seen.stdout.is_empty()).await.started[0];
    let now = airunner_core::Clock::now(&*bed.server.clock);
    bed.server.stores.jobs.end_leases_of(&bed.credentials.id, now, 10).await.unwrap();
    let report = watch.end().await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert_eq!(report.text(), "1\n2\n");
    until(async || !is_alive(first)).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn told_to_stop_a_worker_lets_its_job_finish() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let job_id = bed.submit(shell("echo ready; sleep 0.5; echo done")).await;
    let waiting = {
        let mut watch = bed.watch(&job_id);
        watch.until(|seen| !seen.stdout.is_empty()).await;
        bed.submit(shell("true")).await
    };
    worker.stop().await.unwrap();
    let job = bed.job(&job_id).await;
    assert_eq!(job.state(), JobState::Completed);
    // What comes later is not taken any more.
    assert_eq!((bed.job(&waiting).await.state(), bed.job(&waiting).await.attempt), (JobState::Scheduled, 0));
}

#[tokio::test]
async fn after_the_time_to_drain_jobs_are_killed_and_go_back() {
    let bed = Bed::new().await;
    let worker = bed.worker_with(|options| options.drain = Duration::from_millis(100));
    let job_id =
        bed.submit(shell("echo $AIRUNNER_ATTEMPT; [ $AIRUNNER_ATTEMPT -gt 1 ] || exec sleep 1000")).await;
    let mut watch = bed.watch(&job_id);
    let first = watch.until(|seen| !seen.stdout.is_empty()).await.started[0];
    worker.stop().await.unwrap();
    assert!(!is_alive(first));
    assert_eq!(bed.job(&job_id).await.state(), JobState::Scheduled);

    let next = bed.worker();
    let report = watch.end().await;
    assert_eq!(report.text(), "1\n2\n");
    assert!(report.notes.iter().any(|note| note.contains("goes back to its queue")), "{:?}", report.notes);
    next.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_for_one_job_ends_after_it_and_leaves_the_others_alone() {
    let bed = Bed::new().await;
    let jobs = [bed.submit(shell("echo one")).await, bed.submit(shell("echo two")).await];
    let worker = bed.worker_with(|options| options.run = Run::Once);
    worker.ended().await.unwrap();
    assert_eq!(bed.job(&jobs[0]).await.state(), JobState::Completed);
    let other = bed.job(&jobs[1]).await;
    assert_eq!((other.state(), other.attempt), (JobState::Scheduled, 0));
}

#[tokio::test]
async fn a_denied_worker_kills_its_jobs_and_ends_with_the_reason() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let job_id = bed.submit(shell(OBEDIENT)).await;
    let mut watch = bed.watch(&job_id);
    let pid = watch.until(|seen| !seen.stdout.is_empty()).await.started[0];
    let request = SuspendPrincipalRequest { principal_id: "worker".to_owned(), reason: "stolen".to_owned() };
    soon(bed.admin.principals().suspend_principal(request)).await.unwrap();
    let error = worker.ended().await.unwrap_err();
    assert!(error.is(Label::PrincipalSuspended), "{error:?}");
    assert!(!is_alive(pid));
    assert_eq!(bed.job(&job_id).await.state(), JobState::Scheduled);
}
