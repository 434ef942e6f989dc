//! How a `JobStore` ends leases: each once, by its holder in time, or by being taken back.

use std::time::Duration;

use airunner_core::{
    AttemptOutcome, Cancellation, Completion, ControlEvent, EventKind, Exit, Fencing, Isolation, Job,
    JobControl, JobState, Label, Lease, LeaseExtension, Sequence, Stores, Usage,
};

use super::world::{NOW, WORKER, World, after, race, refused};
use crate::records::{self, JobExt as _, id};

pub async fn a_completed_job_says_how_it_ended(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let done = world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(3))).await.unwrap();
    let expected = Job {
        state: JobState::Completed,
        lease: None,
        exit: Some(Exit::Code(3)),
        finished_at: Some(after(10)),
        ..job.clone()
    };
    assert_eq!(done, expected);
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), Some(expected));
    let outcome = AttemptOutcome::Exited(Exit::Code(3));
    let event = ControlEvent {
        sequence: Sequence::end_of(1),
        at: after(10),
        kind: EventKind::AttemptEnded { outcome, last: true },
    };
    assert_eq!(events(&world, &job).await, [event]);
}

pub async fn what_an_attempt_used_is_told_until_the_next_begins(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let used = Usage {
        user: Duration::from_micros(1_500_001),
        system: Duration::from_millis(20),
        peak_memory_bytes: Some(u64::MAX),
        oom_kills: Some(0),
        peak_processes: None,
        read_bytes: Some(4_096),
        written_bytes: None,
        isolation: Isolation::Sandbox,
        left_out: vec!["the limit on memory (memory.max)".to_owned()],
    };
    let failed = || AttemptOutcome::Failed("no git".to_owned());
    let completion = |job: &Job, usage: &Usage| Completion {
        job_id: job.id,
        attempt: job.attempt,
        outcome: failed(),
        usage: Some(usage.clone()),
    };
    let done = world.stores.jobs.complete_jobs(&id("w1"), &[completion(&job, &used)], after(10)).await;
    let waiting = done.unwrap().remove(0).unwrap();
    assert_eq!((waiting.state, waiting.usage.as_ref()), (JobState::Scheduled, Some(&used)));
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), Some(waiting));

    let again = world.lease_at("w1", 60).await.remove(0);
    assert_eq!((again.attempt, again.usage.as_ref()), (2, None));
    let other = Usage { oom_kills: Some(1), ..Usage::default() };
    let done = world.stores.jobs.complete_jobs(&id("w1"), &[completion(&again, &other)], after(70)).await;
    assert_eq!(done.unwrap().remove(0).unwrap().usage, Some(other));
}

pub async fn a_lease_ends_once(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let results = race((0..16).map(|code| {
        let (world, job) = (world.clone(), job.clone());
        async move { world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(code))).await }
    }))
    .await;
    let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap().as_ref(), Some(won[0]));
    assert_eq!(events(&world, &job).await.len(), 1);
    for result in results.into_iter().filter(std::result::Result::is_err) {
        refused(result, Label::LeaseLost);
    }
}

pub async fn only_the_holder_of_this_lease_completes_it_in_time(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    world.worker("w2").await;
    let exited = || AttemptOutcome::Exited(Exit::Code(0));
    refused(world.complete("w2", &job, exited()).await, Label::LeaseLost);
    refused(world.complete("w1", &Job { attempt: 2, ..job.clone() }, exited()).await, Label::LeaseLost);
    refused(world.complete("w1", &Job { attempt: 0, ..job.clone() }, exited()).await, Label::LeaseLost);
    let unknown = world.job();
    refused(world.complete("w1", &Job { attempt: 1, ..unknown }, exited()).await, Label::LeaseLost);
    let at_deadline = complete_at(&world, &job, exited(), 300).await;
    refused(at_deadline, Label::LeaseLost);
    for outcome in [AttemptOutcome::LeaseExpired, AttemptOutcome::HolderDenied] {
        refused(world.complete("w1", &job, outcome).await, Label::InvalidArgument);
    }
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), Some(job.clone()));
    assert_eq!(events(&world, &job).await, []);
}

