//! Events and output: every byte, once, in order, for whoever watches, from wherever they start.

use std::time::Duration;

use airunner_core::{Clock as _, PrincipalType, Sequence, Timestamp};
use airunner_e2e::{Answer, AnswerStream, RawClient, TestServer};
use airunner_proto::job::v1::{
    GetJobOutputRequest, GetJobOutputResponse, JobEnded, JobEvent, JobState, Note, OutputStream,
    PublishEventsRequest, PublishEventsResponse, StreamEventsRequest, StreamEventsResponse, job_event::Kind,
    stream_events_request::From, stream_events_response::Message,
};
use prost::Message as _;
use tonic::Code;

use crate::{calls::*, worker::*};

/// A server with a running job: its id, its worker and the token of its lease.
async fn running() -> (TestServer, RawClient, Worker, String, String) {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    let id = enqueue(&user, job("printer")).await;
    let token = worker.claim().await.task_token;
    (server, user, worker, id, token)
}

/// Bytes that are no text: every length and every value comes up.
fn noise(n: u64) -> Vec<u8> {
    let length = 1 + (n * 733) % 4_001;
    (0..length).map(|i| (i.wrapping_mul(31) ^ (n * 17)).to_le_bytes()[0]).collect()
}

/// Event `n` of the job: mostly output, on either stream, with a note now and then.
fn nth(n: u64, now: Timestamp) -> JobEvent {
    if n.is_multiple_of(7) {
        return event(1, n, now, Kind::Note(Note { message: format!("note {n}") }));
    }
    let mut printed = printed(1, n, now, &noise(n));
    if let Some(Kind::Output(output)) = &mut printed.kind
        && n.is_multiple_of(3)
    {
        output.stream = OutputStream::Stderr as i32;
    }
    printed
}

/// What a watcher got.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<JobEvent>,
    ended: Option<JobEnded>,
}

/// Watches to the end of the job, hanging up after every `patience` events and coming back for what follows.
async fn watch(client: RawClient, job_id: String, from: Option<From>, patience: usize) -> Seen {
    let mut seen = Seen::default();
    let mut from = from;
    loop {
        let request = StreamEventsRequest { job_id: job_id.clone(), from, ..Default::default() };
        let mut stream = client.open(STREAM_EVENTS, &request).await.unwrap();
        let mut read = 0;
        while read < patience {
            let message: StreamEventsResponse = match stream.next().await {
                Ok(message) => StreamEventsResponse::decode(message).unwrap(),
                Err(end) => {
                    assert_eq!(end.code, Code::Ok, "{end:?}");
                    return seen;
                }
            };
            match message.message.unwrap() {
                Message::Attached(_) => {}
                Message::Event(event) => seen.events.push(event),
                Message::Ended(ended) => seen.ended = Some(ended),
            }
            read += 1;
        }
        let last = seen.events.last().map(|event| event.sequence);
        from = last.map(From::AfterSequence).or(from);
    }
}

