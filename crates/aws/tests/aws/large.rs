//! What one item does not hold, and what no answer comes to.

use std::{sync::Arc, time::Duration};

use airunner_aws::{DynamoStore, tables::TableNames};
use airunner_core::{
    ControlEvent, EventKind, InputWrite, Job, Label, Labels, LeaseRequest, PrincipalType, Publication,
    QueueName, QueueOrder, Sequence, Stores,
};
use airunner_store::MemoryStore;
use airunner_testkit::{
    random::SeededRandom,
    records::{self, JobExt as _},
};
use aws_sdk_dynamodb::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
};

use crate::world::{JOB_RETENTION, NOW, Place, client, random};

/// A job that `w1` holds, with its standard input connected.
pub(crate) async fn held(stores: &Stores) -> Job {
    for (id, kind) in [("alice", PrincipalType::User), ("w1", PrincipalType::Worker)] {
        let audit = records::audit("principal.create", id, NOW);
        stores.principals.create_principal(records::principal_of(id, kind), audit).await.unwrap();
    }
    let job = records::job("alice", NOW, random()).with(|spec| spec.stdin = true);
    let audit = records::audit("job.enqueue", "x", NOW);
    stores.jobs.enqueue_jobs(vec![job], None, audit).await.unwrap();
    let request = LeaseRequest {
        queues: vec![QueueName::default_queue()],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: records::id("w1"),
        worker: None,
        max: 1,
        now: NOW,
        deadline: NOW.plus(Duration::from_mins(5)),
    };
    stores.jobs.lease_jobs(&request).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_a_piece_of_input_larger_than_an_item_are_kept_whole() {
    let place = Place::new().await;
    let stores = place.open().stores();
    let job = held(&stores).await;
    // 400 KB is what an item holds; letters of several bytes show that none is cut in two.
    let message = "é€😀".repeat(100_000);
    let event =
        ControlEvent { sequence: Sequence::new(job.attempt, 1), at: NOW, kind: EventKind::Note { message } };
    let publication = Publication {
        job_id: job.id,
        attempt: job.attempt,
        holder: records::id("w1"),
        now: NOW,
        events: vec![event.clone()],
    };
    stores.events.publish(publication.clone()).await.unwrap();
    stores.events.publish(publication).await.expect("what is there already is dropped");
    let read = stores.events.events_after(&job.id, Sequence::default(), 10).await.unwrap();
    assert!(read == [event], "the event came back otherwise");

    let input: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let audit = || records::audit("job.input", "x", NOW);
    let write = |bytes, end| InputWrite { job_id: job.id, writer: None, take: false, bytes, end, size: None };
    stores.jobs.write_input(write(input.clone(), false), audit()).await.unwrap();
    stores.jobs.write_input(write(b"end".to_vec(), true), audit()).await.unwrap();
    let pieces = stores.jobs.inputs_after(&job.id, 0, 100).await.unwrap();
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
    assert!(bytes == [&input[..], b"end"].concat(), "the input came back otherwise");
    assert!(pieces.is_sorted_by_key(|piece| piece.n));
    assert_eq!(pieces.iter().filter(|piece| piece.end).count(), 1);
    assert!(pieces.last().unwrap().end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_answers_is_given_up_in_time() {
    // It accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let times = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100));
    let times = times.operation_timeout(Duration::from_millis(500)).build();
    let config = client(&endpoint).config().to_builder();
    let config = config.timeout_config(times).retry_config(RetryConfig::standard().with_max_attempts(2));
    let output = MemoryStore::new(1).stores().output;
    let names = TableNames::new("t", "test");
    let random = Arc::new(SeededRandom::new(3));
    let stores =
        DynamoStore::open(Client::from_conf(config.build()), names, random, output, JOB_RETENTION).stores();
    let id = records::id("w1");
    let asked = stores.principals.get_principal(&id);
    let refused = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("it is given up");
    let refused = refused.unwrap_err();
    assert_eq!(refused.label(), Label::StoreUnavailable);
    assert!(refused.message().contains("does not answer"), "{refused}");
}
