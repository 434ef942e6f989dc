//! In which order a `JobStore` gives jobs out: fair among owners, by priority, to workers that have what is required, at
//! the time from which they may be taken. That each goes to one worker is in `job.rs`.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{
    AttemptOutcome, Error, Fencing, Job, JobId, JobState, Label, Labels, LeaseRequest, NextJob, QueueOrder,
    Result, Stores, Timestamp,
};

use super::world::{NOW, World, after, lease_request, refused};
use crate::records::{JobExt as _, audit, id, queue};

pub async fn owners_take_turns(stores: Stores) {
    let world = with_owners(stores).await;
    let alice = enqueue(&world, jobs(&world, "alice", 5)).await.unwrap();
    let bob = enqueue(&world, jobs(&world, "bob", 3)).await.unwrap();
    let carol = enqueue(&world, jobs(&world, "carol", 1)).await.unwrap();
    let expected = [alice[0], bob[0], carol[0], alice[1], bob[1], alice[2], bob[2], alice[3], alice[4]];
    assert_eq!(ids(&world.ask("w1", 4).await), expected[..4]);
    for id in &expected[4..] {
        assert_eq!(ids(&world.ask("w1", 1).await), [*id]);
    }
    assert_eq!(world.ask("w1", 1).await, []);
}

pub async fn an_owner_of_many_jobs_delays_anothers_by_one(stores: Stores) {
    let world = with_owners(stores).await;
    for _ in 0..5 {
        enqueue(&world, jobs(&world, "alice", 20)).await.unwrap();
    }
    for served in [0, 7, 21] {
        world.ask("w1", served).await;
        let bob = enqueue(&world, jobs(&world, "bob", 1)).await.unwrap();
        let next = [world.ask("w1", 1).await, world.ask("w1", 1).await].concat();
        assert!(ids(&next).contains(&bob[0]), "after {served}: {next:?}");
    }
}

pub async fn an_idle_past_is_neither_paid_for_nor_rewarded(stores: Stores) {
    let world = with_owners(stores).await;
    enqueue(&world, jobs(&world, "alice", 40)).await.unwrap();
    world.ask("w1", 20).await;
    enqueue(&world, jobs(&world, "bob", 40)).await.unwrap();
    let mut of_bob = 0;
    for n in 1..=16 {
        of_bob += usize::from(world.ask("w1", 1).await[0].owner == id("bob"));
        assert!(of_bob.abs_diff(n - of_bob) <= 1, "{of_bob} of {n} are bob's");
    }
}

pub async fn a_higher_priority_goes_first(stores: Stores) {
    let world = with_owners(stores).await;
    let of = |priority| world.job().with(|spec| spec.priority = priority);
    let jobs = [0, -100, 7, 100, 8, 0].map(of);
    let [zero, lowest, seven, highest, eight, zero_too] = jobs.each_ref().map(|job| job.id);
    enqueue(&world, jobs.to_vec()).await.unwrap();
    let bobs = Job { owner: id("bob"), ..of(0) };
    enqueue(&world, vec![bobs.clone()]).await.unwrap();
    let got = [world.ask("w1", 3).await, world.ask("w1", 10).await].concat();
    assert_eq!(ids(&got), [highest, eight, seven, zero, bobs.id, zero_too, lowest]);
}

pub async fn what_is_delayed_is_taken_at_its_time(stores: Stores) {
    let world = with_owners(stores).await;
    let delayed = Job { visible_at: after(5), ..world.job() };
    let later = Job { visible_at: after(9), ..world.job() };
    enqueue(&world, vec![later.clone(), delayed.clone()]).await.unwrap();
    assert_eq!(at(&world, after(5).minus(Duration::from_millis(1))).await, []);
    let taken = at(&world, after(5)).await;
    assert_eq!(ids(&taken), [delayed.id]);
    assert_eq!(taken[0].visible_at, after(5));
    assert_eq!(ids(&at(&world, after(9)).await), [later.id]);
}

