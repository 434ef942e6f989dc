//! What a `JobStore` must do with the queue: enqueuing, leasing, listing, stopping. How leases end is in `lease.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airunner_core::{
    AttemptOutcome, Cancellation, Enqueued, EventKind, Exit, Isolation, Job, JobFilter, JobId, JobSecrets,
    JobSpec, JobState, Label, Labels, Lease, LeaseRequest, NextJob, Page, PageRequest, Permission,
    PrincipalStatus, ProcessType, QueueOrder, Repository, ResourceLimits, Result, Sequence, Stores,
    TerminalSize,
};

use super::world::{NOW, WORKER, World, after, every_page, race, refused};
use crate::records::{self, JobExt as _, audit, id, queue, request};

pub async fn what_is_enqueued_is_read_back(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let full = Job {
        queue: queue("gpu"),
        spec: JobSpec {
            command: "prög \u{1F980}".to_owned(),
            args: vec![String::new(), "a b".to_owned(), "'; DROP TABLE jobs".to_owned()],
            environment: BTreeMap::from([("KEY".to_owned(), "välue\n".to_owned())]),
            secrets: Some(JobSecrets {
                names: vec!["TOKEN".to_owned()],
                sealed: records::sealed(world.random()),
            }),
            working_dir: "sub/dir".to_owned(),
            repository: Some(Repository {
                url: "https://example.org/r.git".to_owned(),
                revision: "main".to_owned(),
            }),
            process_type: ProcessType::Terminal(TerminalSize { rows: 40, columns: 132 }),
            stdin: true,
            shared_input: true,
            timeout: Some(Duration::from_millis(1_500)),
            max_attempts: 7,
            retry_on_exit: true,
            unique: true,
            labels: BTreeMap::from([("team".to_owned(), "ünit".to_owned())]),
            isolation: Some(Isolation::Sandbox),
            best_effort: true,
            limits: ResourceLimits {
                cpu_millis: Some(500),
                memory_bytes: Some(256 << 20),
                processes: Some(64),
                open_files: Some(1_024),
                file_size_bytes: Some(1 << 40),
            },
            host_network: true,
            priority: -7,
            requires: BTreeMap::from([("arch".to_owned(), "ärm \"64\"".to_owned())]),
            retry_delay: Duration::from_millis(2_500),
            certificate: Some(BTreeSet::from([Permission::JobsList])),
        },
        visible_at: after(60),
        ..world.job()
    };
    let plain = world.job();
    let enqueued = enqueue(&world, vec![full.clone(), plain.clone()]).await.unwrap();
    assert_eq!(enqueued, Enqueued { ids: vec![full.id, plain.id], replayed: false });
    assert_eq!(world.stores.jobs.get_job(&full.id).await.unwrap(), Some(full));
    // It may be taken at once, and so has its place in the line.
    let plain = Job { rank: Some(0), ..plain };
    assert_eq!(world.stores.jobs.get_job(&plain.id).await.unwrap(), Some(plain));
    assert_eq!(world.stores.jobs.get_job(&world.job().id).await.unwrap(), None);
    assert_eq!(world.audited("job.enqueue").await, 1);
}

pub async fn jobs_are_enqueued_all_or_none(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let first = world.job();
    let nobodys = Job { owner: id("nobody"), ..world.job() };
    refused(enqueue(&world, vec![first.clone(), nobodys]).await, Label::NotFound);
    let twice = vec![first.clone(), first.clone()];
    refused(enqueue(&world, twice).await, Label::AlreadyExists);
    assert_eq!(world.stores.jobs.get_job(&first.id).await.unwrap(), None);
    enqueue(&world, vec![first.clone()]).await.unwrap();
    refused(enqueue(&world, vec![world.job(), first]).await, Label::AlreadyExists);
    assert_eq!(world.stores.jobs.count_jobs().await.unwrap()[&JobState::Scheduled], 1);
    assert_eq!(world.audited("job.enqueue").await, 1);
}

pub async fn only_an_active_owner_enqueues(stores: Stores) {
    let world = World::new(stores);
    let alice = world.worker("alice").await;
    for status in [PrincipalStatus::Suspended, PrincipalStatus::Deleted] {
        world.set_status(&alice, status).await;
        refused(enqueue(&world, vec![world.job()]).await, Label::PrincipalNotActive);
    }
}

pub async fn a_repeated_request_enqueues_once(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let with = |content| {
        let key = Some(request("alice", "r1", content));
        world.stores.jobs.enqueue_jobs(vec![world.job(), world.job()], key, audit("job.enqueue", "x", NOW))
    };
    let first = with("a").await.unwrap();
    assert!(!first.replayed);
    assert_eq!(with("a").await.unwrap(), Enqueued { replayed: true, ..first });
    refused(with("b").await, Label::RequestReused);
    assert_eq!(world.stores.jobs.count_jobs().await.unwrap()[&JobState::Scheduled], 2);
}

