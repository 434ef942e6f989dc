//! The queue from outside: whose job is next, for whom a job is, and of what use a task token is to whom.

use std::collections::HashMap;

use airunner_core::{Clock as _, PrincipalType};
use airunner_e2e::{RawClient, TestServer};
use airunner_proto::job::v1::{
    CompleteJobsRequest, Completion, DequeueJobsRequest, EnqueueJobsRequest, EnqueueJobsResponse,
    ExtendLeaseRequest, GetJobRequest, GetJobResponse, HandedBackOutcome, JobSpec, JobState, ListJobsRequest,
    ListJobsResponse, PublishEventBatchRequest, StartJobRequest, completion::Outcome,
};
use tonic::Code;

use crate::{calls::*, worker::*};

const LEASE_LOST: &str = "lease-lost";

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A worker that waits for a job of this queue.
async fn waiting_worker(server: &TestServer, id: &str, queue: &str) -> Worker {
    let (client, _) = client(server, id, PrincipalType::Worker).await;
    let request = DequeueJobsRequest { queues: vec![queue.to_owned()], max_jobs: 1, ..Default::default() };
    let mut worker = Worker::open_with(client, request).await;
    worker.waiting().await;
    worker
}

fn requiring(name: &str, value: &str) -> JobSpec {
    JobSpec { requires: labels(&[(name, value)]), ..job("true") }
}

async fn state(user: &RawClient, id: &str) -> JobState {
    let found: GetJobResponse = user.ask(GET_JOB, &GetJobRequest { job_id: id.to_owned() }).await;
    found.job.unwrap().state()
}

