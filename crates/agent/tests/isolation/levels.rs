//! Which level a job runs at, and what is told of it.

use airunner_core::Isolation as Level;
use airunner_proto::job::v1::{Isolation, JobSpec, JobState};

use crate::{bed::Bed, machine::at, trials};

trials![
    the_workers_level_is_the_least_that_a_job_gets,
    what_was_used_is_told_at_every_level,
    the_machines_network_needs_no_sandbox_where_nothing_is_said,
];

async fn ran_at(bed: &Bed, spec: JobSpec) -> Isolation {
    let job_id = bed.submit(spec).await;
    let report = bed.watch(&job_id).end().await;
    assert_eq!(report.state(), JobState::Completed, "{}", report.reason());
    assert_eq!(report.notes, Vec::<String>::new());
    bed.job(&job_id).await.usage.unwrap().isolation()
}

async fn the_workers_level_is_the_least_that_a_job_gets() {
    for (own, asked, got) in [
        (Level::None, Isolation::Unspecified, Isolation::None),
        (Level::None, Isolation::Sandbox, Isolation::Sandbox),
        (Level::Limits, Isolation::None, Isolation::Limits),
        (Level::Sandbox, Isolation::Unspecified, Isolation::Sandbox),
        (Level::Sandbox, Isolation::None, Isolation::Sandbox),
    ] {
        let bed = Bed::new().await;
        let worker = bed.worker_with(|options| options.isolation = own);
        // It is what it says to be: only in a sandbox nothing of the machine's first process is seen.
        let line = "[ $$ -lt 10 ] && echo sandbox || echo none";
        assert_eq!(ran_at(&bed, at(asked, "true")).await, got, "{own} and {asked:?}");
        let seen = bed.run(at(asked, line)).await.text();
        assert_eq!(seen == "sandbox\n", got == Isolation::Sandbox, "{own} and {asked:?}");
        worker.stop().await.unwrap();
    }
}

async fn what_was_used_is_told_at_every_level() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in [Isolation::None, Isolation::Limits, Isolation::Sandbox] {
        let spin = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; exit 3";
        let job_id = bed.submit(at(level, spin)).await;
        bed.watch(&job_id).end().await;
        let job = bed.job(&job_id).await;
        assert_eq!((job.state(), job.isolation()), (JobState::Completed, level));
        let usage = job.usage.unwrap();
        let time = usage.user_time.unwrap();
        assert!(time.seconds > 0 || time.nanos >= 10_000_000, "{level:?}: {usage:?}");
        assert!(usage.left_out.is_empty());
    }
    worker.stop().await.unwrap();
}

async fn the_machines_network_needs_no_sandbox_where_nothing_is_said() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    let spec = JobSpec { host_network: true, ..at(Isolation::Unspecified, "true") };
    assert_eq!(ran_at(&bed, spec).await, Isolation::None);
    worker.stop().await.unwrap();
}
