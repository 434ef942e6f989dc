//! `/jobs/…`: a job from start to output with nothing but JSON.

use airunner_core::{Clock as _, PrincipalType};
use airunner_e2e::{RawClient, TestServer};
use airunner_proto::job::v1::{OutputStream, job_event::Kind};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{calls::*, worker::*};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn sent(client: &RawClient, verb: &str, path: &str, body: &str) -> (u16, Value) {
    let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
    let answer = client.http(verb, path, headers, body.as_bytes()).await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

fn label(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["label"].as_str().unwrap_or_default())
}

/// A server, a user, and a worker that waits.
async fn place() -> (TestServer, RawClient, Worker) {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    worker.waiting().await;
    (server, user, worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_started_followed_and_read() {
    let (server, user, mut worker) = place().await;
    let now = server.clock.now();
    let body = r#"{"cmd": "echo", "args": ["Hello World"]}"#;
    let running = async {
        let claim = worker.claim().await;
        let job = claim.job.clone().unwrap();
        assert_eq!((job.command.as_str(), job.args), ("echo", vec!["Hello World".to_owned()]));
        worker.publish(&claim.task_token, vec![started(1, 1, now)]).await;
        claim
    };
    let ((code, answer), claim) = tokio::join!(sent(&user, "POST", "/jobs/start", body), running);
    let job_id = claim.job.unwrap().job_id;
    assert_eq!((code, answer), (201, json!({ "job_id": job_id })));
    let status = |status, process_id: Value, exit_code: Value| {
        let id = job_id.clone();
        (200, json!({"job_id": id, "status": status, "process_id": process_id, "exit_code": exit_code}))
    };
    let path = format!("/jobs/status/{job_id}");
    let process_id = sent(&user, "GET", &path, "").await.1["process_id"].clone();
    assert!(process_id.is_u64());
    assert_eq!(sent(&user, "GET", &path, "").await, status("running", process_id.clone(), Value::Null));

    let follow = format!("/jobs/output/{job_id}?follow=true");
    let following = tokio::spawn({
        let user = user.clone();
        async move { user.http("GET", &follow, &[], b"").await.unwrap() }
    });
    let mut complaint = printed(1, 3, now, b"\xff\x00no text\n");
    if let Some(Kind::Output(output)) = &mut complaint.kind {
        output.stream = OutputStream::Stderr as i32;
    }
    let all = vec![printed(1, 2, now, b"Hello "), complaint, printed(1, 4, now, b"World\n")];
    worker.publish(&claim.task_token, all).await;
    worker.complete(&claim.task_token, exited(3)).await;

    let followed = following.await.unwrap();
    assert_eq!(followed.headers()["content-type"], "application/octet-stream");
    assert_eq!(&followed.body()[..], b"Hello \xff\x00no text\nWorld\n");
    for (query, bytes) in
        [("?stream=stdout", &b"Hello World\n"[..]), ("?stream=stderr", b"\xff\x00no text\n")]
    {
        let read = user.http("GET", &format!("/jobs/output/{job_id}{query}"), &[], b"").await.unwrap();
        assert_eq!(&read.body()[..], bytes, "{query}");
    }
    let document = [("accept", "application/json")];
    let read = user.http("GET", &format!("/jobs/output/{job_id}"), &document, b"").await.unwrap();
    let read: Value = serde_json::from_slice(read.body()).unwrap();
    assert_eq!(
        read,
        json!({"stdout": BASE64.encode(b"Hello World\n"), "stderr": BASE64.encode(b"\xff\x00no text\n")})
    );
    let ended = sent(&user, "GET", &path, "").await;
    assert_eq!((&ended.1["status"], &ended.1["exit_code"]), (&json!("completed"), &json!(3)), "{ended:?}");

    let stopped = sent(&user, "POST", &format!("/jobs/stop/{job_id}"), "").await;
    assert_eq!(label(&stopped), (409, "job-ended"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_is_stopped() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let job_id = enqueue(&user, job("sleep")).await;
    let stopped = sent(&user, "POST", &format!("/jobs/stop/{job_id}"), "").await;
    assert_eq!(stopped, (200, json!({ "job_id": job_id, "status": "cancelled" })));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_done_is_said_with_its_status() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let (worker, _) = client(&server, "w1", PrincipalType::Worker).await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    for (verb, path, body, expected) in [
        ("POST", "/jobs/start", r#"{"cmd": "true"}"#, (503, "no-worker")),
        ("POST", "/jobs/start", "{}", (400, "invalid-argument")),
        ("POST", "/jobs/start", r#"{"cmd": "x", "shell": true}"#, (400, "invalid-argument")),
        ("POST", "/jobs/start", r#"{"cmd": ""}"#, (400, "invalid-argument")),
        ("POST", "/jobs/start", r#"["true", ["x"]]"#, (400, "invalid-argument")),
        ("POST", "/jobs/start", "[]", (400, "invalid-argument")),
        ("POST", "/jobs/start", "null", (400, "invalid-argument")),
        ("GET", "/jobs/start", "", (405, "method-not-allowed")),
        ("POST", "/jobs/stop/", "", (400, "invalid-argument")),
        ("GET", "/jobs/status/", "", (400, "invalid-argument")),
        ("GET", "/jobs/output/", "", (400, "invalid-argument")),
        ("GET", "/jobs/status/%ff", "", (400, "invalid-argument")),
        ("GET", "/jobs/status/nonsense", "", (400, "invalid-argument")),
        ("GET", &format!("/jobs/status/{nobody}"), "", (404, "not-found")),
        ("GET", &format!("/jobs/output/{nobody}"), "", (404, "not-found")),
        ("GET", &format!("/jobs/output/{nobody}?stream=stdin"), "", (400, "invalid-argument")),
        ("GET", &format!("/jobs/output/{nobody}?tail=5"), "", (400, "invalid-argument")),
        ("POST", &format!("/jobs/stop/{nobody}"), "", (404, "not-found")),
        ("DELETE", &format!("/jobs/output/{nobody}"), "", (405, "method-not-allowed")),
        ("GET", "/jobs/", "", (404, "unknown-method")),
        ("GET", "/jobs/status/a/b", "", (400, "invalid-argument")),
    ] {
        let answer = sent(&user, verb, path, body).await;
        assert_eq!(label(&answer), expected, "{verb} {path} {body}: {answer:?}");
    }
    let denied = sent(&worker, "POST", "/jobs/start", r#"{"cmd": "true"}"#).await;
    assert_eq!(label(&denied), (403, "permission-denied"));
    assert_eq!(denied.1["error"]["field"], "jobs:submit");
    let anyone = server.connect_public().await;
    for (verb, path) in [("POST", "/jobs/start"), ("GET", "/jobs/start"), ("GET", "/jobs/status/")] {
        assert_eq!(sent(&anyone, verb, path, "").await.0, 404, "{verb} {path}");
    }
    server.stop().await;
}