/// Takes the next job and says that it is done; whose it was.
async fn run_next(worker: &mut Worker) -> String {
    let claim = next_claim(worker).await;
    assert_eq!(worker.complete(&claim.task_token, exited(0)).await.error_label, "");
    claim.job.unwrap().owner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_token_is_of_no_use_to_anyone_but_the_holder_of_its_lease() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut worker = waiting_worker(&server, "w1", "default").await;
    let other = waiting_worker(&server, "w2", "elsewhere").await;
    let id = enqueue(&user, job("true")).await;
    let token = worker.claim().await.task_token;

    // Another worker, who may do all this with what is its own.
    assert_eq!(other.complete(&token, exited(0)).await.error_label, LEASE_LOST);
    assert_eq!(other.extend(&token, 60).await.error_label, LEASE_LOST);
    let events = vec![started(1, 1, server.clock.now())];
    assert_eq!(other.publish(&token, events).await.label, LEASE_LOST);
    // Whoever may not work at all.
    let completion = Completion { task_token: token.clone(), outcome: Some(exited(0)), ..Default::default() };
    let request = CompleteJobsRequest { completions: vec![completion] };
    assert_eq!(user.call(COMPLETE, &request).await.unwrap().code, Code::PermissionDenied);
    assert_eq!(state(&user, &id).await, JobState::Running);

    // One that was altered, in every part of it, even in the hands of the holder.
    for at in [0, token.len() / 2, token.len() - 1] {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        let completion =
            Completion { task_token: altered.clone(), outcome: Some(exited(0)), ..Default::default() };
        let request = CompleteJobsRequest { completions: vec![completion] };
        let answer = worker.client.call(COMPLETE, &request).await.unwrap();
        assert_eq!(answer.code, Code::InvalidArgument, "byte {at}");
        let request =
            ExtendLeaseRequest { task_tokens: vec![altered.clone()], visibility_timeout: seconds(60) };
        assert_eq!(worker.client.call(EXTEND, &request).await.unwrap().code, Code::InvalidArgument);
        let request = PublishEventBatchRequest { task_token: altered, events: Vec::new() };
        assert_eq!(worker.client.call(PUBLISH, &request).await.unwrap().code, Code::InvalidArgument);
    }
    assert_eq!(state(&user, &id).await, JobState::Running);

    // That of an attempt that is over, though the same worker holds the next one.
    let back = worker.complete(&token, Outcome::HandedBack(HandedBackOutcome {})).await;
    assert_eq!(back.error_label, "");
    let second = next_claim(&mut worker).await;
    assert_eq!(worker.complete(&token, exited(0)).await.error_label, LEASE_LOST);
    assert_eq!(state(&user, &id).await, JobState::Running);
    assert_eq!(worker.complete(&second.task_token, exited(0)).await.error_label, "");
    assert_eq!(worker.complete(&second.task_token, exited(1)).await.error_label, LEASE_LOST);
    assert_eq!(state(&user, &id).await, JobState::Completed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_many_jobs_holds_up_nobody() {
    let server = TestServer::start().await;
    let (many, _) = client(&server, "many", PrincipalType::User).await;
    let (few, _) = client(&server, "few", PrincipalType::User).await;
    for _ in 0..4 {
        let request = EnqueueJobsRequest { jobs: vec![job("true"); 64], ..Default::default() };
        let _: EnqueueJobsResponse = many.ask(ENQUEUE, &request).await;
    }
    let (client, _) = client(&server, "w1", PrincipalType::Worker).await;
    let mut worker = Worker::open(client).await;
    for _ in 0..5 {
        assert_eq!(run_next(&mut worker).await, "many");
    }
    enqueue(&few, job("true")).await;
    // One may have been on its way to the worker.
    let next = [run_next(&mut worker).await, run_next(&mut worker).await];
    assert!(next.contains(&"few".to_owned()), "{next:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_two_queues_serves_them_in_turn() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    for queue in ["busy", "busy", "busy", "busy", "quiet"] {
        enqueue(&user, JobSpec { queue: queue.to_owned(), ..job("true") }).await;
    }
    let (client, _) = client(&server, "w1", PrincipalType::Worker).await;
    let queues = vec!["busy".to_owned(), "quiet".to_owned()];
    let mut worker =
        Worker::open_with(client, DequeueJobsRequest { queues, max_jobs: 1, ..Default::default() }).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let claim = next_claim(&mut worker).await;
        worker.complete(&claim.task_token, exited(0)).await;
        served.push(claim.job.unwrap().queue);
    }
    assert!(served.contains(&"quiet".to_owned()), "{served:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_to_a_worker_that_has_what_it_requires() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut plain = waiting_worker(&server, "w1", "default").await;
    let request = StartJobRequest { job: Some(requiring("arch", "arm64")), ..Default::default() };
    let refused = user.call(START, &request).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unavailable, "no-worker"));
    assert!(refused.message.contains("arch=arm64"), "{}", refused.message);

    let for_arm = enqueue(&user, requiring("arch", "arm64")).await;
    let for_all = enqueue(&user, job("true")).await;
    assert_eq!(plain.claim().await.job.unwrap().job_id, for_all);
    let (client, _) = client(&server, "w2", PrincipalType::Worker).await;
    let request = DequeueJobsRequest {
        labels: labels(&[("arch", "arm64"), ("zone", "a")]),
        max_jobs: 1,
        ..Default::default()
    };
    let mut arm = Worker::open_with(client, request).await;
    let claim = arm.claim().await;
    assert_eq!(claim.job.unwrap().job_id, for_arm);
    assert_eq!(arm.complete(&claim.task_token, exited(0)).await.error_label, "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_listed_by_their_labels() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let labelled = |pairs: &[(&str, &str)]| JobSpec {
        labels: labels(pairs),
        priority: 7,
        retry_delay: seconds(30),
        ..job("true")
    };
    let both = enqueue(&user, labelled(&[("branch", "main"), ("kind", "a=b")])).await;
    let one = enqueue(&user, labelled(&[("branch", "main")])).await;
    enqueue(&user, labelled(&[("branch", "other"), ("kind", "a=b")])).await;
    let found = async |labels: &[&str]| -> Vec<String> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let listed: ListJobsResponse =
            user.ask(LIST_JOBS, &ListJobsRequest { labels, ..Default::default() }).await;
        listed.jobs.into_iter().map(|job| job.job_id).collect()
    };
    assert_eq!(found(&["branch=main"]).await, [one, both.clone()]);
    assert_eq!(found(&["branch=main", "kind=a=b"]).await, std::slice::from_ref(&both));
    assert_eq!(found(&["branch=none"]).await, Vec::<String>::new());
    for labels in [["branch"].as_slice(), &["=x"], &["branch=main", "branch=other"]] {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let request = ListJobsRequest { labels, ..Default::default() };
        assert_eq!(user.call(LIST_JOBS, &request).await.unwrap().code, Code::InvalidArgument);
    }
    let shown: GetJobResponse = user.ask(GET_JOB, &GetJobRequest { job_id: both }).await;
    let shown = shown.job.unwrap();
    assert_eq!((shown.priority, shown.retry_delay), (7, seconds(30)));
    server.stop().await;
}
