//! Two servers over one store: what happens on one reaches the other, and in time.

use std::{sync::Arc, time::Duration};

use airunner_core::{Clock as _, Label, PrincipalType};
use airunner_e2e::{MemoryKeyWrap, ShiftedClock, TestServer, TestServerOptions};
use airunner_proto::{
    ca::v1::{RevokeCertificatesRequest, RevokeCertificatesResponse},
    job::v1::{
        CancelJobRequest, CancelJobResponse, GetJobOutputRequest, GetJobOutputResponse, StartJobRequest,
        StartJobResponse, dequeue_jobs_response::Message,
    },
    principal::v1::{
        Role, SetPrincipalRolesRequest, SetPrincipalRolesResponse, SuspendPrincipalRequest,
        SuspendPrincipalResponse,
    },
};
use airunner_store::MemoryStore;
use tonic::Code;

use crate::{calls::*, worker::*};

/// How long a denial may take to reach another server.
const DENIED_WITHIN: Duration = Duration::from_millis(600);
/// How long a job, or what it prints, may take to reach another server.
const SEEN_WITHIN: Duration = Duration::from_millis(500);

/// Two servers of one environment, on one machine's clock.
async fn pair() -> (TestServer, TestServer) {
    let stores = MemoryStore::new(1 << 30).stores();
    let (wrap, clock) = (Arc::new(MemoryKeyWrap::new()), Arc::<ShiftedClock>::default());
    let options = || TestServerOptions {
        stores: Some(stores.clone()),
        wrap: wrap.clone(),
        clock: clock.clone(),
        ..Default::default()
    };
    (TestServer::start_with(options()).await, TestServer::start_with(options()).await)
}

/// Runs to the end of `act`, which must come within `limit`.
async fn within<T>(server: &TestServer, limit: Duration, act: impl Future<Output = T>) -> T {
    let began = server.clock.monotonic();
    let result = act.await;
    let took = server.clock.monotonic().since(began);
    assert!(took <= limit, "it took {took:?}");
    result
}

async fn suspend(server: &TestServer, id: &str) {
    let request = SuspendPrincipalRequest { principal_id: id.to_owned(), reason: String::new() };
    let _: SuspendPrincipalResponse = admin(server).await.ask(SUSPEND, &request).await;
}

