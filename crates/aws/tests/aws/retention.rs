//! The time to live of a job's rows: by the policy, from the job's end on, and not before it.

use std::time::Duration;

use airunner_core::{
    AttemptOutcome, Completion, ControlEvent, EventKind, Exit, Fencing, InputWrite, LeaseExtension,
    Publication, Sequence, Stores, Timestamp,
};
use airunner_testkit::records;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::{
    large::held,
    world::{JOB_RETENTION, NOW, Place},
};

const DAY: Duration = Duration::from_hours(24);
/// How much of a job's life the time to live of its events and its input allows for.
const LIFE: Duration = Duration::from_hours(30 * 24);

impl Place {
    /// The times to live of all rows of a table, in order; none where a row has none.
    async fn times(&self, table: &str) -> Vec<Option<i64>> {
        let rows =
            self.client.scan().table_name(self.name(table)).consistent_read(true).send().await.unwrap();
        let ttl = |value: &AttributeValue| value.as_n().unwrap().parse().unwrap();
        let mut times: Vec<_> = rows.items().iter().map(|row| row.get("ttl").map(ttl)).collect();
        times.sort_unstable();
        times
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis() / 1_000
}

async fn note(stores: &Stores, job: &airunner_core::Job, n: u64, at: Timestamp) {
    let kind = EventKind::Note { message: "x".repeat(600_000) };
    let event = ControlEvent { sequence: Sequence::new(job.attempt, n), at, kind };
    let publication = Publication {
        job_id: job.id,
        attempt: job.attempt,
        holder: records::id("w1"),
        now: at,
        events: vec![event],
    };
    stores.events.publish(publication).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_rows_live_as_long_as_the_policy_says_and_those_of_a_long_life_are_put_off() {
    let place = Place::new().await;
    let stores = place.open().stores();
    let job = held(&stores).await;
    note(&stores, &job, 1, NOW).await;
    let input = InputWrite {
        job_id: job.id,
        writer: None,
        take: false,
        bytes: b"typed".to_vec(),
        end: false,
        size: None,
    };
    stores.jobs.write_input(input, records::audit("job.input", "x", NOW)).await.unwrap();
    // While it lives no time is set for the job itself; its parts have one that allows for its life.
    let allowed = Some(seconds(NOW.plus(JOB_RETENTION).plus(LIFE)));
    assert_eq!(place.times("jobs").await, [None]);
    assert_eq!(place.times("job_events").await, [allowed; 3], "an event in three parts");
    assert_eq!(place.times("job_inputs").await, [allowed; 2]);

    // It lives on: its lease goes on from one day to the next.
    let lease = LeaseExtension { job_id: job.id, attempt: job.attempt };
    let mut until = NOW;
    for day in 1..=20 {
        let now = until;
        until = NOW.plus(DAY * day);
        let now = if day == 1 { NOW } else { now.minus(Duration::from_secs(1)) };
        stores.jobs.extend_leases(&records::id("w1"), &[lease], now, until).await.unwrap().remove(0).unwrap();
    }
    // Put off on the fifteenth day, for all that there was.
    let put_off = Some(seconds(NOW.plus(DAY * 15).plus(JOB_RETENTION).plus(LIFE)));
    assert_eq!(place.times("job_events").await, [put_off; 3]);
    assert_eq!(place.times("job_inputs").await, [put_off; 2]);

    let end = until.minus(Duration::from_secs(1));
    let outcome = AttemptOutcome::Exited(Exit::Code(0));
    let completion = Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None };
    stores.jobs.complete_jobs(&records::id("w1"), &[completion], end).await.unwrap().remove(0).unwrap();
    assert_eq!(place.times("jobs").await, [Some(seconds(end.plus(JOB_RETENTION)))]);
    let parts = place.times("job_events").await;
    assert_eq!(parts.len(), 4);
    assert!(
        parts.iter().all(|ttl| *ttl >= Some(seconds(end.plus(JOB_RETENTION)))),
        "no part goes before its job"
    );

    // Whoever does not wait for that deletes all of it, the parts that an item does not hold too.
    let pruned = stores.jobs.prune_jobs(until, 10, Fencing(0)).await.unwrap();
    assert_eq!(pruned, [job.id]);
    for table in ["jobs", "job_events", "job_inputs"] {
        assert_eq!(place.times(table).await, [], "{table}");
    }
}
