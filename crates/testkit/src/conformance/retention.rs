//! How a `JobStore` forgets jobs that were kept for long enough.

use std::time::Duration;

use airunner_core::{
    AttemptOutcome, ControlEvent, EventKind, Exit, Fencing, InputWrite, Job, JobFilter, JobId, JobState,
    Label, PageRequest, Publication, Sequence, Stores,
};

use super::world::{NOW, World, after, after_hours, race, refused};
use crate::records::{self, JobExt as _, id};

pub async fn a_job_that_ended_before_the_time_goes_with_all_that_is_its(stores: Stores) {
    let world = World::new(stores);
    let job = world.running_with(world.job().with(|spec| spec.stdin = true), "w1").await;
    let input = InputWrite {
        job_id: job.id,
        bytes: b"typed".to_vec(),
        end: true,
        size: None,
        writer: None,
        take: false,
    };
    let audit = records::audit("job.input", "x", NOW);
    world.stores.jobs.write_input(input, audit).await.unwrap();
    let events = (1..=30)
        .map(|n| ControlEvent {
            sequence: Sequence::new(1, n),
            at: after(n),
            kind: EventKind::Note { message: "x".repeat(2_000) },
        })
        .collect();
    let publication = Publication { job_id: job.id, attempt: 1, holder: id("w1"), now: after(5), events };
    world.stores.events.publish(publication).await.unwrap();
    ended(&world, &job).await;

    assert_eq!(prune(&world, 10, 100).await, []);
    assert_eq!(prune(&world, 11, 100).await, [job.id]);
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), None);
    assert_eq!(world.stores.jobs.job_controls(&[job.id]).await.unwrap(), []);
    assert_eq!(world.stores.events.events_after(&job.id, Sequence::default(), 100).await.unwrap(), []);
    assert_eq!(world.stores.jobs.inputs_after(&job.id, 0, 100).await.unwrap(), []);
    assert_eq!(listed(&world, JobFilter::default()).await, []);
    let completed = JobFilter { state: Some(JobState::Completed), ..JobFilter::default() };
    assert_eq!(listed(&world, completed).await, []);
    assert!(world.stores.jobs.count_jobs().await.unwrap().values().all(|count| *count == 0));
    assert_eq!(prune(&world, 11, 100).await, []);
}

pub async fn what_has_not_ended_is_never_pruned(stores: Stores) {
    let world = World::new(stores);
    let running = world.running("w1").await;
    let waiting = world.job();
    let audit = records::audit("job.enqueue", "x", NOW);
    world.stores.jobs.enqueue_jobs(vec![waiting.clone()], None, audit).await.unwrap();
    let years = after_hours(20 * 365 * 24);
    assert_eq!(world.stores.jobs.prune_jobs(years, 100, Fencing(0)).await.unwrap(), []);
    // What waits for another attempt has ended one, and is not over either.
    world.complete("w1", &running, AttemptOutcome::HandedBack).await.unwrap();
    assert_eq!(world.stores.jobs.prune_jobs(years, 100, Fencing(0)).await.unwrap(), []);
    assert_eq!(listed(&world, JobFilter::default()).await.len(), 2);
}

pub async fn every_end_counts(stores: Stores) {
    let world = World::new(stores);
    let mut all = Vec::new();
    for outcome in [
        AttemptOutcome::Exited(Exit::Code(3)),
        AttemptOutcome::Failed("no such command".to_owned()),
        AttemptOutcome::TimedOut(None),
    ] {
        let job = world.running_with(world.job().with(|spec| spec.max_attempts = 1), "w1").await;
        world.complete("w1", &job, outcome).await.unwrap();
        all.push(job.id);
    }
    let waiting = world.job();
    let audit = records::audit("job.enqueue", "x", NOW);
    world.stores.jobs.enqueue_jobs(vec![waiting.clone()], None, audit).await.unwrap();
    world.drain().await;
    all.push(waiting.id);
    let mut pruned = prune(&world, 11, 100).await;
    pruned.sort_unstable();
    all.sort_unstable();
    assert_eq!(pruned, all);
}

pub async fn jobs_are_pruned_a_bounded_number_at_a_time(stores: Stores) {
    let world = World::new(stores);
    let mut all = Vec::new();
    for _ in 0..30 {
        let job = world.running("w1").await;
        ended(&world, &job).await;
        all.push(job.id);
    }
    let kept = world.running("w1").await;
    let mut pruned = Vec::new();
    for expected in [13, 13, 4, 0] {
        let some = prune(&world, 11, 13).await;
        assert_eq!(some.len(), expected);
        pruned.extend(some);
    }
    pruned.sort_unstable();
    all.sort_unstable();
    assert_eq!(pruned, all);
    assert_eq!(listed(&world, JobFilter::default()).await, [kept.id]);
}

pub async fn jobs_are_pruned_by_whoever_keeps_house_now(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    ended(&world, &job).await;
    let server = records::server(NOW, world.random()).id;
    let life = Duration::from_secs(10);
    let fencing = world.stores.servers.hold_housekeeping(&server, NOW, life).await.unwrap().unwrap();
    let old = Fencing(fencing.0 - 1);
    refused(world.stores.jobs.prune_jobs(after(11), 100, old).await, Label::VersionConflict);
    assert_eq!(world.stores.jobs.prune_jobs(after(11), 100, fencing).await.unwrap(), [job.id]);
}

pub async fn what_was_pruned_may_be_enqueued_again(stores: Stores) {
    let world = World::new(stores);
    let unique = world.job().with(|spec| spec.unique = true);
    let job = world.running_with(unique.clone(), "w1").await;
    ended(&world, &job).await;
    assert_eq!(prune(&world, 11, 100).await, [job.id]);
    let again = world.running_with(unique, "w1").await;
    assert_eq!((again.id, again.attempt), (job.id, 1));
    assert_eq!(world.stores.events.events_after(&job.id, Sequence::default(), 100).await.unwrap(), []);
}

pub async fn of_many_that_prune_none_is_in_anothers_way(stores: Stores) {
    let world = World::new(stores);
    for _ in 0..12 {
        let job = world.running("w1").await;
        ended(&world, &job).await;
    }
    let pruned =
        race((0..4).map(|_| {
            let world = world.clone();
            async move {
                world.stores.jobs.prune_jobs(after(11), 100, Fencing(0)).await.map_or(0, |some| some.len())
            }
        }))
        .await;
    assert!(pruned.iter().sum::<usize>() >= 12, "{pruned:?}");
    assert_eq!(listed(&world, JobFilter::default()).await, []);
}

/// Ends the job 10 s after [`NOW`].
async fn ended(world: &World, job: &Job) {
    world.complete("w1", job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
}

async fn prune(world: &World, seconds: u64, limit: u32) -> Vec<JobId> {
    world.stores.jobs.prune_jobs(after(seconds), limit, Fencing(0)).await.unwrap()
}

async fn listed(world: &World, filter: JobFilter) -> Vec<JobId> {
    let page = world.stores.jobs.list_jobs(&filter, &PageRequest::first(100)).await.unwrap();
    page.items.iter().map(|job| job.id).collect()
}
