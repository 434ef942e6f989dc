//! A certificate's life: enrolment by token, renewal, forks, the end of the overlap, slots.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use airunner_app::OnFork;
use airunner_core::{Label, PrincipalType, Role};
use airunner_e2e::{Answer, Credentials, Gates, Point, RawClient, TestServer, TestServerOptions};
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::{
    audit::v1::{TailAuditRequest, TailAuditResponse},
    ca::v1::{
        CreateEnrollmentTokenRequest, CreateEnrollmentTokenResponse, DeleteEnrollmentTokenRequest,
        DeleteEnrollmentTokenResponse, EnrollRequest, EnrollResponse, IssueCertificateRequest,
        IssueCertificateResponse, ListCertificatesRequest, ListCertificatesResponse, RenewCertificateRequest,
        RenewCertificateResponse, RevokeCertificatesRequest, RevokeCertificatesResponse,
    },
    job::v1::DequeueJobsRequest,
    principal::v1::{
        self as pb, ActivatePrincipalRequest, ActivatePrincipalResponse, CreatePrincipalResponse,
        SetPrincipalRolesRequest, SetPrincipalRolesResponse, SuspendPrincipalRequest,
        SuspendPrincipalResponse, WhoAmIRequest, WhoAmIResponse,
    },
};
use prost::Message as _;
use tonic::Code;

use crate::calls::*;

async fn token(creator: &RawClient, id: &str) -> CreateEnrollmentTokenResponse {
    let request = CreateEnrollmentTokenRequest { principal_id: id.to_owned(), ..Default::default() };
    creator.ask(CREATE_TOKEN, &request).await
}

async fn enroll(server: &TestServer, token: &str, csr: Vec<u8>) -> Answer {
    let anyone = server.connect_public().await;
    anyone.call(ENROLL, &EnrollRequest { token: token.to_owned(), csr }).await.unwrap()
}

/// Why a token does not count, for a new key.
async fn fault(server: &TestServer, token: &str) -> String {
    let answer = enroll(server, token, key_and_csr().1).await;
    assert_eq!(answer.code, Code::Unauthenticated, "{answer:?}");
    answer.label
}

async fn active_certificates(admin: &RawClient, id: &str) -> usize {
    let request = ListCertificatesRequest { principal_id: id.to_owned(), active: true, ..Default::default() };
    let listed: ListCertificatesResponse = admin.ask(LIST_CERTIFICATES, &request).await;
    listed.certificates.len()
}

async fn suspend(admin: &RawClient, id: &str) {
    let request = SuspendPrincipalRequest { principal_id: id.to_owned(), reason: String::new() };
    let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &request).await;
}

