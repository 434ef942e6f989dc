//! Every RPC as a caller that lacks just its permission, and as one that holds just it: the one is told what it lacks,
//! the other gets as far as its request deserves. So no RPC asks for less than it declares, and none for more.

use std::collections::{BTreeMap, BTreeSet};

use airunner_app::{
    authn::Caller, authz::PermissionSet, job::spec::NewJob, principal::new_principal as fresh,
};
use airunner_core::{Clock as _, EnrolScope, JobSpec, Permission, PrincipalType, ProcessType, TerminalSize};
use airunner_e2e::{Answer, TestServer, over_body};
use airunner_proto::{ca::v1 as ca, job::v1 as job_pb, principal::v1 as pb};
use airunner_server::{method::Methods, router::Door};
use prost::Message;
use tonic::Code;

use crate::{calls::*, worker::*};

type Expected = (Code, &'static str);

const FINE: Expected = (Code::Ok, "");

/// A request that is good in itself, and what one who holds just the permission comes to with it.
fn good(request: &impl Message, expected: Expected) -> (Vec<u8>, Expected) {
    (request.encode_to_vec(), expected)
}

/// What the requests name: one thing of each kind that is there.
struct Things {
    job: String,
    task_token: String,
    serial: String,
    enrollment: String,
    token: String,
    now: airunner_core::Timestamp,
}

async fn things(server: &TestServer) -> (Things, Worker) {
    for id in ["caller", "victim", "other", "m-1"] {
        server.principal_with(id, PrincipalType::Worker, |principal| principal.max_certificates = 0).await;
    }
    let admin = admin(server).await;
    let request = ca::CreateEnrollmentTokenRequest { principal_id: "other".to_owned(), ..Default::default() };
    let enrolment: ca::CreateEnrollmentTokenResponse = admin.ask(CREATE_TOKEN, &request).await;
    let request = ca::ListCertificatesRequest { principal_id: "other".to_owned(), ..Default::default() };
    let listed: ca::ListCertificatesResponse = admin.ask(LIST_CERTIFICATES, &request).await;
    let caller = server.issue(&"caller".parse().unwrap()).await;
    let mut worker = Worker::open(server.connect(Some(&caller)).await.unwrap()).await;
    worker.waiting().await;
    // The job is the caller's, as owner and as holder, so that owning it stands in nobody's way.
    let spec = JobSpec {
        command: "true".to_owned(),
        process_type: ProcessType::Terminal(TerminalSize { rows: 24, columns: 80 }),
        max_attempts: 1,
        ..JobSpec::default()
    };
    let mine = NewJob { spec, ..NewJob::default() };
    let submitter = caller_with(server, [Permission::JobsSubmit]);
    let ids = server.app.jobs.enqueue(&submitter, vec![mine], None).await.unwrap();
    let task_token = worker.claim().await.task_token;
    let things = Things {
        job: ids[0].to_string(),
        task_token,
        serial: listed.certificates[0].serial_number.clone(),
        enrollment: enrolment.enrollment.unwrap().enrollment_id,
        token: enrolment.token,
        now: server.clock.now(),
    };
    (things, worker)
}

fn caller_with(server: &TestServer, permissions: impl IntoIterator<Item = Permission>) -> Caller {
    let mut principal = fresh("caller".parse().unwrap(), PrincipalType::Worker, server.clock.now(), "test");
    let types = [PrincipalType::Worker].into();
    principal.enrol_scope = Some(EnrolScope { id_prefix: "m-".to_owned(), types });
    Caller::for_test(principal, PermissionSet::from_iter(permissions))
}

/// A good request for every RPC.
#[expect(clippy::too_many_lines, reason = "a table")]
fn requests(things: &Things) -> BTreeMap<&'static str, (Vec<u8>, Expected)> {
    let victim = || "victim".to_owned();
    let job_id = || things.job.clone();
    let task_token = || things.task_token.clone();
    // Who holds nothing but the right to manage may not confer what it does not hold: no escalation.
    let escalation = (Code::PermissionDenied, "escalation");
    BTreeMap::from([
        (CREATE_PRINCIPAL, good(&new_principal("m-2", pb::PrincipalType::Worker), FINE)),
        (GET_PRINCIPAL, good(&pb::GetPrincipalRequest { principal_id: victim() }, FINE)),
        (LIST_PRINCIPALS, good(&pb::ListPrincipalsRequest::default(), FINE)),
        (
            UPDATE_PRINCIPAL,
            good(
                &pb::UpdatePrincipalRequest {
                    principal_id: victim(),
                    version: 0,
                    principal: Some(pb::Principal::default()),
                    update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
                },
                FINE,
            ),
        ),
        (
            SET_ROLES,
            good(&pb::SetPrincipalRolesRequest { principal_id: victim(), ..Default::default() }, escalation),
        ),
        (SUSPEND, good(&pb::SuspendPrincipalRequest { principal_id: victim(), ..Default::default() }, FINE)),
        (ACTIVATE, good(&pb::ActivatePrincipalRequest { principal_id: victim() }, escalation)),
        (
            REVOKE_PRINCIPAL,
            good(&pb::RevokePrincipalRequest { principal_id: victim(), ..Default::default() }, FINE),
        ),
        (DELETE_PRINCIPAL, good(&pb::DeletePrincipalRequest { principal_id: victim() }, FINE)),
        (WHO_AM_I, good(&pb::WhoAmIRequest {}, FINE)),
        (
            EXPLAIN,
            good(
                &pb::ExplainAccessRequest { principal_id: "other".to_owned(), method: CANCEL.to_owned() },
                FINE,
            ),
        ),
        (
            ISSUE,
            good(
                &ca::IssueCertificateRequest {
                    principal_id: "other".to_owned(),
                    csr: key_and_csr().1,
                    ..Default::default()
                },
                escalation,
            ),
        ),
        (
            REGISTER,
            good(
                &ca::RegisterCertificateRequest { principal_id: "other".to_owned(), ..Default::default() },
                escalation,
            ),
        ),
        // A caller of tests has no certificate.
        (
            RENEW,
            good(
                &ca::RenewCertificateRequest { csr: key_and_csr().1 },
                (Code::Unauthenticated, "no-certificate"),
            ),
        ),
        (
            GET_CERTIFICATE,
            good(
                &ca::GetCertificateRequest { serial_number: things.serial.clone(), ..Default::default() },
                FINE,
            ),
        ),
        (LIST_CERTIFICATES, good(&ca::ListCertificatesRequest::default(), FINE)),
        (
            REVOKE,
            good(
                &ca::RevokeCertificatesRequest { serial_number: things.serial.clone(), ..Default::default() },
                FINE,
            ),
        ),
        (TRUST_BUNDLE, good(&ca::GetTrustBundleRequest {}, FINE)),
        (
            CREATE_TOKEN,
            good(
                &ca::CreateEnrollmentTokenRequest { principal_id: "m-1".to_owned(), ..Default::default() },
                FINE,
            ),
        ),
        (LIST_TOKENS, good(&ca::ListEnrollmentTokensRequest::default(), FINE)),
        // What another made is not told of.
        (
            DELETE_TOKEN,
            good(
                &ca::DeleteEnrollmentTokenRequest { enrollment_id: things.enrollment.clone() },
                (Code::NotFound, "not-found"),
            ),
        ),
        // The root's key is not here: whoever may ask is told so.
        (RENEW_ISSUER, good(&ca::RenewIssuerRequest {}, (Code::FailedPrecondition, "root-offline"))),
        (ENROLL, good(&ca::EnrollRequest { token: things.token.clone(), csr: key_and_csr().1 }, FINE)),
        (ENQUEUE, good(&job_pb::EnqueueJobsRequest { jobs: vec![job("true")], ..Default::default() }, FINE)),
        (
            START,
            good(
                &job_pb::StartJobRequest {
                    job: Some(job_pb::JobSpec { queue: "nobody".to_owned(), ..job("true") }),
                    ..Default::default()
                },
                (Code::Unavailable, "no-worker"),
            ),
        ),
        (DEQUEUE, good(&job_pb::DequeueJobsRequest { max_jobs: 1, ..Default::default() }, FINE)),
        (
            EXTEND,
            good(
                &job_pb::ExtendLeaseRequest {
                    task_tokens: vec![task_token()],
                    visibility_timeout: seconds(60),
                },
                FINE,
            ),
        ),
        (
            ISSUE_JOB_CERTIFICATE,
            good(
                &job_pb::IssueJobCertificateRequest {
                    task_token: task_token(),
                    csr: key_and_csr().1,
                    ..Default::default()
                },
                // The job was enqueued without one.
                (Code::InvalidArgument, "invalid-argument"),
            ),
        ),
        (
            COMPLETE,
            good(
                &job_pb::CompleteJobsRequest {
                    completions: vec![job_pb::Completion {
                        task_token: task_token(),
                        outcome: Some(exited(0)),
                        usage: None,
                    }],
                },
                FINE,
            ),
        ),
        (GET_JOB, good(&job_pb::GetJobRequest { job_id: job_id() }, FINE)),
        (JOB_STATUS, good(&job_pb::GetJobStatusRequest { job_id: job_id() }, FINE)),
        (LIST_JOBS, good(&job_pb::ListJobsRequest::default(), FINE)),
        (CANCEL, good(&job_pb::CancelJobRequest { job_id: job_id(), ..Default::default() }, FINE)),
        (
            WRITE_INPUT,
            good(
                &job_pb::WriteJobInputRequest { job_id: job_id(), data: b"x".to_vec(), ..Default::default() },
                FINE,
            ),
        ),
        (
            RESIZE,
            good(
                &job_pb::ResizeJobRequest {
                    job_id: job_id(),
                    terminal: Some(job_pb::Terminal { rows: 50, columns: 200 }),
                    ..Default::default()
                },
                FINE,
            ),
        ),
        (
            PUBLISH_STREAM,
            good(
                &job_pb::PublishEventsRequest {
                    task_token: task_token(),
                    events: vec![started(1, 1, things.now)],
                },
                FINE,
            ),
        ),
        (
            PUBLISH,
            good(
                &job_pb::PublishEventBatchRequest {
                    task_token: task_token(),
                    events: vec![started(1, 2, things.now)],
                },
                FINE,
            ),
        ),
        (STREAM_EVENTS, good(&job_pb::StreamEventsRequest { job_id: job_id(), ..Default::default() }, FINE)),
        (OUTPUT, good(&job_pb::GetJobOutputRequest { job_id: job_id(), ..Default::default() }, FINE)),
        (TAIL_AUDIT, good(&airunner_proto::audit::v1::TailAuditRequest { count: 1, follow: false }, FINE)),
        (HEALTH_CHECK, good(&(), FINE)),
        (HEALTH_WATCH, good(&(), FINE)),
        (REFLECTION, good(&(), (Code::InvalidArgument, ""))),
        (REFLECTION_ALPHA, good(&(), (Code::InvalidArgument, ""))),
    ])
}

