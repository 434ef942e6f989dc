//! Jobs and output that were kept for long enough: they go, nothing else does, and whoever asks is told.

use std::time::Duration;

use airunner_app::RetentionPolicy;
use airunner_core::{Clock as _, JobId, OutputChunk, PrincipalType, Sequence};
use airunner_e2e::{Answer, RawClient, TestServer, TestServerOptions};
use airunner_proto::job::v1::{
    DequeueJobsRequest, GetJobOutputRequest, GetJobOutputResponse, GetJobRequest, JobState,
    StreamEventsRequest, StreamEventsResponse, job_event::Kind, stream_events_response::Message,
};
use prost::Message as _;
use serde_json::Value;
use tonic::Code;

use crate::{calls::*, worker::*};

/// A server that keeps jobs for an hour and output for ten minutes, a user, and a worker.
struct Bed {
    server: TestServer,
    user: RawClient,
    worker: Worker,
}

const POLICY: RetentionPolicy = RetentionPolicy {
    jobs: Duration::from_hours(1),
    output: Duration::from_mins(10),
    output_total: None,
    late: Duration::ZERO,
};

impl Bed {
    async fn new(retention: RetentionPolicy) -> Self {
        let options = TestServerOptions { retention, ..TestServerOptions::default() };
        let server = TestServer::start_with(options).await;
        let (user, _) = client(&server, "u1", PrincipalType::User).await;
        let (worker, _) = client(&server, "w1", PrincipalType::Worker).await;
        let line =
            DequeueJobsRequest { max_jobs: 64, visibility_timeout: seconds(3_600), ..Default::default() };
        let worker = Worker::open_with(worker, line).await;
        Self { server, user, worker }
    }

    /// A job that runs and has printed so many bytes, with the token of its lease.
    async fn running(&mut self, bytes: usize) -> (String, String) {
        let id = enqueue(&self.user, job("printer")).await;
        let token = next_claim(&mut self.worker).await.task_token;
        let now = self.server.clock.now();
        let events = vec![started(1, 1, now), printed(1, 2, now, &vec![b'x'; bytes])];
        assert_eq!(self.worker.publish(&token, events).await.code, Code::Ok);
        (id, token)
    }

    /// A job that has ended, and printed so many bytes.
    async fn ended(&mut self, bytes: usize) -> String {
        let (id, token) = self.running(bytes).await;
        assert_eq!(self.worker.complete(&token, exited(0)).await.error_label, "");
        id
    }

    /// Lets time pass and what was due a minute before be done, whatever number of parts it has: a sweep that had begun
    /// before it was due is followed by another.
    async fn later(&self, by: Duration) {
        const REST: Duration = Duration::from_secs(61);
        for part in [by.saturating_sub(REST), REST] {
            self.server.turn_ahead(part).await;
            for _ in 0..20 {
                assert!(self.server.app.housekeeping.step().await.unwrap());
            }
        }
    }

    async fn kept(&self, id: &str) -> Option<u64> {
        let id: JobId = id.parse().unwrap();
        let kept = self.server.stores.output.kept_outputs(None, 1_000).await.unwrap();
        kept.iter().find(|kept| kept.job_id == id).map(|kept| kept.bytes)
    }

    async fn is_there(&self, id: &str) -> bool {
        let answer = self.user.call(GET_JOB, &GetJobRequest { job_id: id.to_owned() }).await.unwrap();
        answer.code == Code::Ok
    }

    /// What a watcher from the start gets: the kinds of the events in short.
    async fn watched(&self, id: &str) -> (Vec<&'static str>, Option<JobState>) {
        let request = StreamEventsRequest { job_id: id.to_owned(), ..Default::default() };
        let mut stream = self.user.open(STREAM_EVENTS, &request).await.unwrap();
        let mut kinds = Vec::new();
        loop {
            let message: StreamEventsResponse = stream.message().await;
            match message.message.unwrap() {
                Message::Attached(_) => {}
                Message::Event(event) => kinds.push(match event.kind.unwrap() {
                    Kind::Started(_) => "started",
                    Kind::Output(_) => "output",
                    Kind::Note(_) => "note",
                    Kind::AttemptEnded(_) => "ended",
                    Kind::Gap(_) => "gap",
                }),
                Message::Ended(ended) => return (kinds, Some(ended.state())),
            }
        }
    }

