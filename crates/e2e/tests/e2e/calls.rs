//! The paths of the RPCs that tests call by name, and requests with sane defaults.

use airunner_core::{PrincipalType, Timestamp};
use airunner_e2e::{Credentials, RawClient, TestServer};
use airunner_pki::{PrivateKey, create_csr};
use airunner_proto::{
    job::v1::{EnqueueJobsRequest, EnqueueJobsResponse, JobSpec},
    principal::v1::{self as principal, CreatePrincipalRequest},
};

macro_rules! paths {
    ($service:literal: $($name:ident = $method:literal,)+) => {
        $(pub(crate) const $name: &str = concat!("/airunner.", $service, "/", $method);)+
    };
}

paths! { "principal.v1.PrincipalService":
    CREATE_PRINCIPAL = "CreatePrincipal",
    GET_PRINCIPAL = "GetPrincipal",
    LIST_PRINCIPALS = "ListPrincipals",
    UPDATE_PRINCIPAL = "UpdatePrincipal",
    SET_ROLES = "SetPrincipalRoles",
    SUSPEND = "SuspendPrincipal",
    ACTIVATE = "ActivatePrincipal",
    REVOKE_PRINCIPAL = "RevokePrincipal",
    DELETE_PRINCIPAL = "DeletePrincipal",
    WHO_AM_I = "WhoAmI",
    EXPLAIN = "ExplainAccess",
}

paths! { "ca.v1.CertificateService":
    ISSUE = "IssueCertificate",
    REGISTER = "RegisterCertificate",
    RENEW = "RenewCertificate",
    GET_CERTIFICATE = "GetCertificate",
    LIST_CERTIFICATES = "ListCertificates",
    REVOKE = "RevokeCertificates",
    TRUST_BUNDLE = "GetTrustBundle",
}

paths! { "ca.v1.EnrollmentService":
    CREATE_TOKEN = "CreateEnrollmentToken",
    LIST_TOKENS = "ListEnrollmentTokens",
    DELETE_TOKEN = "DeleteEnrollmentToken",
    ENROLL = "Enroll",
}

paths! { "ca.v1.IssuerService":
    RENEW_ISSUER = "RenewIssuer",
}

paths! { "job.v1.JobService":
    ENQUEUE = "EnqueueJobs",
    START = "StartJob",
    DEQUEUE = "DequeueJobs",
    EXTEND = "ExtendLease",
    ISSUE_JOB_CERTIFICATE = "IssueJobCertificate",
    COMPLETE = "CompleteJobs",
    GET_JOB = "GetJob",
    JOB_STATUS = "GetJobStatus",
    LIST_JOBS = "ListJobs",
    CANCEL = "CancelJob",
    WRITE_INPUT = "WriteJobInput",
    RESIZE = "ResizeJob",
}

paths! { "job.v1.JobEventsService":
    PUBLISH_STREAM = "PublishEvents",
    PUBLISH = "PublishEventBatch",
    STREAM_EVENTS = "StreamEvents",
    OUTPUT = "GetJobOutput",
}

paths! { "audit.v1.AuditService":
    TAIL_AUDIT = "TailAudit",
}

/// The standard services.
pub(crate) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
pub(crate) const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
pub(crate) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub(crate) const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// A new key, and a request for a certificate for it.
pub(crate) fn key_and_csr() -> (PrivateKey, Vec<u8>) {
    let key = PrivateKey::generate(airunner_core::KeyAlgorithm::EcdsaP256).unwrap();
    let csr = create_csr(&key).unwrap();
    (key, csr)
}

/// What a request for a principal of this type is.
pub(crate) fn new_principal(id: &str, kind: principal::PrincipalType) -> CreatePrincipalRequest {
    CreatePrincipalRequest { principal_id: id.to_owned(), r#type: kind as i32, ..Default::default() }
}

/// A job that nobody really runs.
pub(crate) fn job(command: &str) -> JobSpec {
    JobSpec { command: command.to_owned(), ..JobSpec::default() }
}

/// Enqueues one job and returns its id.
pub(crate) async fn enqueue(client: &RawClient, job: JobSpec) -> String {
    let request = EnqueueJobsRequest { jobs: vec![job], ..Default::default() };
    let mut enqueued: EnqueueJobsResponse = client.ask(ENQUEUE, &request).await;
    enqueued.job_ids.remove(0)
}

/// A time on the wire.
pub(crate) fn at(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.as_millis().rem_euclid(1_000) * 1_000_000).unwrap();
    prost_types::Timestamp { seconds: time.as_secs(), nanos }
}

/// A time span on the wire.
#[expect(clippy::unnecessary_wraps, reason = "every field that holds one is optional")]
pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A connection of a new principal of this type.
pub(crate) async fn client(server: &TestServer, id: &str, kind: PrincipalType) -> (RawClient, Credentials) {
    let credentials = server.principal(id, kind).await;
    (server.connect(Some(&credentials)).await.unwrap(), credentials)
}

/// A connection of the first admin.
pub(crate) async fn admin(server: &TestServer) -> RawClient {
    server.connect(Some(&server.admin)).await.unwrap()
}

/// Waits until `condition` holds, for at most 10 s.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never came to be: {what}"));
}