pub async fn a_batch_is_judged_one_by_one(stores: Stores) {
    let world = World::new(stores);
    let first = world.running("w1").await;
    let second = world.running("w1").await;
    let of = |job: &Job, attempt| Completion {
        job_id: job.id,
        attempt,
        outcome: AttemptOutcome::Exited(Exit::Code(0)),
        usage: None,
    };
    let batch = [of(&first, 1), of(&first, 1), of(&second, 9), of(&second, 1)];
    let results = world.stores.jobs.complete_jobs(&id("w1"), &batch, after(10)).await.unwrap();
    let labels: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(airunner_core::Error::label)).collect();
    assert_eq!(labels, [None, Some(Label::LeaseLost), Some(Label::LeaseLost), None]);
}

pub async fn a_late_completion_harms_nothing(stores: Stores) {
    let world = World::new(stores);
    let first = world.running("w1").await;
    world.complete("w1", &first, AttemptOutcome::HandedBack).await.unwrap();
    let second = world.lease("w2", 1).await.remove(0);
    assert_eq!((second.id, second.attempt), (first.id, 2));
    refused(world.complete("w1", &first, AttemptOutcome::Exited(Exit::Code(0))).await, Label::LeaseLost);
    assert_eq!(world.stores.jobs.get_job(&first.id).await.unwrap(), Some(second));
}

pub async fn what_failed_is_tried_again_until_its_attempts_are_used_up(stores: Stores) {
    let world = World::new(stores);
    let mut job = world.running("w1").await;
    for attempt in 1..=3 {
        assert_eq!(job.attempt, attempt);
        let after = world.complete("w1", &job, AttemptOutcome::Failed("no git".to_owned())).await.unwrap();
        if attempt < 3 {
            assert_eq!(after.state, JobState::Scheduled);
            assert_eq!(after.lease, None);
            job = world.lease_at("w1", 60 * u64::from(attempt)).await.remove(0);
        } else {
            assert_eq!(after.state, JobState::Failed);
            assert!(after.reason.contains("no git"), "{}", after.reason);
            assert!(after.finished_at.is_some());
        }
    }
    let ends: Vec<_> = events(&world, &job).await.iter().map(|event| event.sequence).collect();
    assert_eq!(ends, [Sequence::end_of(1), Sequence::end_of(2), Sequence::end_of(3)]);
}

pub async fn an_exit_is_tried_again_where_the_job_asks_for_it(stores: Stores) {
    let world = World::new(stores);
    let asks = world.job().with(|spec| (spec.retry_on_exit, spec.max_attempts) = (true, 2));
    let job = world.running_with(asks, "w1").await;
    let after = world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(1))).await.unwrap();
    assert_eq!(after.state, JobState::Scheduled);
    let job = world.lease_at("w1", 60).await.remove(0);
    let after = world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(1))).await.unwrap();
    assert_eq!((after.state, after.exit), (JobState::Failed, Some(Exit::Code(1))));
}

pub async fn what_is_handed_back_costs_no_attempt(stores: Stores) {
    let world = World::new(stores);
    let mut job = world.running("w1").await;
    for n in 1..=5 {
        let after = world.complete("w1", &job, AttemptOutcome::HandedBack).await.unwrap();
        assert_eq!((after.state, after.handed_back), (JobState::Scheduled, n));
        job = world.lease("w1", 1).await.remove(0);
    }
    assert_eq!(job.attempt, 6);
    assert!(job.may_retry());
}

pub async fn a_time_out_ends_the_job(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let after = world.complete("w1", &job, AttemptOutcome::TimedOut(Some(Exit::Signal(9)))).await.unwrap();
    assert_eq!((after.state, after.exit), (JobState::TimedOut, Some(Exit::Signal(9))));
}