pub async fn what_was_delayed_is_fair_too(stores: Stores) {
    let world = with_owners(stores).await;
    let late = |job: Job| Job { visible_at: after(5), ..job };
    enqueue(&world, jobs(&world, "alice", 12).into_iter().map(late).collect()).await.unwrap();
    let bob = enqueue(&world, jobs(&world, "bob", 1).into_iter().map(late).collect()).await.unwrap();
    let got = [at(&world, after(6)).await, at(&world, after(6)).await].concat();
    assert!(ids(&got).contains(&bob[0]), "{got:?}");
}

pub async fn a_failed_attempt_waits_longer_each_time(stores: Stores) {
    let world = with_owners(stores).await;
    let asks = world.job().with(|spec| (spec.retry_delay, spec.max_attempts) = (Duration::from_secs(10), 4));
    enqueue(&world, vec![asks]).await.unwrap();
    let mut now = NOW;
    for wait in [10, 20, 40] {
        let job = at(&world, now).await.remove(0);
        let failed = world.complete("w1", &job, AttemptOutcome::Failed("no".to_owned())).await.unwrap();
        // The world ends leases 10 s after they began.
        let due = now.plus(Duration::from_secs(10 + wait));
        assert_eq!((failed.state, failed.visible_at), (JobState::Scheduled, due));
        assert_eq!(at(&world, due.minus(Duration::from_millis(1))).await, []);
        now = due;
    }
    assert_eq!(at(&world, now).await.len(), 1);
}

pub async fn what_lost_its_worker_waits_for_nothing_and_keeps_its_place(stores: Stores) {
    let world = with_owners(stores).await;
    let asks = |job: Job| job.with(|spec| spec.retry_delay = Duration::from_mins(10));
    let alice = enqueue(&world, jobs(&world, "alice", 4).into_iter().map(asks).collect()).await.unwrap();
    let first = world.ask("w1", 1).await.remove(0);
    world.complete("w1", &first, AttemptOutcome::HandedBack).await.unwrap();
    assert_eq!(ids(&world.ask("w1", 1).await), [alice[0]]);
    let expired = world.stores.jobs.expire_leases(after(303), 10, Fencing(0)).await.unwrap();
    assert_eq!(ids(&expired), [alice[0]]);
    let bob = enqueue(&world, jobs(&world, "bob", 1)).await.unwrap();
    let next = [world.ask("w1", 1).await, world.ask("w1", 2).await].concat();
    assert_eq!(ids(&next), [alice[0], bob[0], alice[1]]);
}

pub async fn a_job_goes_to_a_worker_that_has_what_it_requires(stores: Stores) {
    let world = with_owners(stores).await;
    let (arm, gpu) = (labels(&[("arch", "arm64")]), labels(&[("arch", "arm64"), ("gpu", "yes")]));
    let plain = world.job();
    let on_arm = world.job().with(|spec| spec.requires = arm.clone());
    let on_gpu = world.job().with(|spec| spec.requires = gpu.clone());
    enqueue(&world, vec![on_gpu.clone(), on_arm.clone(), plain.clone()]).await.unwrap();
    let ask = async |labels: &Labels| {
        let request = LeaseRequest { labels: labels.clone(), ..lease_request("w1", 10, 0) };
        ids(&world.stores.jobs.lease_jobs(&request).await.unwrap())
    };
    assert_eq!(ask(&labels(&[("arch", "amd64"), ("gpu", "yes")])).await, [plain.id]);
    assert_eq!(ask(&arm).await, [on_arm.id]);
    assert_eq!(ask(&arm).await, []);
    let more = labels(&[("zone", "a")]).into_iter().chain(gpu).collect();
    assert_eq!(ask(&more).await, [on_gpu.id]);
}

