//! What an `EventStore` must do.

use airunner_core::{
    AttemptOutcome, ControlEvent, EventKind, Exit, Job, Label, Publication, Result, Sequence, Stores,
};

use super::world::{World, after, refused};
use crate::records::id;

pub async fn what_is_published_is_read_back_in_order(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let events = [note(1, 1), note(1, 2), note(1, 5)];
    publish(&world, &job, &events[..2]).await.unwrap();
    publish(&world, &job, &events[2..]).await.unwrap();
    assert_eq!(read(&world, &job, 0).await, events);
    assert_eq!(read(&world, &job, events[1].sequence.as_u64()).await, events[2..]);
    let limited = world.stores.events.events_after(&job.id, Sequence::default(), 2).await.unwrap();
    assert_eq!(limited, events[..2]);
}

pub async fn what_is_there_already_is_dropped(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    publish(&world, &job, &[note(1, 1), note(1, 2)]).await.unwrap();
    let other = ControlEvent { at: after(99), ..note(1, 2) };
    publish(&world, &job, &[other, note(1, 3)]).await.unwrap();
    assert_eq!(read(&world, &job, 0).await, [note(1, 1), note(1, 2), note(1, 3)]);
}

pub async fn the_start_is_told_to_the_job(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let started = ControlEvent { kind: EventKind::Started { process_id: 4_242 }, ..note(1, 1) };
    publish(&world, &job, &[started]).await.unwrap();
    let expected = Job { process_id: Some(4_242), started_at: Some(after(1)), ..job.clone() };
    assert_eq!(world.stores.jobs.get_job(&job.id).await.unwrap(), Some(expected));
    // The next attempt has no process until it starts one.
    world.complete("w1", &job, AttemptOutcome::HandedBack).await.unwrap();
    let again = world.lease("w1", 1).await.remove(0);
    assert_eq!(again.process_id, None);
}

pub async fn only_the_holder_publishes_and_only_in_time(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    world.worker("w2").await;
    let by = |holder: &str, attempt, seconds, events| {
        let publication =
            Publication { job_id: job.id, attempt, holder: id(holder), now: after(seconds), events };
        world.stores.events.publish(publication)
    };
    for events in [vec![note(1, 1)], Vec::new()] {
        refused(by("w2", 1, 10, events.clone()).await, Label::LeaseLost);
        refused(by("w1", 1, 300, events.clone()).await, Label::LeaseLost);
    }
    refused(by("w1", 2, 10, Vec::new()).await, Label::LeaseLost);
    by("w1", 1, 299, Vec::new()).await.unwrap();
    assert_eq!(read(&world, &job, 0).await, []);
    world.complete("w1", &job, AttemptOutcome::Exited(Exit::Code(0))).await.unwrap();
    refused(by("w1", 1, 10, vec![note(1, 1)]).await, Label::LeaseLost);
    refused(by("w1", 1, 10, Vec::new()).await, Label::LeaseLost);
}

pub async fn a_worker_publishes_of_its_attempt_and_does_not_end_it(stores: Stores) {
    let world = World::new(stores);
    let job = world.running("w1").await;
    let outcome = AttemptOutcome::Exited(Exit::Code(0));
    let end = ControlEvent { kind: EventKind::AttemptEnded { outcome, last: true }, ..note(1, 1) };
    let at_the_end = ControlEvent { sequence: Sequence::end_of(1), ..note(1, 1) };
    for events in
        [vec![note(2, 1)], vec![note(1, 0)], vec![end], vec![at_the_end], vec![note(1, 2), note(1, 1)]]
    {
        refused(publish(&world, &job, &events).await, Label::InvalidArgument);
    }
    assert_eq!(read(&world, &job, 0).await, []);
}

pub async fn attempts_follow_one_another(stores: Stores) {
    let world = World::new(stores);
    let first = world.running("w1").await;
    publish(&world, &first, &[note(1, 1), note(1, 7)]).await.unwrap();
    world.complete("w1", &first, AttemptOutcome::HandedBack).await.unwrap();
    let second = world.lease("w1", 1).await.remove(0);
    publish(&world, &second, &[note(2, 1)]).await.unwrap();
    let places: Vec<_> = read(&world, &first, 0).await.iter().map(|event| event.sequence).collect();
    let expected = [Sequence::new(1, 1), Sequence::new(1, 7), Sequence::end_of(1), Sequence::new(2, 1)];
    assert_eq!(places, expected);
    // What the worker published last is told by attempt, without the end that the store wrote.
    let last = async |attempt| world.stores.events.last_published(&first.id, attempt).await.unwrap();
    assert_eq!(last(1).await, Some(Sequence::new(1, 7)));
    assert_eq!(last(2).await, Some(Sequence::new(2, 1)));
    assert_eq!(last(3).await, None);
}

pub async fn jobs_do_not_share_events(stores: Stores) {
    let world = World::new(stores);
    let first = world.running("w1").await;
    let second = world.running("w1").await;
    publish(&world, &first, &[note(1, 1)]).await.unwrap();
    publish(&world, &second, &[note(1, 2)]).await.unwrap();
    assert_eq!(read(&world, &first, 0).await, [note(1, 1)]);
    assert_eq!(read(&world, &second, 0).await, [note(1, 2)]);
    assert_eq!(read(&world, &world.job(), 0).await, []);
}

fn note(attempt: u32, n: u64) -> ControlEvent {
    let message = format!("nöte {n} \u{1F980}");
    ControlEvent { sequence: Sequence::new(attempt, n), at: after(n), kind: EventKind::Note { message } }
}

async fn publish(world: &World, job: &Job, events: &[ControlEvent]) -> Result<()> {
    let publication = Publication {
        job_id: job.id,
        attempt: job.attempt,
        holder: id("w1"),
        now: after(10),
        events: events.to_vec(),
    };
    world.stores.events.publish(publication).await
}

async fn read(world: &World, job: &Job, after: u64) -> Vec<ControlEvent> {
    world.stores.events.events_after(&job.id, Sequence::from_u64(after), 100).await.unwrap()
}