    async fn output(&self, id: &str, follow: bool) -> (Vec<GetJobOutputResponse>, Answer) {
        let request = GetJobOutputRequest { job_id: id.to_owned(), follow, ..Default::default() };
        let mut stream = self.user.open(OUTPUT, &request).await.unwrap();
        let mut chunks = Vec::new();
        loop {
            match stream.next().await {
                Ok(message) => chunks.push(GetJobOutputResponse::decode(message).unwrap()),
                Err(end) => return (chunks, end),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_goes_by_its_age_and_whoever_asks_is_told() {
    let mut bed = Bed::new(POLICY).await;
    let old = bed.ended(1_000).await;
    let silent = enqueue(&bed.user, job("silent")).await;
    let token = next_claim(&mut bed.worker).await.task_token;
    bed.worker.complete(&token, exited(0)).await;
    let (running, _) = bed.running(2_000).await;
    bed.later(Duration::from_mins(7)).await;
    let young = bed.ended(3_000).await;
    assert!(bed.kept(&old).await.unwrap() >= 1_000);
    bed.later(Duration::from_mins(5)).await;

    assert_eq!(bed.kept(&old).await, Some(0));
    assert!(bed.kept(&young).await.unwrap() >= 3_000);
    assert!(bed.kept(&running).await.unwrap() >= 2_000, "a job that runs keeps what it prints");
    let completed = Some(JobState::Completed);
    assert_eq!(bed.watched(&old).await, (vec!["gap", "started", "ended"], completed));
    assert_eq!(bed.watched(&young).await, (vec!["started", "output", "ended"], completed));
    // A job that printed nothing has lost nothing.
    assert_eq!(bed.watched(&silent).await, (vec!["ended"], completed));
    for follow in [false, true] {
        let (chunks, end) = bed.output(&old, follow).await;
        assert_eq!(end.code, Code::Ok);
        let [gone] = &chunks[..] else { panic!("{chunks:?}") };
        assert!(gone.data.is_empty() && gone.lost_until >= Sequence::new(1, 2).as_u64());
    }
    assert_eq!(bed.output(&silent, false).await.0, []);
    let counters = bed.server.app.counters();
    assert!(counters.output_pruned_bytes.load(std::sync::atomic::Ordering::Relaxed) >= 1_000);
    assert!(counters.output_kept_bytes.load(std::sync::atomic::Ordering::Relaxed) >= 5_000);
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_no_more_than_http_is_told_too() {
    let mut bed = Bed::new(POLICY).await;
    let id = bed.ended(1_000).await;
    let path = format!("/jobs/output/{id}");
    let whole = bed.user.http("GET", &path, &[], b"").await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.body().len()), (200, 1_000));
    bed.later(Duration::from_mins(12)).await;

    let gone = bed.user.http("GET", &path, &[], b"").await.unwrap();
    assert_eq!(gone.status().as_u16(), 404, "{gone:?}");
    assert!(String::from_utf8_lossy(gone.body()).contains("no longer kept"), "{gone:?}");
    let document = bed.user.http("GET", &path, &[("accept", "application/json")], b"").await.unwrap();
    let document: Value = serde_json::from_slice(document.body()).unwrap();
    assert_eq!(document["incomplete"], true);
    let follow = format!("{path}?follow=true");
    assert!(bed.user.http("GET", &follow, &[], b"").await.is_err(), "the body breaks off");
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_by_its_age_with_its_output_and_others_stay() {
    let mut bed = Bed::new(RetentionPolicy { output: POLICY.jobs, ..POLICY }).await;
    let mut old = Vec::new();
    // More than a step deletes.
    for _ in 0..30 {
        old.push(bed.ended(100).await);
    }
    let (running, _) = bed.running(100).await;
    bed.later(Duration::from_mins(57)).await;
    let waiting = enqueue(&bed.user, job("waiting")).await;
    for id in &old {
        assert!(bed.is_there(id).await);
    }
    bed.later(Duration::from_mins(5)).await;
    for id in &old {
        assert!(!bed.is_there(id).await);
        assert_eq!(bed.kept(id).await, None);
    }
    assert!(bed.is_there(&running).await && bed.is_there(&waiting).await);
    assert!(bed.kept(&running).await.is_some());
    assert_eq!(bed.server.app.counters().jobs_pruned.load(std::sync::atomic::Ordering::Relaxed), 30);
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_total_what_ended_first_goes_first_and_nothing_of_a_job_that_runs() {
    let total = 10_000;
    let mut bed = Bed::new(RetentionPolicy { output_total: Some(total), ..RetentionPolicy::default() }).await;
    let first = bed.ended(3_000).await;
    bed.later(Duration::from_mins(2)).await;
    let second = bed.ended(3_000).await;
    bed.later(Duration::from_mins(2)).await;
    assert!(bed.kept(&first).await.unwrap() > 0, "there is room for both");
    let third = bed.ended(3_000).await;
    let (running, _) = bed.running(3_000).await;
    bed.later(Duration::from_mins(2)).await;
    assert_eq!(bed.kept(&first).await, Some(0));
    for kept in [&second, &third, &running] {
        assert!(bed.kept(kept).await.unwrap() >= 3_000);
    }
    let kept = bed.server.app.counters().output_kept_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!((9_000..=total).contains(&kept), "{kept}");
    bed.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_of_no_job_is_swept_once_its_job_can_not_be_about_to_come() {
    let mut bed = Bed::new(POLICY).await;
    let kept = bed.ended(100).await;
    // As a crash between a job's row and its output leaves it.
    let orphan = JobId::new(bed.server.clock.now(), &*bed.server.app.random().clone());
    let chunk = OutputChunk {
        sequence: Sequence::new(1, 1),
        at: bed.server.clock.now(),
        stream: airunner_core::OutputStream::Stdout,
        bytes: vec![0; 500].into(),
    };
    bed.server.stores.output.append_output(&orphan, &[chunk]).await.unwrap();
    bed.later(Duration::from_mins(57)).await;
    assert!(bed.kept(&orphan.to_string()).await.is_some());
    bed.later(Duration::from_mins(5)).await;
    assert_eq!(bed.kept(&orphan.to_string()).await, None);
    assert_eq!(bed.kept(&kept).await, None, "its job has gone as well by now");
    bed.server.stop().await;
}
