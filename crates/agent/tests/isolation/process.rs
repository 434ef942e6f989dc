//! What is left when a worker without isolation is killed, and what becomes of its jobs.

use std::{fs, time::Duration};

use airunner_core::{Isolation as Level, PrincipalType};
use airunner_proto::job::v1::{JobState, exit::How};

use crate::{
    bed::{Bed, Worker, is_alive, open_directory, shell, until},
    trials,
    victim::WorkerProcess,
};

trials![
    what_a_killed_worker_left_running_is_gone_after_the_next_start,
    a_job_of_a_killed_worker_runs_again_elsewhere_once_its_lease_is_over,
];

async fn what_a_killed_worker_left_running_is_gone_after_the_next_start() {
    let bed = Bed::new().await;
    let mut victim = WorkerProcess::start(&bed, Level::None);
    let place = open_directory();
    // The job leaves a child behind that has forgotten its parent.
    let line =
        format!("cd {}; (sleep 1001 & echo $! > child); echo ready; exec sleep 1000", place.path().display());
    let job_id = bed.submit(shell(&line)).await;
    let pid = bed.watch(&job_id).until(|seen| !seen.stdout.is_empty()).await.started[0];
    let child: u32 = fs::read_to_string(place.path().join("child")).unwrap().trim().parse().unwrap();
    victim.kill();
    assert!(is_alive(pid) && is_alive(child));
    let workspace = format!("work/{job_id}-1");
    assert!(victim.state.path().join(&workspace).exists());

    let next = victim.succeeded(&bed);
    until(async || !is_alive(pid) && !is_alive(child)).await;
    until(async || !next.state.path().join(&workspace).exists()).await;
    next.stop().await.unwrap();
}

async fn a_job_of_a_killed_worker_runs_again_elsewhere_once_its_lease_is_over() {
    for level in Level::ALL {
        runs_again_elsewhere(*level).await;
    }
}

async fn runs_again_elsewhere(level: Level) {
    let bed = Bed::new().await;
    let mut victim = WorkerProcess::start(&bed, level);
    let line = "echo $AIRUNNER_ATTEMPT; [ $AIRUNNER_ATTEMPT -gt 1 ] || exec sleep 1000";
    let job_id = bed.submit(shell(line)).await;
    let mut watch = bed.watch(&job_id);
    let pid = watch.until(|seen| !seen.stdout.is_empty()).await.started[0];
    victim.kill();

    let elsewhere = bed.server.principal("elsewhere", PrincipalType::Worker).await;
    let other =
        Worker::start(bed.client_of(&elsewhere), open_directory(), |options| options.isolation = level);
    // Another job shows that it works, and that the lease of the dead one still counts.
    assert_eq!(bed.run(shell("echo works")).await.text(), "works\n");
    let held = bed.job(&job_id).await;
    assert_eq!((held.state(), held.attempt, held.holder.as_str()), (JobState::Running, 1, "worker"));

    bed.server.turn_ahead(Duration::from_secs(5 * 60 + 3)).await;
    bed.server.app.housekeeping.step().await.unwrap();
    watch.until(|seen| seen.started.len() == 2).await;
    let report = watch.end().await;
    assert_eq!((report.state(), report.exit()), (JobState::Completed, Some(How::Code(0))));
    assert_eq!(report.text(), "1\n2\n");
    other.stop().await.unwrap();

    let next = victim.succeeded(&bed);
    until(async || !is_alive(pid)).await;
    next.stop().await.unwrap();
}
