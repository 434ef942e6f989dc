//! Certificates of jobs: who gets one, what it may do, and how it ends.

use std::time::Duration;

use airunner_core::{Clock as _, Label, PrincipalType};
use airunner_e2e::{Credentials, RawClient, TestServer};
use airunner_pki::{OidArc, parse_certificate};
use airunner_proto::{
    audit::v1::TailAuditRequest,
    ca::v1::{
        ListCertificatesRequest, ListCertificatesResponse, RenewCertificateRequest, RevocationReason,
        RevokeCertificatesRequest, RevokeCertificatesResponse,
    },
    job::v1::{
        Claim, EnqueueJobsRequest, HandedBackOutcome, IssueJobCertificateRequest,
        IssueJobCertificateResponse, JobCertificate, JobSpec, ListJobsRequest, ListJobsResponse,
        completion::Outcome,
    },
    principal::v1::{
        SetPrincipalRolesRequest, SetPrincipalRolesResponse, SuspendPrincipalRequest,
        SuspendPrincipalResponse, WhoAmIRequest, WhoAmIResponse,
    },
};
use tonic::Code;

use crate::{calls::*, worker::*};

/// A server, a job of alice's that a worker holds, and both.
struct Stage {
    server: TestServer,
    alice: RawClient,
    worker: Worker,
    claim: Claim,
}

impl Stage {
    async fn new(grants: &[&str]) -> Self {
        let server = TestServer::start().await;
        let (alice, _) = client(&server, "alice", PrincipalType::User).await;
        let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
        enqueue(&alice, asking(grants)).await;
        let claim = worker.claim().await;
        Self { server, alice, worker, claim }
    }

    fn job_id(&self) -> &str {
        &self.claim.job.as_ref().unwrap().job_id
    }

    /// What the job is given.
    async fn certificate(&self) -> (IssueJobCertificateResponse, Credentials) {
        let (key, csr) = key_and_csr();
        let issued: IssueJobCertificateResponse =
            self.worker.client.ask(ISSUE_JOB_CERTIFICATE, &request(&self.claim, csr)).await;
        let leaf = &issued.certificate.as_ref().unwrap().pem;
        let credentials = self.server.credentials("alice", leaf, &issued.chain_pem, key);
        (issued, credentials)
    }

    async fn ends(self) {
        self.server.stop().await;
    }
}

fn asking(grants: &[&str]) -> JobSpec {
    let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
    JobSpec { certificate: Some(JobCertificate { grants }), ..job("true") }
}

fn request(claim: &Claim, csr: Vec<u8>) -> IssueJobCertificateRequest {
    IssueJobCertificateRequest { task_token: claim.task_token.clone(), csr, ..Default::default() }
}

async fn who(client: &RawClient) -> WhoAmIResponse {
    client.ask(WHO_AM_I, &WhoAmIRequest {}).await
}

async fn refusal(client: &RawClient) -> (Code, String) {
    let answer = client.probe(WHO_AM_I).await.unwrap();
    (answer.code, answer.label)
}