async fn revoke(server: &TestServer, id: &str, wait: bool) -> RevokeCertificatesResponse {
    let request = RevokeCertificatesRequest { principal_id: id.to_owned(), wait, ..Default::default() };
    admin(server).await.ask(REVOKE, &request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_on_one_server_cuts_on_the_other() {
    let (here, there) = pair().await;
    let worker = here.principal("w1", PrincipalType::Worker).await;
    let mut line = Worker::open(there.connect(Some(&worker)).await.unwrap()).await;
    line.waiting().await;
    suspend(&here, "w1").await;
    let end = within(&here, DENIED_WITHIN, line.end()).await;
    assert_eq!((end.code, end.label.as_str()), (Code::Unauthenticated, "principal-suspended"));
    let refused = line.client.probe(WHO_AM_I).await.unwrap();
    assert_eq!(refused.label, "principal-suspended");
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_on_one_server_cuts_on_the_other_and_waits_for_it() {
    let (here, there) = pair().await;
    let worker = here.principal("w1", PrincipalType::Worker).await;
    let mut line = Worker::open(there.connect(Some(&worker)).await.unwrap()).await;
    line.waiting().await;
    let ended = tokio::spawn(async move { line.end().await });
    let revoked = revoke(&here, "w1", true).await;
    assert_eq!(revoked.serial_numbers.len(), 1);
    let mut addresses: Vec<_> = revoked.servers.iter().map(|server| server.address.clone()).collect();
    addresses.sort();
    let mut expected = vec![here.addresses.api.to_string(), there.addresses.api.to_string()];
    expected.sort();
    assert_eq!(addresses, expected);
    assert!(revoked.servers.iter().all(|server| server.applied && !server.fenced), "{:?}", revoked.servers);
    let end = ended.await.unwrap();
    assert_eq!((end.code, end.label.as_str()), (Code::Unauthenticated, "certificate-revoked"));

    // What was reported as applied is in force: the next handshake over there fails.
    let refused = match there.connect(Some(&worker)).await {
        Ok(client) => client.probe(WHO_AM_I).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.label(), Label::CertificateRevoked);
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_live_connections_elsewhere_in_time() {
    let (here, there) = pair().await;
    let worker = here.principal("w1", PrincipalType::Worker).await;
    let mut line = Worker::open(there.connect(Some(&worker)).await.unwrap()).await;
    line.waiting().await;
    revoke(&here, "w1", false).await;
    let end = within(&here, DENIED_WITHIN, line.end()).await;
    assert_eq!(end.label, "certificate-revoked");
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_roles_reach_live_connections_elsewhere() {
    let (here, there) = pair().await;
    let user = here.principal("u1", PrincipalType::User).await;
    let live = there.connect(Some(&user)).await.unwrap();
    assert_eq!(live.probe(LIST_PRINCIPALS).await.unwrap().code, Code::PermissionDenied);
    let request = SetPrincipalRolesRequest {
        principal_id: "u1".to_owned(),
        version: 0,
        roles: vec![Role::Admin as i32],
    };
    let _: SetPrincipalRolesResponse = admin(&here).await.ask(SET_ROLES, &request).await;
    let promoted = eventually("the promotion over there", async || {
        live.probe(LIST_PRINCIPALS).await.unwrap().code == Code::Ok
    });
    within(&here, DENIED_WITHIN, promoted).await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_died_is_reported_as_fenced_and_one_that_left_is_not_reported() {
    let (here, there) = pair().await;
    here.principal("w1", PrincipalType::Worker).await;
    let gone = there.addresses.api.to_string();
    there.crash();
    here.app.fleet.beat().await.unwrap();
    here.advance(Duration::from_secs(6)).await;
    let revoked = revoke(&here, "w1", true).await;
    let dead = revoked.servers.iter().find(|server| server.address == gone).unwrap();
    assert!(dead.fenced && !dead.applied, "{dead:?}");
    let own = revoked.servers.iter().find(|server| server.address != gone).unwrap();
    assert!(own.applied && !own.fenced, "{own:?}");
    let (others, this) = (here.stores.clone(), here.app.fleet.id());
    assert_eq!(others.servers.servers().await.unwrap().servers.len(), 2);
    here.stop().await;
    let left = others.servers.servers().await.unwrap().servers;
    assert!(left.iter().all(|row| row.id != this), "a server that stops in order takes its row away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_workers_job_goes_to_another_at_once() {
    let (here, there) = pair().await;
    let mut first = Worker::open(client(&here, "w1", PrincipalType::Worker).await.0).await;
    first.waiting().await;
    let (user, _) = client(&here, "u1", PrincipalType::User).await;
    let id = enqueue(&user, job("sleep")).await;
    let lost = first.claim().await;
    let second = here.principal("w2", PrincipalType::Worker).await;
    let mut second = Worker::open(there.connect(Some(&second)).await.unwrap()).await;
    second.waiting().await;

    suspend(&here, "w1").await;
    let claim = within(&here, DENIED_WITHIN, second.claim()).await;
    let handed_on = claim.job.unwrap();
    assert_eq!((handed_on.job_id, handed_on.attempt), (id, 2));
    assert_eq!(handed_on.holder, "w2");
    let published = second.publish(&lost.task_token, Vec::new()).await;
    assert_eq!(published.label, "lease-lost", "the old lease is good for nothing");
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_their_output_and_their_end_cross_over() {
    let (here, there) = pair().await;
    let worker = here.principal("w1", PrincipalType::Worker).await;
    let mut worker = Worker::open(there.connect(Some(&worker)).await.unwrap()).await;
    worker.waiting().await;
    let (user, _) = client(&here, "u1", PrincipalType::User).await;

    let id = enqueue(&user, job("printer")).await;
    let claim = within(&here, SEEN_WITHIN, worker.claim()).await;
    assert_eq!(claim.job.unwrap().job_id, id);

    let request = GetJobOutputRequest { job_id: id.clone(), follow: true, ..Default::default() };
    let mut watcher = user.open(OUTPUT, &request).await.unwrap();
    for n in 1..=3 {
        let bytes = format!("line {n}\n").into_bytes();
        let event = printed(1, n, here.clock.now(), &bytes);
        assert_eq!(worker.publish(&claim.task_token, vec![event]).await.code, Code::Ok);
        let seen: GetJobOutputResponse = within(&here, SEEN_WITHIN, watcher.message()).await;
        assert_eq!(seen.data, bytes);
    }

    let request = CancelJobRequest { job_id: id, ..Default::default() };
    let _: CancelJobResponse = user.ask(CANCEL, &request).await;
    match within(&here, Duration::from_secs(1), worker.next()).await {
        Message::Cancel(cancel) => assert_eq!(cancel.signal, 15),
        other => panic!("no cancel: {other:?}"),
    }
    worker.complete(&claim.task_token, exited(0)).await;
    let end = within(&here, SEEN_WITHIN, watcher.end()).await;
    assert_eq!(end.code, Code::Ok, "the stream ends when the job does");
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_over_there_is_one() {
    let (here, there) = pair().await;
    let (user, _) = client(&here, "u1", PrincipalType::User).await;
    let start = StartJobRequest { job: Some(job("true")), ..Default::default() };
    assert_eq!(user.call(START, &start).await.unwrap().label, "no-worker");
    let worker = here.principal("w1", PrincipalType::Worker).await;
    let mut worker = Worker::open(there.connect(Some(&worker)).await.unwrap()).await;
    worker.waiting().await;
    there.app.fleet.beat().await.unwrap();
    let running = async {
        let claim = worker.claim().await;
        worker.publish(&claim.task_token, vec![started(1, 1, here.clock.now())]).await
    };
    let (response, _) = tokio::join!(user.ask::<StartJobResponse>(START, &start), running);
    assert_eq!(response.process_id, 4_711);
    here.stop().await;
    there.stop().await;
}