/// What this caller gets for these bytes, past every listener.
async fn call(server: &TestServer, caller: Caller, path: &str, message: &[u8]) -> Answer {
    over_body(path, message, async |request| {
        let router = server.server().router();
        router
            .handle(&Door::Test(caller), "127.0.0.1:1", request)
            .await
            .unwrap_or_else(|never| match never {})
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_just_the_permission_is_told_so_and_who_holds_just_it_may() {
    let server = TestServer::start().await;
    let (things, _worker) = things(&server).await;
    let requests = requests(&things);
    let methods = Methods::load(airunner_proto::DESCRIPTOR_SET).unwrap();
    let served: BTreeSet<&str> = methods.iter().map(|(path, _)| path).collect();
    assert_eq!(served, requests.keys().copied().collect(), "each RPC has a request here, and none else");

    // First without: nothing is changed by those who may not.
    for (path, (message, _)) in &requests {
        let needs = methods.get(path).unwrap().permission;
        let others = Permission::ALL.iter().copied().filter(|permission| *permission != needs);
        let answer = call(&server, caller_with(&server, others), path, message).await;
        if needs == Permission::Anonymous {
            assert_ne!(answer.code, Code::PermissionDenied, "{path}");
            continue;
        }
        assert_eq!(
            (answer.code, answer.label.as_str()),
            (Code::PermissionDenied, "permission-denied"),
            "{path}"
        );
        assert_eq!(answer.field.as_deref(), Some(needs.as_str()), "{path}");
        assert!(answer.message.contains(needs.as_str()), "{path}: {}", answer.message);
    }
    // Then with. What ends something comes last; the enrolment token was used up above, by one without any permission.
    let ends = |path: &str| [CANCEL, COMPLETE, REVOKE, DELETE_PRINCIPAL].iter().position(|end| *end == path);
    let mut order: Vec<_> = requests.iter().filter(|(path, _)| **path != ENROLL).collect();
    order.sort_by_key(|(path, _)| ends(path).map_or(0, |at| at + 1));
    for (path, (message, expected)) in order {
        let needs = methods.get(path).unwrap().permission;
        let answer = call(&server, caller_with(&server, [needs]), path, message).await;
        assert_eq!((answer.code, answer.label.as_str()), *expected, "{path}: {answer:?}");
    }
    server.stop().await;
}
