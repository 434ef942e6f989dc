//! That nothing of a job is left: at its end, and after its worker was killed.

use std::fs;

use airunner_core::Isolation as Level;
use airunner_proto::job::v1::{CancelJobRequest, Isolation, JobState};

use crate::{
    bed::{Bed, soon, until},
    machine::{ISOLATED, at, has_cgroup, long_sleep, sleeping},
    trials,
    victim::WorkerProcess,
};

trials![
    a_child_that_has_left_its_parent_and_its_session_ends_with_the_job,
    of_a_killed_worker_nothing_is_left_after_its_next_start,
];

/// Leaves a child behind that has forgotten its parent, its session and its group.
fn line(child: u32, command: u32) -> String {
    format!("(setsid sleep {child} >/dev/null 2>&1 &); echo ready; exec sleep {command}")
}

async fn a_child_that_has_left_its_parent_and_its_session_ends_with_the_job() {
    let bed = Bed::new().await;
    let worker = bed.worker();
    for level in ISOLATED {
        let (child, command) = (long_sleep(), long_sleep());
        let job_id = bed.submit(at(level, &line(child, command))).await;
        let mut watch = bed.watch(&job_id);
        watch.until(|seen| !seen.stdout.is_empty()).await;
        until(async || !sleeping(child).is_empty()).await;
        assert!(has_cgroup(&job_id));
        let request = CancelJobRequest { job_id: job_id.clone(), signal: 9, ..Default::default() };
        soon(bed.admin.jobs().cancel_job(request)).await.unwrap();
        assert_eq!(watch.end().await.state(), JobState::Cancelled);
        assert!(sleeping(child).is_empty() && sleeping(command).is_empty(), "{level:?}");
        assert!(!has_cgroup(&job_id));
        until(async || worker.holds_no_workspace()).await;
    }
    worker.stop().await.unwrap();
}

async fn of_a_killed_worker_nothing_is_left_after_its_next_start() {
    for level in [Level::Limits, Level::Sandbox] {
        let bed = Bed::new().await;
        let mut victim = WorkerProcess::start(&bed, level);
        let (child, command) = (long_sleep(), long_sleep());
        let job_id = bed.submit(at(Isolation::Unspecified, &line(child, command))).await;
        bed.watch(&job_id).until(|seen| !seen.stdout.is_empty()).await;
        until(async || !sleeping(child).is_empty() && !sleeping(command).is_empty()).await;
        let state = victim.state.path().to_owned();
        assert!(state.join(format!("work/{job_id}-1")).exists() && has_cgroup(&job_id));
        victim.kill();
        if level == Level::Sandbox {
            // A sandbox does not wait for that.
            until(async || sleeping(child).is_empty() && sleeping(command).is_empty()).await;
        }
        let next = victim.succeeded(&bed);
        until(async || sleeping(child).is_empty() && sleeping(command).is_empty()).await;
        until(async || next.holds_no_workspace() && !has_cgroup(&job_id)).await;
        until(async || fs::read_dir(state.join("marks")).is_ok_and(|mut marks| marks.next().is_none())).await;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&*state.to_string_lossy()), "{mounts}");
        next.stop().await.unwrap();
    }
}
