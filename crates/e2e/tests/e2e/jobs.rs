//! Jobs from outside: leases and their ends, stopping, idempotency, and whose job it is.

use std::{sync::Arc, time::Duration};

use airunner_app::seal::Sealer;
use airunner_core::{Clock as _, KeyPurpose, PrincipalType, Role};
use airunner_e2e::{MemoryKeyWrap, RawClient, TestServer, TestServerOptions};
use airunner_net::system::{SystemClock, SystemRandom};
use airunner_proto::job::v1::{
    CancelJobRequest, CancelJobResponse, CancelledOutcome, CompletionResult, DequeueJobsRequest,
    EnqueueJobsRequest, EnqueueJobsResponse, GetJobOutputRequest, GetJobRequest, GetJobResponse,
    GetJobStatusRequest, GetJobStatusResponse, HandedBackOutcome, Job, JobSpec, JobState, ListJobsRequest,
    ListJobsResponse, StreamEventsRequest, WriteJobInputRequest, WriteJobInputResponse, completion::Outcome,
    dequeue_jobs_response::Message,
};
use airunner_store::MemoryStore;
use tonic::Code;

use crate::{calls::*, worker::*};

const LEASE_LOST: &str = "lease-lost";

/// A server with a user and a worker whose line is open.
async fn workshop() -> (TestServer, RawClient, Worker) {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    worker.waiting().await;
    (server, user, worker)
}

async fn status(user: &RawClient, id: &str) -> GetJobStatusResponse {
    user.ask(JOB_STATUS, &GetJobStatusRequest { job_id: id.to_owned() }).await
}

async fn get(user: &RawClient, id: &str) -> Job {
    let found: GetJobResponse = user.ask(GET_JOB, &GetJobRequest { job_id: id.to_owned() }).await;
    found.job.unwrap()
}

fn cancel(id: &str) -> CancelJobRequest {
    CancelJobRequest { job_id: id.to_owned(), signal: 2, grace: seconds(3) }
}