pub async fn a_lease_is_extended_by_its_holder(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let other = world.running("w2").await;
    let of = |job: &Job, attempt| LeaseExtension { job_id: job.id, attempt };
    let all = [of(&job, 1), of(&job, 2), of(&other, 1)];
    let results = world.stores.jobs.extend_leases(&id("w1"), &all, after(100), after(400)).await.unwrap();
    let [extended, wrong, others] = <[_; 3]>::try_from(results).unwrap();
    let control = JobControl {
        job_id: job.id,
        state: JobState::Running,
        attempt: 1,
        lease: Some(Lease { holder: id("w1"), worker: Some(WORKER), deadline: after(400) }),
        cancellation: None,
        finished_at: None,
    };
    assert_eq!(extended.unwrap(), control);
    refused(wrong, Label::LeaseLost);
    refused(others, Label::LeaseLost);
    assert_eq!(world.stores.jobs.job_controls(&[job.id]).await.unwrap(), [control]);
    assert!(complete_at(&world, &job, AttemptOutcome::Exited(Exit::Code(0)), 399).await.is_ok());
}

pub async fn what_has_run_out_is_not_extended(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let lease = [LeaseExtension { job_id: job.id, attempt: 1 }];
    let late = world.stores.jobs.extend_leases(&id("w1"), &lease, after(300), after(900)).await.unwrap();
    refused(late.into_iter().next().unwrap(), Label::LeaseLost);
}

pub async fn an_extension_tells_of_a_request_to_stop(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    world.cancel(&job.id, cancellation()).await.unwrap();
    let lease = [LeaseExtension { job_id: job.id, attempt: 1 }];
    let told = world.stores.jobs.extend_leases(&id("w1"), &lease, after(100), after(400)).await.unwrap();
    assert_eq!(told[0].as_ref().unwrap().cancellation, Some(cancellation()));
}

pub async fn a_lease_that_ran_out_is_taken_back_two_seconds_later(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let expire = |at| world.stores.jobs.expire_leases(at, 10, Fencing(0));
    assert_eq!(expire(after(302)).await.unwrap(), []);
    let expired = expire(after(302).plus(Duration::from_millis(1))).await.unwrap();
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].id, expired[0].state), (job.id, JobState::Scheduled));
    assert_eq!(expired[0].lease, None);
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap().as_ref(), Some(&expired[0]));
    let kind = EventKind::AttemptEnded { outcome: AttemptOutcome::LeaseExpired, last: false };
    assert_eq!(events(&world, &job).await[0].kind, kind);
    assert_eq!(expire(after(400)).await.unwrap(), []);
}

pub async fn leases_are_taken_back_by_whoever_keeps_house_now(stores: Stores) {
    let world = World::new(stores);
    world.running("w1").await;
    let life = Duration::from_secs(10);
    let [one, two] = [0, 1].map(|_| records::server(NOW, world.random()).id);
    let hold = async |id, now| world.stores.servers.hold_housekeeping(id, now, life).await.unwrap().unwrap();
    let old = hold(&one, NOW).await;
    let new = hold(&two, after(60)).await;
    refused(world.stores.jobs.expire_leases(after(400), 10, old).await, Label::VersionConflict);
    assert_eq!(world.stores.jobs.expire_leases(after(400), 10, new).await.unwrap().len(), 1);
}

pub async fn leases_are_taken_back_a_bounded_number_at_a_time(stores: Stores) {
    let world = World::new(stores);
    for _ in 0..5 {
        world.running("w1").await;
    }
    let expire = || world.stores.jobs.expire_leases(after(400), 2, Fencing(0));
    assert_eq!(expire().await.unwrap().len(), 2);
    assert_eq!(expire().await.unwrap().len(), 2);
    let denied = world.stores.jobs.end_leases_of(&id("w1"), after(400), 10).await.unwrap();
    assert_eq!(denied.len(), 1);
}