pub async fn a_unique_job_has_no_like_while_it_lives(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    world.worker("bob").await;
    let unique = || world.job().with(|spec| spec.unique = true);
    let first = unique();
    enqueue(&world, vec![first.clone()]).await.unwrap();
    refused(enqueue(&world, vec![unique()]).await, Label::JobNotUnique);
    refused(enqueue(&world, vec![Job { owner: id("ALICE"), ..unique() }]).await, Label::JobNotUnique);
    // Other owners, commands and arguments are no likes, however they are cut.
    enqueue(&world, vec![Job { owner: id("bob"), ..unique() }]).await.unwrap();
    let joined = unique().with(|spec| (spec.command, spec.args) = ("echohello".to_owned(), vec![]));
    enqueue(&world, vec![joined]).await.unwrap();
    let parts = unique().with(|spec| spec.args = vec!["hel".to_owned(), "lo".to_owned()]);
    enqueue(&world, vec![parts]).await.unwrap();
    // While it runs too, and no longer when it has ended.
    let leased = world.lease("w1", 1).await;
    assert_eq!(leased[0].id, first.id);
    refused(enqueue(&world, vec![unique()]).await, Label::JobNotUnique);
    world.complete("w1", &leased[0], AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    enqueue(&world, vec![unique()]).await.unwrap();
    // Two in one call are likes too.
    let pair = || unique().with(|spec| spec.args = vec!["pair".to_owned()]);
    refused(enqueue(&world, vec![pair(), pair()]).await, Label::JobNotUnique);
}

pub async fn of_many_unique_jobs_one_is_enqueued(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let results = race((0..16).map(|_| {
        let (stores, job) = (world.stores.clone(), world.job().with(|spec| spec.unique = true));
        async move { stores.jobs.enqueue_jobs(vec![job], None, audit("job.enqueue", "x", NOW)).await }
    }))
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

pub async fn leases_go_to_the_oldest_in_order_of_the_queues(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    world.worker("w1").await;
    let of = |name, visible_at| Job { queue: queue(name), visible_at, ..world.job() };
    let (a, b, c) = (of("low", NOW), of("high", after(2)), of("high", after(1)));
    let (d, later) = (of("high", after(2)), of("high", after(100)));
    let others = of("other", NOW);
    // Those that are visible at the same time go in the order of their coming.
    let ids = [c.id, b.id, d.id, a.id];
    enqueue(&world, vec![a, b, c, d, later.clone(), others]).await.unwrap();
    let ask = |max| LeaseRequest {
        queues: vec![queue("high"), queue("low")],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: id("w1"),
        worker: None,
        max,
        now: after(50),
        deadline: after(350),
    };
    let first = world.stores.jobs.lease_jobs(&ask(2)).await.unwrap();
    let second = world.stores.jobs.lease_jobs(&ask(10)).await.unwrap();
    let leased: Vec<_> = first.iter().chain(&second).map(|job| job.id).collect();
    assert_eq!(leased, ids);
    assert_eq!(world.stores.jobs.lease_jobs(&ask(10)).await.unwrap(), []);
    let waiting = world.stores.jobs.get_job(&later.id).await.unwrap();
    assert_eq!(waiting, Some(later));
}

pub async fn a_lease_says_who_and_until_when(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let job = world.job();
    enqueue(&world, vec![job.clone()]).await.unwrap();
    let leased = world.lease("w1", 10).await;
    let expected = Job {
        state: JobState::Running,
        attempt: 1,
        rank: Some(0),
        lease: Some(Lease { holder: id("w1"), worker: Some(WORKER), deadline: after(300) }),
        ..job
    };
    assert_eq!(leased, std::slice::from_ref(&expected));
    assert_eq!(world.stores.jobs.get_job(&expected.id).await.unwrap(), Some(expected));
    assert_eq!(world.changes().await, []);
}

pub async fn only_an_active_worker_gets_a_lease(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let worker = world.worker("w1").await;
    enqueue(&world, vec![world.job()]).await.unwrap();
    world.suspend(&worker).await;
    let ask = |holder| LeaseRequest {
        queues: vec![queue("default")],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: id(holder),
        worker: None,
        max: 1,
        now: NOW,
        deadline: after(300),
    };
    refused(world.stores.jobs.lease_jobs(&ask("w1")).await, Label::PrincipalNotActive);
    refused(world.stores.jobs.lease_jobs(&ask("nobody")).await, Label::PrincipalNotActive);
    world.set_status(&worker, PrincipalStatus::Active).await;
    assert_eq!(world.stores.jobs.lease_jobs(&ask("w1")).await.unwrap().len(), 1);
}

pub async fn of_many_workers_each_job_goes_to_one(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let jobs: Vec<_> = (0..40).map(|_| world.job()).collect();
    let all: BTreeSet<_> = jobs.iter().map(|job| job.id).collect();
    enqueue(&world, jobs).await.unwrap();
    for n in 0..8 {
        world.worker(&format!("w{n}")).await;
    }
    let leased = race((0..8).map(|n| {
        let world = world.clone();
        async move {
            let mut leased = Vec::new();
            loop {
                let got = world.ask(&format!("w{n}"), 3).await;
                if got.is_empty() {
                    return leased;
                }
                leased.extend(got.into_iter().map(|job| job.id));
            }
        }
    }))
    .await
    .concat();
    assert_eq!(leased.len(), 40, "a job was leased twice");
    assert_eq!(BTreeSet::from_iter(leased), all);
}

pub async fn the_next_visible_job_is_known(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let queues = [queue("a"), queue("b")];
    let next = async || world.stores.jobs.next_visible(&queues).await.unwrap();
    assert_eq!(next().await, []);
    let of = |name, seconds| Job { queue: queue(name), visible_at: after(seconds), ..world.job() };
    enqueue(&world, vec![of("c", 1), of("b", 7), of("a", 9)]).await.unwrap();
    let of_queue = |name, visible_at| NextJob { queue: queue(name), requires: Labels::new(), visible_at };
    assert_eq!(next().await, [of_queue("a", Some(after(9))), of_queue("b", Some(after(7)))]);
    enqueue(&world, vec![of("b", 0)]).await.unwrap();
    assert_eq!(next().await, [of_queue("a", Some(after(9))), of_queue("b", None)]);
    assert_eq!(world.stores.jobs.next_visible(&[]).await.unwrap(), []);
}

pub async fn a_waiting_job_is_stopped_at_once(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let job = world.job();
    enqueue(&world, vec![job.clone()]).await.unwrap();
    let stopped = world.cancel(&job.id, cancellation(5)).await.unwrap();
    assert_eq!(stopped.state, JobState::Cancelled);
    assert_eq!(stopped.finished_at, Some(after(5)));
    assert_eq!(stopped.cancellation, Some(cancellation(5)));
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), Some(stopped));
    assert_eq!(world.lease("w1", 1).await, []);
    let events = world.stores.events.events_after(&job.id, Sequence::default(), 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].sequence, Sequence::end_of(0));
    let ended = EventKind::AttemptEnded { outcome: AttemptOutcome::Cancelled(None), last: true };
    assert_eq!((events[0].at, &events[0].kind), (after(5), &ended));
    refused(world.cancel(&job.id, cancellation(6)).await, Label::JobEnded);
    assert_eq!(world.audited("job.cancel").await, 1);
}

