//! Suspension and revocation: on live connections, open streams and new handshakes.

use airunner_core::{Label, PrincipalType};
use airunner_e2e::TestServer;
use airunner_proto::{
    ca::v1::{RevokeCertificatesRequest, RevokeCertificatesResponse},
    job::v1::DequeueJobsRequest,
    principal::v1::{SuspendPrincipalRequest, SuspendPrincipalResponse, WhoAmIRequest, WhoAmIResponse},
};
use tonic::Code;

const WHO_AM_I: &str = "/airunner.principal.v1.PrincipalService/WhoAmI";
const SUSPEND: &str = "/airunner.principal.v1.PrincipalService/SuspendPrincipal";
const REVOKE: &str = "/airunner.ca.v1.CertificateService/RevokeCertificates";
const DEQUEUE: &str = "/airunner.job.v1.JobService/DequeueJobs";

fn one_job() -> DequeueJobsRequest {
    DequeueJobsRequest { max_jobs: 1, ..DequeueJobsRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_ends_streams_and_refuses_calls_on_old_and_new_connections() {
    let server = TestServer::start().await;
    let worker = server.principal("w1", PrincipalType::Worker).await;
    let old = server.connect(Some(&worker)).await.unwrap();
    let me: WhoAmIResponse = old.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap().decode();
    assert_eq!(me.principal.unwrap().principal_id, "w1");
    let mut line = old.open(DEQUEUE, &one_job()).await.unwrap();
    line.next().await.unwrap();

    let admin = server.connect(Some(&server.admin)).await.unwrap();
    let request = SuspendPrincipalRequest { principal_id: "w1".to_owned(), reason: "testing".to_owned() };
    let _: SuspendPrincipalResponse = admin.call(SUSPEND, &request).await.unwrap().decode();

    let refused = old.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "principal-suspended"));
    assert!(refused.message.contains("testing"), "{}", refused.message);
    let end = line.end().await;
    assert_eq!((end.code, end.label.as_str()), (Code::Unauthenticated, "principal-suspended"));
    let new = server.connect(Some(&worker)).await.unwrap();
    let refused = new.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "principal-suspended"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_streams_and_the_next_handshake_gets_the_alert() {
    let server = TestServer::start().await;
    let worker = server.principal("w1", PrincipalType::Worker).await;
    let old = server.connect(Some(&worker)).await.unwrap();
    let me: WhoAmIResponse = old.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap().decode();
    let mut line = old.open(DEQUEUE, &one_job()).await.unwrap();
    line.next().await.unwrap();

    let admin = server.connect(Some(&server.admin)).await.unwrap();
    let request = RevokeCertificatesRequest { serial_number: me.serial_number.clone(), ..Default::default() };
    let revoked: RevokeCertificatesResponse = admin.call(REVOKE, &request).await.unwrap().decode();
    assert_eq!(revoked.serial_numbers, [me.serial_number]);

    let refused = old.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap();
    assert_eq!((refused.code, refused.label.as_str()), (Code::Unauthenticated, "certificate-revoked"));
    assert_eq!(line.end().await.label, "certificate-revoked");
    let new = server.connect(Some(&worker)).await;
    let refused = match new {
        Ok(new) => new.call(WHO_AM_I, &WhoAmIRequest {}).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.label(), Label::CertificateRevoked);
    server.stop().await;
}