async fn set_roles(admin: &RawClient, id: &str, roles: &[pb::Role]) {
    let roles = roles.iter().map(|role| *role as i32).collect();
    let request = SetPrincipalRolesRequest { principal_id: id.to_owned(), version: 0, roles };
    let _: SetPrincipalRolesResponse = admin.ask(SET_ROLES, &request).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_32_that_race_with_one_token_exactly_one_enrols() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let _: CreatePrincipalResponse =
        admin.ask(CREATE_PRINCIPAL, &new_principal("w1", pb::PrincipalType::Worker)).await;
    let token = token(&admin, "w1").await.token;

    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(32));
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (client, token, barrier) = (server.connect_public().await, token.clone(), barrier.clone());
        racers.spawn(async move {
            let (key, csr) = key_and_csr();
            barrier.wait().await;
            (key, client.call(ENROLL, &EnrollRequest { token, csr }).await.unwrap())
        });
    }
    let mut winners = Vec::new();
    for (key, answer) in racers.join_all().await {
        if answer.code == Code::Ok {
            winners.push((key, answer.decode::<EnrollResponse>()));
        } else {
            assert_eq!((answer.code, answer.label.as_str()), (Code::Unauthenticated, "token-used"));
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(active_certificates(&admin, "w1").await, 1);
    let (key, won) = winners.remove(0);
    assert_eq!(won.roots_pem, server.roots_pem());
    assert_eq!(won.api_address, server.addresses.api.to_string());
    let credentials = server.credentials("w1", &won.certificate.unwrap().pem, &won.chain_pem, key);
    let worker = server.connect(Some(&credentials)).await.unwrap();
    let me: WhoAmIResponse = worker.ask(WHO_AM_I, &WhoAmIRequest {}).await;
    assert_eq!(me.principal.unwrap().principal_id, "w1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_costs_neither_token_nor_slot() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    server.principal_with("w1", PrincipalType::Worker, |worker| worker.max_certificates = 2).await;
    let token = token(&admin, "w1").await.token;
    let (_, csr) = key_and_csr();

    let first: EnrollResponse = enroll(&server, &token, csr.clone()).await.decode();
    let again: EnrollResponse = enroll(&server, &token, csr.clone()).await.decode();
    assert_eq!(first.certificate, again.certificate);
    assert_eq!(active_certificates(&admin, "w1").await, 2, "the one of its making, and one of the token");
    assert_eq!(fault(&server, &token).await, "token-used");

    // Past the token's time the same key still has its certificate, until that ends.
    server.turn_ahead(Duration::from_hours(2)).await;
    let late: EnrollResponse = enroll(&server, &token, csr.clone()).await.decode();
    assert_eq!(first.certificate, late.certificate);
    let serial_number = first.certificate.unwrap().serial_number;
    let request = RevokeCertificatesRequest { serial_number, ..Default::default() };
    let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;
    assert_eq!(enroll(&server, &token, csr).await.label, "token-used");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enroller_is_told_what_it_may_and_nothing_of_what_lies_outside_its_scope() {
    let server = TestServer::start().await;
    server.principal("x-there", PrincipalType::Worker).await;
    let enroller = server
        .principal_with("enroller", PrincipalType::User, |enroller| {
            enroller.roles = [Role::Enroller].into();
            let types = [PrincipalType::Worker].into();
            enroller.enrol_scope = Some(airunner_core::EnrolScope { id_prefix: "m-".to_owned(), types });
        })
        .await;
    let enroller = server.connect(Some(&enroller)).await.unwrap();
    let ask = async |id: &str| {
        let request = CreateEnrollmentTokenRequest { principal_id: id.to_owned(), ..Default::default() };
        enroller.call(CREATE_TOKEN, &request).await.unwrap()
    };

    let unknown = ask("m-1").await;
    assert_eq!((unknown.code, unknown.label.as_str()), (Code::NotFound, "not-found"));
    assert!(unknown.message.contains("create it first"), "{}", unknown.message);
    let wanted = new_principal("m-1", pb::PrincipalType::Worker);
    let named = pb::CreatePrincipalRequest { email: "root@example.com".to_owned(), ..wanted.clone() };
    let refused = enroller.call(CREATE_PRINCIPAL, &named).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::PermissionDenied, "escalation"));
    assert!(refused.message.contains("by an admin: leave it out"), "{}", refused.message);
    let _: CreatePrincipalResponse = enroller.ask(CREATE_PRINCIPAL, &wanted).await;
    token(&enroller, "m-1").await;

    // Who is there and who is not can't be told apart.
    let [there, not_there] = [ask("x-there").await, ask("x-where").await];
    assert_eq!((there.code, there.label.as_str()), (Code::PermissionDenied, "escalation"));
    assert_eq!(there.message.replace("x-there", "x-where"), not_there.message);
    assert!(there.message.contains("ids that start with \"m-\", of type worker"), "{}", there.message);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_only_while_everything_is_as_it_was() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    for id in ["m-1", "m-2", "m-3", "m-4"] {
        server.principal(id, PrincipalType::Worker).await;
    }
    let enroller = server
        .principal_with("enroller", PrincipalType::User, |enroller| {
            enroller.roles = [Role::Enroller].into();
            let types = [PrincipalType::Worker].into();
            enroller.enrol_scope = Some(airunner_core::EnrolScope { id_prefix: "m-".to_owned(), types });
        })
        .await;
    let enroller = server.connect(Some(&enroller)).await.unwrap();

    assert_eq!(fault(&server, "aet1_nonsense").await, "token-invalid");

    let deleted = token(&admin, "m-1").await;
    let enrollment_id = deleted.enrollment.unwrap().enrollment_id;
    let _: DeleteEnrollmentTokenResponse =
        admin.ask(DELETE_TOKEN, &DeleteEnrollmentTokenRequest { enrollment_id }).await;
    assert_eq!(fault(&server, &deleted.token).await, "token-invalid");

    // The creator is suspended, comes back, and loses its role.
    let of_enroller = token(&enroller, "m-2").await.token;
    suspend(&admin, "enroller").await;
    assert_eq!(fault(&server, &of_enroller).await, "token-void");
    let request = ActivatePrincipalRequest { principal_id: "enroller".to_owned() };
    let _: ActivatePrincipalResponse = admin.ask(ACTIVATE, &request).await;
    set_roles(&admin, "enroller", &[pb::Role::Viewer]).await;
    assert_eq!(fault(&server, &of_enroller).await, "token-void");
    set_roles(&admin, "enroller", &[pb::Role::Enroller]).await;
    assert_eq!(enroll(&server, &of_enroller, key_and_csr().1).await.code, Code::Ok, "it may again");

    // The principal has other roles than when the token was made.
    let of_worker = token(&admin, "m-3").await.token;
    set_roles(&admin, "m-3", &[pb::Role::Worker, pb::Role::User]).await;
    assert_eq!(fault(&server, &of_worker).await, "token-void");

    // The principal is suspended: the token is good, and nothing is issued.
    let of_suspended = token(&admin, "m-4").await.token;
    suspend(&admin, "m-4").await;
    let answer = enroll(&server, &of_suspended, key_and_csr().1).await;
    assert_eq!((answer.code, answer.label.as_str()), (Code::FailedPrecondition, "principal-not-active"));

    let request = CreateEnrollmentTokenRequest {
        principal_id: "m-1".to_owned(),
        ttl: seconds(60),
        ..Default::default()
    };
    let short: CreateEnrollmentTokenResponse = admin.ask(CREATE_TOKEN, &request).await;
    server.turn_ahead(Duration::from_mins(1)).await;
    assert_eq!(fault(&server, &short.token).await, "token-expired");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_id_makes_a_new_token_and_voids_the_old() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    server.principal("w1", PrincipalType::Worker).await;
    let request = CreateEnrollmentTokenRequest {
        principal_id: "w1".to_owned(),
        request_id: "again".to_owned(),
        ..Default::default()
    };
    let old: CreateEnrollmentTokenResponse = admin.ask(CREATE_TOKEN, &request).await;
    let new: CreateEnrollmentTokenResponse = admin.ask(CREATE_TOKEN, &request).await;
    assert_ne!(old.token, new.token);
    assert_eq!(fault(&server, &old.token).await, "token-invalid");
    assert_eq!(enroll(&server, &new.token, key_and_csr().1).await.code, Code::Ok);
    server.stop().await;
}

async fn renew(client: &RawClient, key: &PrivateKey) -> Answer {
    let request = RenewCertificateRequest { csr: create_csr(key).unwrap() };
    client.call(RENEW, &request).await.unwrap()
}

fn successor(server: &TestServer, renewed: &RenewCertificateResponse, key: PrivateKey) -> Credentials {
    let certificate = renewed.certificate.as_ref().unwrap();
    server.credentials(&certificate.principal_id, &certificate.pem, &renewed.chain_pem, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_is_repeated_by_key_and_an_unseen_successor_gives_way() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let (worker, _) = client(&server, "w1", PrincipalType::Worker).await;
    let ((lost, _), (kept, _)) = (key_and_csr(), key_and_csr());

    let first: RenewCertificateResponse = renew(&worker, &lost).await.decode();
    let again: RenewCertificateResponse = renew(&worker, &lost).await.decode();
    assert_eq!(first.certificate, again.certificate);
    assert_eq!(first.predecessor_retire_at, again.predecessor_retire_at);
    let second: RenewCertificateResponse = renew(&worker, &kept).await.decode();
    assert_ne!(first.certificate, second.certificate);
    assert_eq!(first.predecessor_retire_at, second.predecessor_retire_at, "the overlap is not prolonged");
    assert_eq!(active_certificates(&admin, "w1").await, 2, "predecessor and successor");

    let lost = successor(&server, &first, lost);
    let refused = match server.connect(Some(&lost)).await {
        Ok(client) => client.probe(WHO_AM_I).await.map(|answer| answer.label),
        Err(error) => Err(error),
    };
    let refused = refused.unwrap_or_else(|error| error.label().as_str().to_owned());
    assert_eq!(refused, "certificate-revoked", "what was replaced unseen is good for nothing");
    let kept = successor(&server, &second, kept);
    assert_eq!(server.connect(Some(&kept)).await.unwrap().probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    server.stop().await;
}

async fn fork(server: &TestServer) -> (RawClient, RawClient, Answer) {
    let (worker, _) = client(server, "w1", PrincipalType::Worker).await;
    let (key, _) = key_and_csr();
    let renewed: RenewCertificateResponse = renew(&worker, &key).await.decode();
    let seen = server.connect(Some(&successor(server, &renewed, key))).await.unwrap();
    assert_eq!(seen.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let forked = renew(&worker, &key_and_csr().0).await;
    (worker, seen, forked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_key_after_the_successor_was_seen_is_a_fork() {
    let server = TestServer::start().await;
    let (_, seen, forked) = fork(&server).await;
    assert_eq!((forked.code, forked.label.as_str()), (Code::FailedPrecondition, "lineage-forked"));
    assert_eq!(server.app.counters().forked.load(SeqCst), 1);
    assert_eq!(seen.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "by default it is told and not acted on");

    let admin = admin(&server).await;
    let answer = admin.call(TAIL_AUDIT, &TailAuditRequest { count: 100, follow: false }).await.unwrap();
    let entries = answer.messages.iter().map(|entry| TailAuditResponse::decode(entry.clone()).unwrap());
    let refused: Vec<_> =
        entries.filter_map(|entry| entry.entry).filter(|entry| entry.refused == "lineage-forked").collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].action.as_str(), refused[0].principal.as_str()), ("certificate.renew", "w1"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_suspends_where_that_is_asked_for() {
    let options = TestServerOptions { on_fork: OnFork::Suspend, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let (worker, seen, forked) = fork(&server).await;
    assert_eq!(forked.label, "lineage-forked");
    for client in [worker, seen] {
        let refused = client.probe(WHO_AM_I).await.unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "principal-suspended"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overlap_ends_on_live_connections_on_streams_and_on_new_ones() {
    let overlap = Duration::from_secs(1);
    let server = TestServer::start_with(TestServerOptions { overlap, ..Default::default() }).await;
    let (worker, predecessor) = client(&server, "w1", PrincipalType::Worker).await;
    let request = DequeueJobsRequest { max_jobs: 1, ..Default::default() };
    let mut line = worker.open(DEQUEUE, &request).await.unwrap();
    line.next().await.unwrap();
    let (key, _) = key_and_csr();
    let renewed: RenewCertificateResponse = renew(&worker, &key).await.decode();
    let both = server.connect(Some(&predecessor)).await.unwrap();
    assert_eq!(both.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "it goes on until the overlap ends");

    server.clock.advance(overlap);
    let refused = worker.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "certificate-retired"));
    let end = line.end().await;
    assert_eq!((end.code, end.label.as_str()), (Code::Unauthenticated, "certificate-retired"));
    let new = server.connect(Some(&predecessor)).await.unwrap();
    let refused = new.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "certificate-retired"));
    let successor = server.connect(Some(&successor(&server, &renewed, key))).await.unwrap();
    assert_eq!(successor.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_reaches_live_connections_and_the_next_handshake() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    server.principal("u1", PrincipalType::User).await;
    let (key, csr) = key_and_csr();
    let request = IssueCertificateRequest {
        principal_id: "u1".to_owned(),
        csr,
        validity: seconds(300),
        ..Default::default()
    };
    let issued: IssueCertificateResponse = admin.ask(ISSUE, &request).await;
    let user = server.credentials("u1", &issued.certificate.unwrap().pem, &issued.chain_pem, key);
    let live = server.connect(Some(&user)).await.unwrap();
    assert_eq!(live.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    // The second of notAfter itself still counts in a handshake (RFC 5280 section 4.1.2.5).
    server.turn_ahead(Duration::from_secs(301)).await;
    let refused = live.probe(WHO_AM_I).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "certificate-expired"));
    live.closed().await;
    let refused = match server.connect(Some(&user)).await {
        Ok(client) => client.probe(WHO_AM_I).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.label(), Label::CertificateExpired);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_of_lineages_and_every_way_to_a_certificate_keeps_to_them() {
    let overlap = Duration::from_mins(1);
    let server = TestServer::start_with(TestServerOptions { overlap, ..Default::default() }).await;
    let admin = admin(&server).await;
    let holder =
        server.principal_with("w1", PrincipalType::Worker, |worker| worker.max_certificates = 1).await;
    let issue = async || {
        let request = IssueCertificateRequest {
            principal_id: "w1".to_owned(),
            csr: key_and_csr().1,
            ..Default::default()
        };
        admin.call(ISSUE, &request).await.unwrap().label
    };
    let full = "too-many-certificates";
    assert_eq!(issue().await, full);
    let enrolment = token(&admin, "w1").await.token;
    assert_eq!(enroll(&server, &enrolment, key_and_csr().1).await.label, full);

    // A renewal keeps the slot of its lineage, before and after the overlap.
    let worker = server.connect(Some(&holder)).await.unwrap();
    let (key, _) = key_and_csr();
    let renewed: RenewCertificateResponse = renew(&worker, &key).await.decode();
    assert_eq!(issue().await, full);
    server.turn_ahead(overlap).await;
    assert_eq!(issue().await, full);

    // The end of the lineage gives the slot back; the refused token was not used up.
    let serial_number = renewed.certificate.unwrap().serial_number;
    let request = RevokeCertificatesRequest { serial_number, ..Default::default() };
    let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;
    assert_eq!(enroll(&server, &enrolment, key_and_csr().1).await.code, Code::Ok);
    assert_eq!(issue().await, full);
    server.stop().await;
}

/// Stops an issuance right before its transaction, suspends the principal, and lets it go on.
async fn issued_after_a_suspension(ask: impl AsyncFn(&TestServer, RawClient) -> Answer, id: &str) -> Answer {
    let gates = Gates::default();
    let server =
        TestServer::start_with(TestServerOptions { gates: gates.clone(), ..Default::default() }).await;
    let admin = admin(&server).await;
    let (worker, _) = client(&server, id, PrincipalType::Worker).await;
    let before = active_certificates(&admin, id).await;
    let gate = gates.close(Point::RecordAsked);
    let suspension = async {
        gate.reached().await;
        suspend(&admin, id).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(ask(&server, worker), suspension);
    assert_eq!(active_certificates(&admin, id).await, before, "nothing was created after the suspension");
    server.stop().await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_issued_after_the_commit_of_a_suspension() {
    let issue = async |server: &TestServer, _| {
        let request = IssueCertificateRequest {
            principal_id: "w1".to_owned(),
            csr: key_and_csr().1,
            ..Default::default()
        };
        admin(server).await.call(ISSUE, &request).await.unwrap()
    };
    let enrol = async |server: &TestServer, _| {
        let token = token(&admin(server).await, "w1").await.token;
        enroll(server, &token, key_and_csr().1).await
    };
    let renewal = async |_: &TestServer, worker: RawClient| renew(&worker, &key_and_csr().0).await;
    for answer in [
        issued_after_a_suspension(issue, "w1").await,
        issued_after_a_suspension(enrol, "w1").await,
        issued_after_a_suspension(renewal, "w1").await,
    ] {
        assert_eq!((answer.code, answer.label.as_str()), (Code::FailedPrecondition, "principal-not-active"));
    }
}