pub async fn a_running_job_is_asked_to_stop(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let asked = world.cancel(&job.id, cancellation(5)).await.unwrap();
    assert_eq!(asked, Job { cancellation: Some(cancellation(5)), ..job.clone() });
    // A later request replaces the first.
    let again = Cancellation { grace: Duration::ZERO, signal: 9, ..cancellation(6) };
    world.cancel(&job.id, again.clone()).await.unwrap();
    let controls = world.stores.jobs.job_controls(&[job.id]).await.unwrap();
    assert_eq!(controls[0].cancellation, Some(again));
    assert_eq!(controls[0].state, JobState::Running);
    let done = world.complete("w1", &job, AttemptOutcome::Cancelled(Some(Exit::Signal(9)))).await.unwrap();
    assert_eq!((done.state, done.exit), (JobState::Cancelled, Some(Exit::Signal(9))));
    refused(world.cancel(&job.id, cancellation(7)).await, Label::JobEnded);
    refused(world.cancel(&world.job().id, cancellation(7)).await, Label::NotFound);
    assert_eq!(world.audited("job.cancel").await, 2);
}

pub async fn a_job_that_waits_for_another_attempt_is_stopped_too(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    world.complete("w1", &job, AttemptOutcome::Failed("no".to_owned())).await.unwrap();
    let stopped = world.cancel(&job.id, cancellation(5)).await.unwrap();
    assert_eq!(stopped.state, JobState::Cancelled);
    // The place of the event is taken by the end of the attempt, which stays.
    let events = world.stores.events.events_after(&job.id, Sequence::default(), 10).await.unwrap();
    let outcome = AttemptOutcome::Failed("no".to_owned());
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, EventKind::AttemptEnded { outcome, last: false });
}

