//! What SQLite alone promises of the line: a file of the version before is taken over with the jobs that wait in it.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{Labels, LeaseRequest, QueueOrder};
use airunner_store::SqliteStore;
use airunner_testkit::records::{self, audit, id, queue};

use crate::world::{NOW, Place, options, random, worker};

fn ask() -> LeaseRequest {
    LeaseRequest {
        queues: vec![queue("default")],
        order: QueueOrder::InTurn,
        turn: 0,
        labels: Labels::new(),
        holder: id("w1"),
        worker: None,
        max: 10,
        now: NOW,
        deadline: NOW.plus(Duration::from_mins(5)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_the_version_before_wait_on() {
    let place = Place::new();
    let store = place.open();
    worker(&store.stores(), "w1").await;
    worker(&store.stores(), "alice").await;
    let jobs: Vec<_> = (0..3).map(|_| records::job("alice", NOW, random())).collect();
    let ids: BTreeSet<_> = jobs.iter().map(|job| job.id).collect();
    store.stores().jobs.enqueue_jobs(jobs, None, audit("job.enqueue", "x", NOW)).await.unwrap();
    store.close();
    place.by_hand(
        "DROP INDEX jobs_finished; DROP INDEX certificates_of_jobs; ALTER TABLE certificates DROP COLUMN job; \
         ALTER TABLE jobs DROP COLUMN certificates; DROP INDEX jobs_line; DROP INDEX jobs_turn; DROP TABLE queue_clocks; \
         ALTER TABLE jobs DROP COLUMN lane; ALTER TABLE jobs DROP COLUMN rank; ALTER TABLE jobs DROP COLUMN place; \
         ALTER TABLE jobs DROP COLUMN usage; ALTER TABLE job_inputs DROP COLUMN size; \
         ALTER TABLE job_inputs DROP COLUMN writer; ALTER TABLE job_inputs DROP COLUMN piece; \
         ALTER TABLE job_inputs DROP COLUMN total; \
         CREATE INDEX jobs_waiting ON jobs (queue, visible_at) WHERE state = 'scheduled'; \
         DELETE FROM schema_versions WHERE version > 1; PRAGMA user_version = 1;",
    );
    let again = SqliteStore::open(options(place.path())).unwrap();
    let leased = again.stores().jobs.lease_jobs(&ask()).await.unwrap();
    assert_eq!(leased.iter().map(|job| job.id).collect::<BTreeSet<_>>(), ids);
}