/// Runs the background work now: leases that have run out end.
async fn keep_house(server: &TestServer) {
    assert!(server.app.housekeeping.step().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_leased_runs_and_ends() {
    let (server, user, mut worker) = workshop().await;
    let mut spec = job("printenv");
    spec.args = vec!["SECRET".to_owned()];
    spec.environment = [("SECRET".to_owned(), "for the worker only".to_owned())].into();
    let id = enqueue(&user, spec).await;
    let claim = worker.claim().await;
    assert_eq!(claim.environment["SECRET"], "for the worker only");
    let leased = claim.job.unwrap();
    assert_eq!((leased.job_id.as_str(), leased.attempt, leased.owner.as_str()), (id.as_str(), 1, "u1"));

    let events = vec![started(1, 1, server.clock.now())];
    assert_eq!(worker.publish(&claim.task_token, events).await.code, Code::Ok);
    let running = get(&user, &id).await;
    assert_eq!(
        (running.state(), running.process_id, running.holder.as_str()),
        (JobState::Running, 4_711, "w1")
    );
    assert_eq!(running.environment_names, ["SECRET"], "others see names alone");
    let done = worker.complete(&claim.task_token, exited(7)).await;
    assert_eq!((done.state(), done.error_label.as_str()), (JobState::Completed, ""));
    let ended = status(&user, &id).await;
    assert_eq!(ended.state(), JobState::Completed, "a command that ran is done, whatever its code");
    assert_eq!(Some(exited(7)), ended.exit.map(Outcome::Exited));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_variables_go_to_the_lease_holder_of_each_attempt_and_are_sealed_meanwhile() {
    let (server, user, mut worker) = workshop().await;
    let secrets = |value: &str| [("TOKEN".to_owned(), value.to_owned())].into();
    let spec = JobSpec { secret_environment: secrets("hunter2"), retry_on_exit: true, ..job("true") };
    let id = enqueue(&user, spec).await;
    let stored = server.stores.jobs.get_job(&id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.spec.environment.len(), 0);
    assert_eq!(stored.spec.secrets.unwrap().names, ["TOKEN"]);
    let seen = get(&user, &id).await;
    assert_eq!(seen.secret_environment_names, ["TOKEN"]);
    assert_eq!(format!("{seen:?}").matches("hunter2").count(), 0);
    for _ in 0..2 {
        let claim = next_claim(&mut worker).await;
        assert_eq!(claim.environment["TOKEN"], "hunter2");
        worker.complete(&claim.task_token, exited(1)).await;
    }

    let many = (0..65).map(|n| (format!("S{n}"), String::new())).collect();
    let large = secrets(&"x".repeat(17 * 1024));
    let twice = JobSpec { environment: secrets("1"), secret_environment: secrets("2"), ..job("true") };
    let of = |secret_environment| JobSpec { secret_environment, ..job("true") };
    let bad_name = [("A-B".to_owned(), String::new())].into();
    let ours = [("AIRUNNER_X".to_owned(), String::new())].into();
    for wrong in [of(many), of(large), of(bad_name), of(ours), of(secrets("a\0b")), twice] {
        let request = EnqueueJobsRequest { jobs: vec![wrong], ..Default::default() };
        let refused = user.call(ENQUEUE, &request).await.unwrap();
        assert_eq!(refused.label, "invalid-argument");
        assert_eq!(refused.field.as_deref(), Some("secret_environment"), "{}", refused.message);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_of_an_older_release_gets_its_key_for_secrets_from_another_bootstrap() {
    let (stores, wrap) = (MemoryStore::new(1 << 30).stores(), Arc::new(MemoryKeyWrap::new()));
    let made = Sealer::create(&*wrap, "test", Vec::new(), &SystemClock, &SystemRandom::new()).await.unwrap();
    let mut old = made.0;
    old.keys.retain(|key| key.purpose != KeyPurpose::JobSecret);
    stores.keyring.create_keyring(old).await.unwrap();
    let options = TestServerOptions { stores: Some(stores), wrap, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let secret_environment = [("TOKEN".to_owned(), "hunter2".to_owned())].into();
    enqueue(&user, JobSpec { secret_environment, ..job("true") }).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_extended_or_lost_and_attempts_are_counted() {
    let (server, user, _) = workshop().await;
    let (client, _) = client(&server, "w2", PrincipalType::Worker).await;
    let request = DequeueJobsRequest {
        queues: vec!["own".to_owned()],
        max_jobs: 1,
        visibility_timeout: seconds(10),
        ..Default::default()
    };
    let mut worker = Worker::open_with(client, request).await;
    let id = enqueue(&user, JobSpec { queue: "own".to_owned(), max_attempts: 2, ..job("sleep") }).await;

    let first = worker.claim().await;
    let extended = worker.extend(&first.task_token, 60).await;
    assert!(extended.deadline.unwrap().seconds >= first.deadline.unwrap().seconds + 49);
    server.turn_ahead(Duration::from_secs(13)).await;
    keep_house(&server).await;
    assert_eq!(status(&user, &id).await.state(), JobState::Running, "it was extended");
    server.turn_ahead(Duration::from_secs(50)).await;
    keep_house(&server).await;
    assert!(matches!(worker.next().await, Message::LeaseLost(lost) if lost.attempt == 1));
    assert_eq!(worker.extend(&first.task_token, 60).await.error_label, LEASE_LOST);

    let second = worker.claim().await;
    assert_eq!(second.job.unwrap().attempt, 2);
    assert_eq!(worker.complete(&first.task_token, exited(0)).await.error_label, LEASE_LOST, "a late one");
    server.turn_ahead(Duration::from_secs(13)).await;
    keep_house(&server).await;
    let failed = status(&user, &id).await;
    assert_eq!(failed.state(), JobState::Failed);
    assert!(failed.reason.contains("attempt 2 of 2"), "{}", failed.reason);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_completion_of_a_lease_is_accepted() {
    let (server, user, mut worker) = workshop().await;
    let id = enqueue(&user, job("true")).await;
    let token = worker.claim().await.task_token;
    let all = (0..8).map(|code| worker.complete(&token, exited(code)));
    let results: Vec<CompletionResult> = futures_util::future::join_all(all).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        results.iter().partition(|result| result.error_label.is_empty());
    assert_eq!(accepted.len(), 1);
    assert!(refused.iter().all(|result| result.error_label == LEASE_LOST && result.state == 0));
    assert_eq!(status(&user, &id).await.state(), JobState::Completed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_back_or_failed_is_tried_again() {
    let (server, user, mut worker) = workshop().await;
    let id = enqueue(&user, JobSpec { max_attempts: 1, ..job("true") }).await;
    let first = worker.claim().await;
    let back = worker.complete(&first.task_token, Outcome::HandedBack(HandedBackOutcome {})).await;
    assert_eq!(back.state(), JobState::Scheduled);
    let second = next_claim(&mut worker).await;
    assert_eq!(second.job.unwrap().attempt, 2, "what is handed back costs no attempt");
    let failed = worker.complete(&second.task_token, Outcome::Failed("no such program".to_owned())).await;
    assert_eq!(failed.state(), JobState::Failed);
    assert!(status(&user, &id).await.reason.starts_with("no such program"));

    let id = enqueue(&user, JobSpec { retry_on_exit: true, ..job("false") }).await;
    let claim = next_claim(&mut worker).await;
    assert_eq!(worker.complete(&claim.task_token, exited(1)).await.state(), JobState::Scheduled);
    let claim = next_claim(&mut worker).await;
    assert_eq!(worker.complete(&claim.task_token, exited(0)).await.state(), JobState::Completed);
    assert_eq!(get(&user, &id).await.attempt, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_is_cancelled_at_once_a_running_one_by_its_worker_and_an_ended_one_not() {
    let (server, user, mut worker) = workshop().await;
    let waiting = enqueue(&user, JobSpec { queue: "nobody".to_owned(), ..job("true") }).await;
    let cancelled: CancelJobResponse = user.ask(CANCEL, &cancel(&waiting)).await;
    assert_eq!(cancelled.job.unwrap().state(), JobState::Cancelled);
    let ended = user.refusal(CANCEL, &cancel(&waiting)).await;
    assert_eq!(ended, (Code::FailedPrecondition, "job-ended".to_owned()));

    let running = enqueue(&user, job("sleep")).await;
    let claim = worker.claim().await;
    let asked: CancelJobResponse = user.ask(CANCEL, &cancel(&running)).await;
    let asked = asked.job.unwrap();
    assert!(asked.cancelling && asked.state() == JobState::Running);
    match worker.next().await {
        Message::Cancel(told) => {
            assert_eq!((told.job_id.as_str(), told.attempt, told.signal), (running.as_str(), 1, 2));
            assert_eq!(told.grace, seconds(3));
        }
        other => panic!("no cancel: {other:?}"),
    }
    let done = worker.complete(&claim.task_token, Outcome::Cancelled(CancelledOutcome { exit: None })).await;
    assert_eq!(done.state(), JobState::Cancelled);
    for bad in [
        CancelJobRequest { signal: 65, ..cancel(&running) },
        CancelJobRequest { grace: seconds(3_601), ..cancel(&running) },
        CancelJobRequest { grace: seconds(-1), ..cancel(&running) },
    ] {
        assert_eq!(user.refusal(CANCEL, &bad).await.0, Code::InvalidArgument);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_job_has_no_like_while_it_waits_or_runs() {
    let (server, user, mut worker) = workshop().await;
    let unique = || JobSpec { unique: true, args: vec!["x".to_owned()], ..job("backup") };
    enqueue(&user, unique()).await;
    let token = worker.claim().await.task_token;
    let again = EnqueueJobsRequest { jobs: vec![unique()], ..Default::default() };
    let refused = (Code::AlreadyExists, "job-not-unique".to_owned());
    assert_eq!(user.refusal(ENQUEUE, &again).await, refused);
    let batch = EnqueueJobsRequest { jobs: vec![job("other"), unique()], ..Default::default() };
    assert_eq!(user.refusal(ENQUEUE, &batch).await, refused, "all or none");
    let listed: ListJobsResponse = user.ask(LIST_JOBS, &ListJobsRequest::default()).await;
    assert_eq!(listed.jobs.len(), 1);
    let (other, _) = client(&server, "u2", PrincipalType::User).await;
    enqueue(&other, unique()).await;
    worker.complete(&token, exited(0)).await;
    enqueue(&user, unique()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_repeats_its_answer_and_belongs_to_its_caller() {
    let (server, user, _) = workshop().await;
    let request = |command: &str| EnqueueJobsRequest {
        jobs: vec![JobSpec { queue: "nobody".to_owned(), ..job(command) }; 3],
        request_id: "once".to_owned(),
    };
    let first: EnqueueJobsResponse = user.ask(ENQUEUE, &request("true")).await;
    let again: EnqueueJobsResponse = user.ask(ENQUEUE, &request("true")).await;
    assert_eq!(first.job_ids, again.job_ids);
    let reused = user.refusal(ENQUEUE, &request("false")).await;
    assert_eq!(reused, (Code::Aborted, "request-reused".to_owned()));
    let (other, _) = client(&server, "u2", PrincipalType::User).await;
    let others: EnqueueJobsResponse = other.ask(ENQUEUE, &request("false")).await;
    assert!(others.job_ids.iter().all(|id| !first.job_ids.contains(id)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_sees_and_stops_what_is_its_own() {
    let (server, user, mut worker) = workshop().await;
    let held = enqueue(&user, JobSpec { stdin: true, ..job("cat") }).await;
    worker.claim().await;
    let waiting = enqueue(&user, JobSpec { stdin: true, queue: "nobody".to_owned(), ..job("cat") }).await;

    // What each may: see the job that w1 holds, see the one that waits, stop and write to either.
    let of_role = async |id: &str, role: Role| {
        let credentials = server.principal_of_role(id, role).await;
        server.connect(Some(&credentials)).await.unwrap()
    };
    for (who, sees_held, sees_waiting, stops) in [
        (of_role("u2", Role::User).await, "not-owner", "not-owner", "not-owner"),
        (of_role("s1", Role::Service).await, "not-owner", "not-owner", "not-owner"),
        (of_role("w2", Role::Worker).await, "not-owner", "not-owner", "permission-denied"),
        (of_role("v1", Role::Viewer).await, "", "", "permission-denied"),
        (of_role("e1", Role::Enroller).await, "permission-denied", "permission-denied", "permission-denied"),
        (worker.client.clone(), "", "not-owner", "permission-denied"),
    ] {
        for (id, expected) in [(&held, sees_held), (&waiting, sees_waiting)] {
            assert_eq!(seen(&who, id).await, [expected; 4], "{sees_held} {sees_waiting} {stops}");
            let cancelled = who.call(CANCEL, &cancel(id)).await.unwrap();
            let written = WriteJobInputRequest { job_id: id.clone(), ..Default::default() };
            let written = who.call(WRITE_INPUT, &written).await.unwrap();
            assert_eq!([cancelled.label, written.label], [stops; 2]);
        }
    }
    for (who, count) in
        [(&user, 2), (&of_role("v2", Role::Viewer).await, 2), (&of_role("u3", Role::User).await, 0)]
    {
        let listed: ListJobsResponse = who.ask(LIST_JOBS, &ListJobsRequest::default()).await;
        assert_eq!(listed.jobs.len(), count);
    }
    let listed: ListJobsResponse = worker.client.ask(LIST_JOBS, &ListJobsRequest::default()).await;
    assert_eq!(listed.jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&held], "what it holds");
    let others = ListJobsRequest { owner: "u1".to_owned(), ..Default::default() };
    assert_eq!(of_role("u4", Role::User).await.refusal(LIST_JOBS, &others).await.1, "not-owner");

    let admin = admin(&server).await;
    assert_eq!(seen(&admin, &held).await, [""; 4]);
    let _: CancelJobResponse = admin.ask(CANCEL, &cancel(&waiting)).await;
    // Authorization comes before existence.
    let nowhere = cancel("01890000-0000-7000-8000-000000000000");
    assert_eq!(of_role("v3", Role::Viewer).await.refusal(CANCEL, &nowhere).await.1, "permission-denied");
    assert_eq!(user.refusal(CANCEL, &nowhere).await.1, "not-found");
    server.stop().await;
}

/// What looking at a job in each of the four ways comes to.
async fn seen(who: &RawClient, id: &str) -> [String; 4] {
    let id = id.to_owned();
    let found = who.call(GET_JOB, &GetJobRequest { job_id: id.clone() }).await.unwrap();
    let status = who.call(JOB_STATUS, &GetJobStatusRequest { job_id: id.clone() }).await.unwrap();
    let output = GetJobOutputRequest { job_id: id.clone(), ..Default::default() };
    let output = who.call(OUTPUT, &output).await.unwrap();
    let request = StreamEventsRequest { job_id: id, ..Default::default() };
    let mut events = who.open(STREAM_EVENTS, &request).await.unwrap();
    let events = events.next().await.err().map(|answer| answer.label).unwrap_or_default();
    [found.label, status.label, output.label, events]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_token_is_good_for_its_holder_and_its_lease_alone() {
    let (server, user, mut worker) = workshop().await;
    let id = enqueue(&user, job("true")).await;
    let token = worker.claim().await.task_token;
    let thief = Worker::open(client(&server, "w2", PrincipalType::Worker).await.0).await;
    assert_eq!(thief.extend(&token, 60).await.error_label, LEASE_LOST);
    assert_eq!(thief.complete(&token, exited(0)).await.error_label, LEASE_LOST);
    let event = started(1, 1, server.clock.now());
    let published = thief.publish(&token, vec![event.clone()]).await;
    assert_eq!((published.code, published.label.as_str()), (Code::FailedPrecondition, LEASE_LOST));
    let (rest, last) = token.split_at(token.len() - 1);
    let altered = format!("{rest}{}", if last == "A" { "B" } else { "A" });
    for bad in ["", "x", altered.as_str()] {
        let refused = worker.publish(bad, vec![event.clone()]).await;
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (Code::InvalidArgument, Some("task_token")),
            "{bad}"
        );
    }
    assert_eq!(status(&user, &id).await.state(), JobState::Running, "none of it did any harm");
    assert_eq!(worker.complete(&token, exited(0)).await.error_label, "");
    assert_eq!(worker.publish(&token, vec![event]).await.label, LEASE_LOST);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_back_hears_of_what_it_holds() {
    let (server, user, mut worker) = workshop().await;
    let id = enqueue(&user, job("sleep")).await;
    let token = worker.claim().await.task_token;
    let again = worker.client.clone();
    drop(worker);
    let request = DequeueJobsRequest { max_jobs: 1, task_tokens: vec![token.clone()], ..Default::default() };
    let mut worker = Worker::open_with(again, request).await;
    let _: CancelJobResponse = user.ask(CANCEL, &cancel(&id)).await;
    assert!(matches!(worker.next().await, Message::Cancel(told) if told.job_id == id));
    worker.complete(&token, exited(0)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_reaches_the_process_in_order_and_ends() {
    let (server, user, mut worker) = workshop().await;
    let id = enqueue(&user, JobSpec { stdin: true, ..job("cat") }).await;
    let deaf = enqueue(&user, JobSpec { queue: "nobody".to_owned(), ..job("cat") }).await;
    worker.claim().await;
    let write = |id: &str, data: &[u8], end| WriteJobInputRequest {
        job_id: id.to_owned(),
        data: data.to_vec(),
        end,
        ..Default::default()
    };
    for (data, end) in [(&b"one\n"[..], false), (&[0, 255, 10], false), (b"", true)] {
        let _: WriteJobInputResponse = user.ask(WRITE_INPUT, &write(&id, data, end)).await;
        match worker.next().await {
            Message::Input(input) => assert_eq!((&input.data[..], input.end, input.attempt), (data, end, 1)),
            other => panic!("no input: {other:?}"),
        }
    }
    assert_eq!(user.refusal(WRITE_INPUT, &write(&id, b"more", false)).await.1, "job-ended");
    let large = user.refusal(WRITE_INPUT, &write(&id, &vec![0; 64 * 1024 + 1], false)).await;
    assert_eq!(large, (Code::ResourceExhausted, "too-large".to_owned()));
    assert_eq!(user.refusal(WRITE_INPUT, &write(&deaf, b"x", false)).await.0, Code::InvalidArgument);
    server.stop().await;
}