const EVENTS: u64 = 300;
const BATCH: u64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_get_every_event_once_and_in_order_from_wherever_they_start() {
    let (server, user, worker, id, token) = running().await;
    // They happened one after the other, and are told of now.
    let began = server.clock.now().minus(Duration::from_secs(1));
    let all: Vec<_> = (1..=EVENTS).map(|n| nth(n, began.plus(Duration::from_millis(n)))).collect();
    let half = Sequence::new(1, EVENTS / 2).as_u64();
    let since = all[99].at.unwrap();
    let starts = [
        (None, 0, usize::MAX),
        (None, 0, 10),
        (None, 0, 64),
        (Some(From::AfterSequence(half)), EVENTS / 2, usize::MAX),
        (Some(From::AfterSequence(half)), EVENTS / 2, 7),
        (Some(From::Since(since)), 99, usize::MAX),
    ];
    let early: Vec<_> = starts
        .iter()
        .map(|(from, _, patience)| tokio::spawn(watch(user.clone(), id.clone(), *from, *patience)))
        .collect();
    for batch in all.chunks(usize::try_from(BATCH).unwrap()) {
        assert_eq!(worker.publish(&token, batch.to_vec()).await.code, Code::Ok);
        // A batch that is sent again, since its answer was lost, is there once.
        assert_eq!(worker.publish(&token, batch.to_vec()).await.code, Code::Ok);
    }
    worker.complete(&token, exited(0)).await;
    let end = Sequence::end_of(1).as_u64();
    let late =
        starts.map(|(from, _, patience)| tokio::spawn(watch(user.clone(), id.clone(), from, patience)));
    for watchers in [early, Vec::from(late)] {
        for ((from, skip, _), watcher) in starts.iter().zip(watchers) {
            let seen = watcher.await.unwrap();
            assert_eq!(seen.ended.unwrap().state(), JobState::Completed);
            let (last, events) = seen.events.split_last().unwrap();
            assert_eq!(last.sequence, end, "the end of the attempt is the last event");
            let expected = all.iter().skip(usize::try_from(*skip).unwrap());
            assert_eq!(events.len(), expected.len(), "{from:?}");
            assert!(events.iter().eq(expected), "{from:?}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_now_is_from_when_the_stream_is_in_force() {
    let (server, user, worker, job_id, token) = running().await;
    let now = server.clock.now();
    assert_eq!(worker.publish(&token, (1..=10).map(|n| nth(n, now)).collect()).await.code, Code::Ok);
    let request = StreamEventsRequest { job_id, from: Some(From::Now(true)), ..Default::default() };
    let mut stream = user.open(STREAM_EVENTS, &request).await.unwrap();
    let attached: StreamEventsResponse = stream.message().await;
    let Some(Message::Attached(attached)) = attached.message else { panic!("{attached:?}") };
    assert_eq!(attached.after_sequence, Sequence::new(1, 10).as_u64());
    let coming: Vec<_> = (11..=20).map(|n| nth(n, now)).collect();
    assert_eq!(worker.publish(&token, coming.clone()).await.code, Code::Ok);
    for expected in coming {
        let message: StreamEventsResponse = stream.message().await;
        assert_eq!(message.message, Some(Message::Event(expected)));
    }
    server.stop().await;
}

/// Reads on, and returns how the stream ended. Goes on with `seen`.
async fn read_on(stream: &mut AnswerStream, seen: &mut Vec<JobEvent>) -> Answer {
    loop {
        let message = match stream.next().await {
            Ok(message) => StreamEventsResponse::decode(message).unwrap(),
            Err(end) => return end,
        };
        if let Some(Message::Event(event)) = message.message {
            seen.push(event);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_stops_reading_is_told_to_resume_and_loses_nothing() {
    let (server, user, worker, id, token) = running().await;
    let now = server.clock.now();
    // More than the two ends and what is between them hold of a stream: windows and buffers.
    let all: Vec<_> =
        (1..=200).map(|n| printed(1, n, now, &vec![u8::try_from(n).unwrap(); 60_000])).collect();
    for batch in all.chunks(4) {
        assert_eq!(worker.publish(&token, batch.to_vec()).await.code, Code::Ok);
    }
    worker.complete(&token, exited(0)).await;
    let open = async |after: u64| {
        let from = Some(From::AfterSequence(after));
        let request = StreamEventsRequest { job_id: id.clone(), from, ..Default::default() };
        user.open(STREAM_EVENTS, &request).await.unwrap()
    };
    let mut seen = Vec::new();
    let told = loop {
        let mut stream = open(0).await;
        // Others who read are not held up.
        assert!(watch(user.clone(), id.clone(), None, usize::MAX).await.ended.is_some());
        for _ in 0..80 {
            server.advance(Duration::from_millis(1_500)).await;
        }
        seen.clear();
        let end = read_on(&mut stream, &mut seen).await;
        // It was no stop where the machine was too slow to send it all that it takes without being read.
        if end.code != Code::Ok {
            break end;
        }
    };
    assert_eq!((told.code, told.label.as_str()), (Code::ResourceExhausted, "slow-watcher"), "{told:?}");
    let last = seen.last().unwrap().sequence;
    assert!(told.message.contains(&last.to_string()), "{told:?}");
    assert!(seen.len() < all.len());
    assert_eq!(read_on(&mut open(last).await, &mut seen).await.code, Code::Ok);
    assert!(seen[..all.len()] == all && seen.len() == all.len() + 1, "all of it, and the end of the attempt");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_alone_is_exact_by_stream_and_from_a_sequence() {
    let (server, user, worker, id, token) = running().await;
    let now = server.clock.now();
    for first in (1..=100).step_by(50) {
        let batch = (first..first + 50).map(|n| nth(n, now)).collect();
        assert_eq!(worker.publish(&token, batch).await.code, Code::Ok);
    }
    let is_note = |n: &u64| n.is_multiple_of(7);
    let is_stderr = |n: &u64| n.is_multiple_of(3);
    let bytes = |numbers: &mut dyn Iterator<Item = u64>| numbers.flat_map(noise).collect::<Vec<u8>>();
    let request = |stream: OutputStream, after| GetJobOutputRequest {
        job_id: id.clone(),
        stream: stream as i32,
        follow: false,
        after_sequence: after,
    };
    for (stream, after, expected) in [
        (OutputStream::Unspecified, 0, bytes(&mut (1..=100).filter(|n| !is_note(n)))),
        (OutputStream::Stdout, 0, bytes(&mut (1..=100).filter(|n| !is_note(n) && !is_stderr(n)))),
        (OutputStream::Stderr, 0, bytes(&mut (1..=100).filter(|n| !is_note(n) && is_stderr(n)))),
        (OutputStream::Unspecified, 60, bytes(&mut (61..=100).filter(|n| !is_note(n)))),
    ] {
        let after = if after == 0 { 0 } else { Sequence::new(1, after).as_u64() };
        let answer = user.call(OUTPUT, &request(stream, after)).await.unwrap();
        assert_eq!(answer.code, Code::Ok);
        let got = answer
            .messages
            .iter()
            .flat_map(|message| GetJobOutputResponse::decode(message.clone()).unwrap().data.to_vec());
        assert!(got.eq(expected), "{stream:?} after {after}");
    }
    let unknown = GetJobOutputRequest { stream: 9, ..request(OutputStream::Unspecified, 0) };
    assert_eq!(user.refusal(OUTPUT, &unknown).await.0, Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_not_of_this_lease_and_in_order_are_refused() {
    let (server, user, worker, id, token) = running().await;
    let now = server.clock.now();
    let refused = async |events: Vec<JobEvent>| {
        let answer = worker.publish(&token, events).await;
        (answer.code, answer.field.unwrap_or_default())
    };
    let bad_sequence = (Code::InvalidArgument, "events.sequence".to_owned());
    for events in [
        vec![started(2, 1, now)],
        vec![started(1, 0, now)],
        vec![started(0, 1, now)],
        vec![nth(2, now), nth(1, now)],
        vec![nth(1, now), nth(1, now)],
        vec![JobEvent { sequence: Sequence::end_of(1).as_u64(), ..nth(1, now) }],
    ] {
        assert_eq!(refused(events).await, bad_sequence);
    }
    assert_eq!(refused(vec![JobEvent { at: None, ..nth(1, now) }]).await.1, "events.at");
    assert_eq!(refused(vec![JobEvent { kind: None, ..nth(1, now) }]).await.1, "events.kind");
    let forged = Kind::AttemptEnded(airunner_proto::job::v1::AttemptEnded::default());
    assert_eq!(refused(vec![event(1, 1, now, forged)]).await.1, "events.kind");
    assert_eq!(refused((1..=51).map(|n| nth(n, now)).collect()).await.1, "events");
    let large = vec![printed(1, 1, now, &vec![0; 256 * 1024 + 1])];
    assert_eq!(refused(large).await, (Code::ResourceExhausted, "events".to_owned()));

    let nothing = GetJobOutputRequest { job_id: id, ..Default::default() };
    assert_eq!(user.call(OUTPUT, &nothing).await.unwrap().messages.len(), 0, "none of it was kept");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_line_up_acknowledges_and_outlives_a_lost_lease() {
    let (server, _, worker, id, token) = running().await;
    let (up, mut acks) = worker.client.open_two_way(PUBLISH_STREAM).await.unwrap();
    let batch =
        |n| PublishEventsRequest { task_token: token.clone(), events: vec![nth(n, server.clock.now())] };
    for n in 1..=5 {
        up.send(batch(n).encode_to_vec().into()).await.unwrap();
        let ack: PublishEventsResponse = acks.message().await;
        assert_eq!((ack.sequence, ack.job_id.as_str()), (Sequence::new(1, n).as_u64(), id.as_str()));
    }
    worker.complete(&token, exited(0)).await;
    for _ in 0..2 {
        up.send(batch(6).encode_to_vec().into()).await.unwrap();
        let refused: PublishEventsResponse = acks.message().await;
        assert_eq!(refused.error_label, "lease-lost", "in band: the line carries other jobs too");
    }
    drop(up);
    assert_eq!(acks.end().await.code, Code::Ok);
    server.stop().await;
}