pub async fn what_nobody_can_take_is_in_nobodys_way(stores: Stores) {
    let world = with_owners(stores).await;
    let gpu = labels(&[("gpu", "yes")]);
    let stuck = |job: Job| job.with(|spec| (spec.requires, spec.priority) = (gpu.clone(), 100));
    enqueue(&world, jobs(&world, "alice", 30).into_iter().map(stuck).collect()).await.unwrap();
    let plain = enqueue(&world, jobs(&world, "alice", 2)).await.unwrap();
    // A worker is told apart what it can't take.
    let next = world.stores.jobs.next_visible(&[queue("default")]).await.unwrap();
    let of =
        |requires: &Labels| NextJob { queue: queue("default"), requires: requires.clone(), visible_at: None };
    assert_eq!(next, [of(&Labels::new()), of(&gpu)]);
    assert_eq!(ids(&world.ask("w1", 10).await), plain);
    assert_eq!(world.stores.jobs.next_visible(&[queue("default")]).await.unwrap(), [of(&gpu)]);
    assert_eq!(world.ask("w1", 10).await, []);
}

pub async fn what_could_not_be_taken_for_long_is_caught_up_in_turns(stores: Stores) {
    let world = with_owners(stores).await;
    let gpu = labels(&[("gpu", "yes")]);
    let on_gpu = |job: Job| job.with(|spec| spec.requires = gpu.clone());
    enqueue(&world, jobs(&world, "bob", 30).into_iter().map(on_gpu).collect()).await.unwrap();
    enqueue(&world, jobs(&world, "alice", 40)).await.unwrap();
    world.ask("w1", 20).await;
    let carol = enqueue(&world, jobs(&world, "carol", 1).into_iter().map(on_gpu).collect()).await.unwrap();
    let mut taken = Vec::new();
    for turn in 0..8 {
        let request = LeaseRequest { labels: gpu.clone(), turn, ..lease_request("w1", 1, 0) };
        taken.extend(world.stores.jobs.lease_jobs(&request).await.unwrap());
    }
    let of_alice = taken.iter().filter(|job| job.owner == id("alice")).count();
    assert_eq!(of_alice, 4, "{taken:?}");
    assert!(ids(&taken[..4]).contains(&carol[0]), "{taken:?}");
}

pub async fn a_queue_tells_only_so_many_requirements_apart(stores: Stores) {
    let world = with_owners(stores).await;
    let of = |n: usize| world.job().with(|spec| spec.requires = labels(&[("host", &n.to_string())]));
    for n in 0..32 {
        enqueue(&world, vec![of(n)]).await.unwrap();
    }
    let error = enqueue(&world, vec![of(32)]).await.unwrap_err();
    assert_eq!((error.label(), error.field()), (Label::LimitReached, Some("requires")));
    // What requires nothing, or what others do, or waits elsewhere, is taken all the same.
    enqueue(&world, vec![world.job(), of(31), Job { queue: queue("other"), ..of(32) }]).await.unwrap();
    // One that holds nothing any more makes room.
    let request = LeaseRequest { labels: labels(&[("host", "7")]), ..lease_request("w1", 10, 0) };
    assert_eq!(world.stores.jobs.lease_jobs(&request).await.unwrap().len(), 2);
    let entry = audit("job.enqueue", "x", after(3_600));
    let late = world.stores.jobs.enqueue_jobs(vec![of(32)], None, entry).await.unwrap();
    let request = LeaseRequest { labels: labels(&[("host", "32")]), ..lease_request("w1", 10, 3_600) };
    assert_eq!(ids(&world.stores.jobs.lease_jobs(&request).await.unwrap()), late.ids);
}