fn revoked() -> (Code, String) {
    (Code::Unauthenticated, "certificate-revoked".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_shows_that_it_is_this_job_of_this_owner() {
    let stage = Stage::new(&["jobs:list"]).await;
    let (issued, credentials) = stage.certificate().await;
    let leaf = parse_certificate(&credentials.chain[0], &OidArc::default()).unwrap();
    let uri = format!("spiffe://test.airunner/job/{}", stage.job_id());
    assert_eq!(leaf.uris, std::slice::from_ref(&uri));
    assert_eq!(leaf.subject_dn, format!("CN={}", stage.job_id()));
    assert_eq!(leaf.principal, Some((PrincipalType::User, "alice".parse().unwrap())));
    let life = leaf.not_after.since(stage.server.clock.now());
    assert!(life <= Duration::from_hours(1) && life > Duration::from_mins(59), "{life:?}");

    let record = issued.certificate.unwrap();
    assert_eq!((record.profile.as_str(), record.job_id.as_str()), ("job", stage.job_id()));
    let me = who(&stage.server.connect(Some(&credentials)).await.unwrap()).await;
    assert_eq!((me.principal.unwrap().principal_id.as_str(), me.job_id.as_str()), ("alice", stage.job_id()));
    assert_eq!(me.spiffe_id, uri);
    assert_eq!(me.permissions, ["jobs:list", "self", "anonymous"]);
    stage.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_may_do_what_it_was_granted_and_its_owner_may_now() {
    let stage = Stage::new(&["jobs:list", "jobs:submit"]).await;
    let (_, credentials) = stage.certificate().await;
    let connection = stage.server.connect(Some(&credentials)).await.unwrap();
    let mine: ListJobsResponse = connection.ask(LIST_JOBS, &ListJobsRequest::default()).await;
    assert_eq!(mine.jobs.len(), 1);
    let child = enqueue(&connection, asking(&["jobs:list"])).await;
    let mine: ListJobsResponse = stage.alice.ask(LIST_JOBS, &ListJobsRequest::default()).await;
    assert!(mine.jobs.iter().any(|job| job.job_id == child && job.owner == "alice"));

    let refused = connection.probe(CANCEL).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::PermissionDenied, "permission-denied"));
    assert!(refused.message.contains(stage.job_id()), "{}", refused.message);
    let wants_more = EnqueueJobsRequest { jobs: vec![asking(&["jobs:cancel"])], ..Default::default() };
    let refused = connection.call(ENQUEUE, &wants_more).await.unwrap();
    assert_eq!(refused.label, "escalation", "a job grants no more than it was granted");

    // Her role is another now, on the job's live connection too.
    let admin = admin(&stage.server).await;
    let viewer = airunner_proto::principal::v1::Role::Viewer as i32;
    let request = SetPrincipalRolesRequest {
        principal_id: "alice".to_owned(),
        roles: vec![viewer],
        ..Default::default()
    };
    let _: SetPrincipalRolesResponse = admin.ask(SET_ROLES, &request).await;
    assert_eq!(who(&connection).await.permissions, ["jobs:list", "self", "anonymous"]);
    stage.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_job_ends_its_connections_and_the_next_handshake() {
    let mut stage = Stage::new(&[]).await;
    let (_, credentials) = stage.certificate().await;
    let connection = stage.server.connect(Some(&credentials)).await.unwrap();
    assert_eq!(who(&connection).await.job_id, stage.job_id());
    stage.worker.complete(&stage.claim.task_token, exited(0)).await;
    assert_eq!(refusal(&connection).await, revoked());
    let refused = match stage.server.connect(Some(&credentials)).await {
        Ok(new) => new.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.label(), Label::CertificateRevoked, "the next handshake gets the alert");

    // Nor may what was handed back be used by the next attempt, which gets its own.
    enqueue(&stage.alice, asking(&[])).await;
    stage.claim = next_claim(&mut stage.worker).await;
    let (_, credentials) = stage.certificate().await;
    let connection = stage.server.connect(Some(&credentials)).await.unwrap();
    assert_eq!(refusal(&connection).await.0, Code::Ok);
    let handed_back = Outcome::HandedBack(HandedBackOutcome {});
    stage.worker.complete(&stage.claim.task_token, handed_back).await;
    assert_eq!(refusal(&connection).await, revoked());
    stage.claim = next_claim(&mut stage.worker).await;
    let (_, credentials) = stage.certificate().await;
    assert_eq!(who(&stage.server.connect(Some(&credentials)).await.unwrap()).await.job_id, stage.job_id());
    let admin = admin(&stage.server).await;
    let all: ListCertificatesResponse = admin
        .ask(
            LIST_CERTIFICATES,
            &ListCertificatesRequest { principal_id: "alice".to_owned(), ..Default::default() },
        )
        .await;
    let of_jobs: Vec<_> = all.certificates.iter().filter(|one| !one.job_id.is_empty()).collect();
    let ended: Vec<_> = of_jobs.iter().filter(|one| one.revoked).collect();
    assert_eq!((of_jobs.len(), ended.len()), (3, 2));
    let reason = RevocationReason::CessationOfOperation as i32;
    assert!(ended.iter().all(|one| one.revocation_reason == reason));
    stage.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_owner_and_a_revocation_end_it_too() {
    let stage = Stage::new(&[]).await;
    let (issued, first) = stage.certificate().await;
    let (_, second) = stage.certificate().await;
    let (first, second) = (
        stage.server.connect(Some(&first)).await.unwrap(),
        stage.server.connect(Some(&second)).await.unwrap(),
    );
    who(&first).await;
    who(&second).await;
    let admin = admin(&stage.server).await;
    let serial_number = issued.certificate.unwrap().serial_number;
    let revoke = RevokeCertificatesRequest { serial_number, ..Default::default() };
    let _: RevokeCertificatesResponse = admin.ask(REVOKE, &revoke).await;
    assert_eq!(refusal(&first).await, revoked());
    assert_eq!(refusal(&second).await.0, Code::Ok);
    let suspend = SuspendPrincipalRequest { principal_id: "alice".to_owned(), ..Default::default() };
    let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &suspend).await;
    assert_eq!(refusal(&second).await, (Code::Unauthenticated, "principal-suspended".to_owned()));
    let refused =
        stage.worker.client.call(ISSUE_JOB_CERTIFICATE, &request(&stage.claim, key_and_csr().1)).await;
    assert_eq!(refused.unwrap().label, "principal-not-active");
    stage.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_holder_of_the_lease_gets_one_for_a_job_that_asked_for_it() {
    let mut stage = Stage::new(&[]).await;
    let (other, _) = client(&stage.server, "w2", PrincipalType::Worker).await;
    let wanted = request(&stage.claim, key_and_csr().1);
    assert_eq!(other.call(ISSUE_JOB_CERTIFICATE, &wanted).await.unwrap().label, "lease-lost");
    let refused = stage.alice.call(ISSUE_JOB_CERTIFICATE, &wanted).await.unwrap();
    assert_eq!(refused.label, "permission-denied", "its owner is no worker");
    let bad = IssueJobCertificateRequest { csr: b"no csr".to_vec(), ..wanted.clone() };
    assert_eq!(stage.worker.client.call(ISSUE_JOB_CERTIFICATE, &bad).await.unwrap().label, "csr-malformed");
    stage.worker.complete(&stage.claim.task_token, exited(0)).await;
    assert_eq!(stage.worker.client.call(ISSUE_JOB_CERTIFICATE, &wanted).await.unwrap().label, "lease-lost");

    enqueue(&stage.alice, job("true")).await;
    let plain = next_claim(&mut stage.worker).await;
    let refused = stage.worker.client.call(ISSUE_JOB_CERTIFICATE, &request(&plain, key_and_csr().1)).await;
    let refused = refused.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::InvalidArgument, "invalid-argument"));
    for (grants, label) in [
        (&["jobs:fly"][..], "invalid-argument"),
        (&["self"], "invalid-argument"),
        (&["principals:manage"], "escalation"),
    ] {
        let request = EnqueueJobsRequest { jobs: vec![asking(grants)], ..Default::default() };
        assert_eq!(stage.alice.call(ENQUEUE, &request).await.unwrap().label, label, "{grants:?}");
    }
    stage.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_the_same_one_and_the_job_itself_renews_nothing() {
    let stage = Stage::new(&[]).await;
    let id = "6c1f9a52-4d0e-4a86-9d53-1f2b7d3f6f0e".to_owned();
    let wanted = IssueJobCertificateRequest { request_id: id, ..request(&stage.claim, key_and_csr().1) };
    let first: IssueJobCertificateResponse = stage.worker.client.ask(ISSUE_JOB_CERTIFICATE, &wanted).await;
    let again: IssueJobCertificateResponse = stage.worker.client.ask(ISSUE_JOB_CERTIFICATE, &wanted).await;
    assert_eq!(first, again);
    let (_, credentials) = stage.certificate().await;
    let connection = stage.server.connect(Some(&credentials)).await.unwrap();
    let renew = RenewCertificateRequest { csr: key_and_csr().1 };
    let refused = connection.call(RENEW, &renew).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::PermissionDenied, "permission-denied"));
    let admin = admin(&stage.server).await;
    let mut tail = admin.open(TAIL_AUDIT, &TailAuditRequest { count: 100, follow: false }).await.unwrap();
    loop {
        let line: airunner_proto::audit::v1::TailAuditResponse = tail.message().await;
        let Some(entry) = line.entry else { continue };
        if entry.action == "job.issue-certificate" {
            assert_eq!((entry.principal.as_str(), entry.target.as_str()), ("w1", stage.job_id()));
            break;
        }
    }
    drop(tail);
    stage.ends().await;
}