pub async fn the_last_attempt_that_runs_out_fails_the_job(stores: Stores) {
    let world = World::new(stores);
    let job = world.running_with(world.job().with(|spec| spec.max_attempts = 1), "w1").await;
    let expired = world.stores.jobs.expire_leases(after(400), 10, Fencing(0)).await.unwrap();
    assert_eq!(expired[0].state, JobState::Failed);
    assert!(!expired[0].reason.is_empty());
    let kind = EventKind::AttemptEnded { outcome: AttemptOutcome::LeaseExpired, last: true };
    assert_eq!(events(&world, &job).await[0].kind, kind);
}

pub async fn a_denied_holder_loses_every_lease(stores: Stores) {
    let world = World::new(stores);
    let first = world.running("w1").await;
    let second = world.running("w1").await;
    let others = world.running("w2").await;
    world.cancel(&second.id, cancellation()).await.unwrap();
    let ended = world.stores.jobs.end_leases_of(&id("W1"), after(10), 10).await.unwrap();
    assert_eq!(ended.len(), 2);
    let state = async |job: &Job| world.stores.jobs.get_job(&job.id).await.unwrap().unwrap().state;
    assert_eq!(state(&first).await, JobState::Scheduled);
    // What someone asked to stop does not run again.
    assert_eq!(state(&second).await, JobState::Cancelled);
    assert_eq!(state(&others).await, JobState::Running);
    refused(world.complete("w1", &first, AttemptOutcome::Exited(Exit::Code(0))).await, Label::LeaseLost);
}

pub async fn completing_and_taking_back_never_both_win(stores: Stores) {
    let world = World::new(stores);
    for _ in 0..16 {
        let job = world.running("w1").await;
        let (taking, completing) = (world.clone(), world.clone());
        let held = job.clone();
        let completed = tokio::spawn(async move {
            completing.complete("w1", &held, AttemptOutcome::Exited(Exit::Code(0))).await
        });
        let taken = taking.stores.jobs.end_leases_of(&id("w1"), after(10), 10).await.unwrap();
        assert_ne!(completed.await.unwrap().is_ok(), !taken.is_empty());
        assert_eq!(events(&world, &job).await.len(), 1);
        world.lease("w1", 10).await;
        world.stores.jobs.end_leases_of(&id("w1"), after(10), 10).await.unwrap();
        world.drain().await;
    }
}

pub async fn controls_are_read_in_one_call(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let unknown = world.job().id;
    let controls = world.stores.jobs.job_controls(&[unknown, job.id]).await.unwrap();
    assert_eq!(controls.iter().map(|control| control.job_id).collect::<Vec<_>>(), [job.id]);
    let ended = world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    let controls = world.stores.jobs.job_controls(&[job.id]).await.unwrap();
    assert_eq!((controls[0].state, controls[0].finished_at), (JobState::Completed, ended.finished_at));
    let many = vec![job.id; 1_001];
    refused(world.stores.jobs.job_controls(&many).await, Label::TooLarge);
    assert_eq!(world.stores.jobs.job_controls(&many[..1_000]).await.unwrap().len(), 1_000);
}

fn cancellation() -> Cancellation {
    Cancellation { at: after(5), signal: 15, grace: Duration::from_secs(10), by: "alice".to_owned() }
}

async fn events(world: &World, job: &Job) -> Vec<ControlEvent> {
    world.stores.events.events_after(&job.id, Sequence::default(), 100).await.unwrap()
}

async fn complete_at(
    world: &World,
    job: &Job,
    outcome: AttemptOutcome,
    seconds: u64,
) -> airunner_core::Result<Job> {
    let completion = Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None };
    let results = world.stores.jobs.complete_jobs(&id("w1"), &[completion], after(seconds)).await?;
    results.into_iter().next().unwrap()
}