pub async fn queues_are_served_in_turn_or_in_order(stores: Stores) {
    let world = with_owners(stores).await;
    let of =
        |name, count| -> Vec<Job> { (0..count).map(|_| Job { queue: queue(name), ..world.job() }).collect() };
    enqueue(&world, of("first", 20)).await.unwrap();
    enqueue(&world, of("second", 3)).await.unwrap();
    let ask = async |order, turn, max| -> Vec<String> {
        let queues = vec![queue("first"), queue("second"), queue("first")];
        let request = LeaseRequest { queues, order, turn, ..lease_request("w1", max, 0) };
        let leased = world.stores.jobs.lease_jobs(&request).await.unwrap();
        leased.iter().map(|job| job.queue.to_string()).collect()
    };
    assert_eq!(ask(QueueOrder::Strict, 1, 2).await, ["first", "first"]);
    assert_eq!(ask(QueueOrder::InTurn, 0, 1).await, ["first"]);
    assert_eq!(ask(QueueOrder::InTurn, 1, 1).await, ["second"]);
    assert_eq!(ask(QueueOrder::InTurn, 2, 5).await, ["first", "second", "first", "second", "first"]);
    // What has nothing costs no turn.
    assert_eq!(ask(QueueOrder::InTurn, 1, 2).await, ["first", "first"]);
}

pub async fn of_many_that_lease_with_labels_each_job_goes_to_one(stores: Stores) {
    let world = with_owners(stores).await;
    let gpu = labels(&[("gpu", "yes")]);
    let mut all = BTreeSet::new();
    for owner in ["alice", "bob", "carol"] {
        let some = jobs(&world, owner, 12).into_iter().enumerate();
        let some = some.map(|(n, job)| match n % 3 {
            0 => job.with(|spec| spec.requires = gpu.clone()),
            1 => Job { visible_at: after(1), ..job },
            _ => job,
        });
        all.extend(enqueue(&world, some.collect()).await.unwrap());
    }
    let leased = super::world::race((0..6).map(|n| {
        let (world, gpu) = (world.clone(), gpu.clone());
        async move {
            let mut leased = Vec::new();
            for turn in 0.. {
                let labels = if n % 2 == 0 { gpu.clone() } else { Labels::new() };
                let request = LeaseRequest { labels, turn, ..lease_request("w1", 2, 2) };
                let got = world.stores.jobs.lease_jobs(&request).await.unwrap();
                if got.is_empty() {
                    break;
                }
                leased.extend(ids(&got));
            }
            leased
        }
    }))
    .await
    .concat();
    assert_eq!(leased.len(), all.len(), "a job was leased twice or not at all");
    assert_eq!(BTreeSet::from_iter(leased), all);
}

pub async fn a_refused_lane_writes_nothing(stores: Stores) {
    let world = with_owners(stores).await;
    let of = |n: usize| world.job().with(|spec| spec.requires = labels(&[("host", &n.to_string())]));
    refused(enqueue(&world, (0..40).map(of).collect()).await, Label::LimitReached);
    assert_eq!(world.stores.jobs.count_jobs().await.unwrap()[&JobState::Scheduled], 0);
    assert_eq!(world.stores.jobs.next_visible(&[queue("default")]).await.unwrap(), []);
}

async fn with_owners(stores: Stores) -> World {
    let world = World::new(stores);
    for name in ["alice", "bob", "carol", "w1"] {
        world.worker(name).await;
    }
    world
}

fn jobs(world: &World, owner: &str, count: usize) -> Vec<Job> {
    (0..count).map(|_| Job { owner: id(owner), ..world.job() }).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

async fn enqueue(world: &World, jobs: Vec<Job>) -> Result<Vec<JobId>, Error> {
    let enqueued = world.stores.jobs.enqueue_jobs(jobs, None, audit("job.enqueue", "x", NOW)).await?;
    Ok(enqueued.ids)
}

/// One job leased at `now`.
async fn at(world: &World, now: Timestamp) -> Vec<Job> {
    let deadline = now.plus(Duration::from_mins(5));
    let request = LeaseRequest { now, deadline, ..lease_request("w1", 1, 0) };
    world.stores.jobs.lease_jobs(&request).await.unwrap()
}