pub async fn lists_run_from_the_newest_and_are_cut_by_the_filter(stores: Stores) {
    let world = World::new(stores);
    for name in ["alice", "bob", "w1"] {
        world.worker(name).await;
    }
    let mut ids = Vec::new();
    for n in 0..9 {
        let owner = id(if n % 3 == 0 { "bob" } else { "alice" });
        let job = Job { owner, queue: queue(if n < 6 { "a" } else { "b" }), ..world.job() };
        ids.push(job.id);
        enqueue(&world, vec![job]).await.unwrap();
    }
    let found = async |filter: JobFilter| -> Vec<JobId> {
        every_page(2, |page| list(&world, filter.clone(), page)).await.iter().map(|job| job.id).collect()
    };
    let any = JobFilter::default;
    let newest: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(found(any()).await, newest);
    assert_eq!(found(JobFilter { owner: Some(id("BOB")), ..any() }).await, [ids[6], ids[3], ids[0]]);
    assert_eq!(found(JobFilter { queue: Some(queue("b")), ..any() }).await, [ids[8], ids[7], ids[6]]);
    let ask = LeaseRequest {
        queues: vec![queue("a")],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: id("w1"),
        worker: None,
        max: 2,
        now: NOW,
        deadline: after(300),
    };
    let leased = world.stores.jobs.lease_jobs(&ask).await.unwrap();
    assert_eq!(found(JobFilter { holder: Some(id("W1")), ..any() }).await, [ids[1], ids[0]]);
    assert_eq!(found(JobFilter { state: Some(JobState::Running), ..any() }).await, [ids[1], ids[0]]);
    let both = JobFilter { state: Some(JobState::Running), owner: Some(id("bob")), ..any() };
    assert_eq!(found(both).await, [ids[0]]);
    world.complete("w1", &leased[0], AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    assert_eq!(found(JobFilter { holder: Some(id("w1")), ..any() }).await, [ids[1]]);
    assert_eq!(found(JobFilter { state: Some(JobState::Completed), ..any() }).await, [ids[0]]);
    let both = JobFilter { state: Some(JobState::Completed), owner: Some(id("alice")), ..any() };
    assert_eq!(found(both).await, []);
}

pub async fn pages_lose_nothing_while_others_enqueue(stores: Stores) {
    let world = World::new(stores);
    world.worker("alice").await;
    let old: Vec<_> = (0..40).map(|_| world.job()).collect();
    let old_ids: BTreeSet<_> = old.iter().map(|job| job.id).collect();
    enqueue(&world, old).await.unwrap();
    let writing = world.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..40 {
            enqueue(&writing, vec![writing.job()]).await.unwrap();
        }
    });
    let rows = every_page(3, |page| list(&world, JobFilter::default(), page)).await;
    writer.await.unwrap();
    let found: BTreeSet<_> = rows.iter().map(|job| job.id).collect();
    assert_eq!(found.len(), rows.len(), "a job stands on two pages");
    assert!(found.is_superset(&old_ids));
}

pub async fn jobs_are_counted_by_state(stores: Stores) {
    let world = World::new(stores);
    let none = world.stores.jobs.count_jobs().await.unwrap();
    assert_eq!(none, JobState::ALL.iter().map(|state| (*state, 0)).collect());
    world.worker("alice").await;
    enqueue(&world, (0..5).map(|_| world.job()).collect()).await.unwrap();
    let leased = world.lease("w1", 3).await;
    world.complete("w1", &leased[0], AttemptOutcome::Exited(Exit::Code(1))).await.unwrap();
    world.complete("w1", &leased[1], AttemptOutcome::Failed("no".to_owned())).await.unwrap();
    let counts = world.stores.jobs.count_jobs().await.unwrap();
    assert_eq!(counts[&JobState::Scheduled], 3);
    assert_eq!(counts[&JobState::Running], 1);
    assert_eq!(counts[&JobState::Completed], 1);
    assert_eq!(counts.values().sum::<u64>(), 5);
}

fn cancellation(seconds: u64) -> Cancellation {
    Cancellation { at: after(seconds), signal: 15, grace: Duration::from_secs(10), by: "alice".to_owned() }
}

async fn enqueue(world: &World, jobs: Vec<Job>) -> Result<Enqueued> {
    world.stores.jobs.enqueue_jobs(jobs, None, audit("job.enqueue", "x", NOW)).await
}

async fn list(world: &World, filter: JobFilter, page: PageRequest) -> Result<Page<Job>> {
    world.stores.jobs.list_jobs(&filter, &page).await
}
