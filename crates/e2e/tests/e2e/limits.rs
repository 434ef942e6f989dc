//! What is malformed, too large or unknown is refused by name.

use airunner_e2e::RawClient;
use airunner_e2e::TestServer;
use airunner_proto::{
    ca::v1::{ListCertificatesRequest, RevokeCertificatesRequest},
    job::v1::{EnqueueJobsRequest, JobSpec, ListJobsRequest},
    principal::v1::{
        CreatePrincipalRequest, CreatePrincipalResponse, EnrolScope, GetPrincipalRequest,
        ListPrincipalsRequest, ListPrincipalsResponse, Principal, PrincipalType, SetPrincipalRolesRequest,
        SuspendPrincipalRequest, UpdatePrincipalRequest,
    },
};
use tonic::Code;

use crate::calls::*;

/// The code and the field at fault.
async fn fault(client: &RawClient, path: &str, request: &impl prost::Message) -> (Code, String) {
    let answer = client.call(path, request).await.unwrap();
    assert!(!answer.message.is_empty() && !answer.label.is_empty(), "{answer:?}");
    (answer.code, answer.field.unwrap_or_default())
}

fn invalid(field: &str) -> (Code, String) {
    (Code::InvalidArgument, field.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_too_large_or_none_are_refused_with_a_label() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let large = EnqueueJobsRequest {
        jobs: vec![JobSpec { command: "x".repeat(5 << 20), ..job("") }],
        ..Default::default()
    };
    let answer = admin.call(ENQUEUE, &large).await.unwrap();
    assert_eq!((answer.code, answer.label.as_str()), (Code::ResourceExhausted, "too-large"));
    for path in [ENQUEUE, WHO_AM_I, SUSPEND, DEQUEUE, PUBLISH_STREAM] {
        let answer = admin.call_bytes(path, &[0xff, 0xff, 0xff]).await.unwrap();
        assert_eq!(
            (answer.code, answer.label.as_str()),
            (Code::InvalidArgument, "invalid-argument"),
            "{path}"
        );
        assert!(!answer.request_id.is_empty());
    }
    assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "the connection goes on");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_names_and_nothing_else() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let long = "x".repeat(65);
    let bad = [
        "",
        "../admin",
        "a/b",
        "a\nb",
        "a\0b",
        "a b",
        "-a",
        ".a",
        "a%2fb",
        "ä",
        "a\u{202e}b",
        "a;b",
        "a'b",
        &long,
    ];
    for id in bad {
        let create = new_principal(id, PrincipalType::User);
        assert_eq!(fault(&admin, CREATE_PRINCIPAL, &create).await, invalid("principal_id"), "{id:?}");
        let get = GetPrincipalRequest { principal_id: id.to_owned() };
        assert_eq!(fault(&admin, GET_PRINCIPAL, &get).await, invalid("principal_id"), "{id:?}");
    }
    for queue in ["a/b", "../x", "a\nb", "-x"] {
        let request = EnqueueJobsRequest {
            jobs: vec![JobSpec { queue: queue.to_owned(), ..job("true") }],
            ..Default::default()
        };
        assert_eq!(fault(&admin, ENQUEUE, &request).await, invalid("queue"), "{queue:?}");
    }
    let request = EnqueueJobsRequest { jobs: vec![job("true")], request_id: "a b".to_owned() };
    assert_eq!(fault(&admin, ENQUEUE, &request).await.0, Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_differ_in_case_alone_can_not_both_exist() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let _: CreatePrincipalResponse =
        admin.ask(CREATE_PRINCIPAL, &new_principal("Alice", PrincipalType::User)).await;
    for id in ["alice", "ALICE", "Alice", "ADMIN"] {
        let taken = admin.refusal(CREATE_PRINCIPAL, &new_principal(id, PrincipalType::User)).await;
        assert_eq!(taken, (Code::AlreadyExists, "already-exists".to_owned()), "{id}");
    }
    let found: airunner_proto::principal::v1::GetPrincipalResponse =
        admin.ask(GET_PRINCIPAL, &GetPrincipalRequest { principal_id: "aLICE".to_owned() }).await;
    assert_eq!(found.principal.unwrap().principal_id, "Alice");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enums_of_a_later_version_are_refused_and_not_guessed() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let base = || new_principal("p1", PrincipalType::User);
    let create = CreatePrincipalRequest { r#type: 99, ..base() };
    assert_eq!(fault(&admin, CREATE_PRINCIPAL, &create).await, invalid("type"));
    let create = CreatePrincipalRequest { r#type: -1, ..base() };
    assert_eq!(fault(&admin, CREATE_PRINCIPAL, &create).await, invalid("type"));
    let create = CreatePrincipalRequest { roles: vec![99], ..base() };
    assert_eq!(fault(&admin, CREATE_PRINCIPAL, &create).await, invalid("roles"));
    let scope = EnrolScope { id_prefix: "x".to_owned(), types: vec![99] };
    let create = CreatePrincipalRequest { enrol_scope: Some(scope), ..base() };
    assert_eq!(fault(&admin, CREATE_PRINCIPAL, &create).await, invalid("enrol_scope.types"));
    let roles =
        SetPrincipalRolesRequest { principal_id: "admin".to_owned(), roles: vec![0], ..Default::default() };
    assert_eq!(fault(&admin, SET_ROLES, &roles).await, invalid("roles"));
    let list = ListPrincipalsRequest { status: 99, ..Default::default() };
    assert_eq!(fault(&admin, LIST_PRINCIPALS, &list).await, invalid("status"));
    let list = ListPrincipalsRequest { r#type: 99, ..Default::default() };
    assert_eq!(fault(&admin, LIST_PRINCIPALS, &list).await, invalid("type"));
    let list = ListJobsRequest { state: 99, ..Default::default() };
    assert_eq!(fault(&admin, LIST_JOBS, &list).await, invalid("state"));
    for reason in [7, 8, 99] {
        let revoke =
            RevokeCertificatesRequest { principal_id: "admin".to_owned(), reason, ..Default::default() };
        assert_eq!(fault(&admin, REVOKE, &revoke).await, invalid("reason"), "{reason}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_walked_with_the_lists_own_tokens_only() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    for n in 0..5 {
        server.principal(&format!("p{n}"), airunner_core::PrincipalType::User).await;
    }
    let page = |page_token: &str| ListPrincipalsRequest {
        page_size: 2,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let mut ids = Vec::new();
    let mut token = String::new();
    loop {
        let listed: ListPrincipalsResponse = admin.ask(LIST_PRINCIPALS, &page(&token)).await;
        assert!(listed.principals.len() <= 2);
        ids.extend(listed.principals.into_iter().map(|principal| principal.principal_id));
        token = listed.next_page_token;
        if token.is_empty() {
            break;
        }
        let elsewhere = ListCertificatesRequest { page_token: token.clone(), ..Default::default() };
        let refused = admin.refusal(LIST_CERTIFICATES, &elsewhere).await;
        assert_eq!(refused, (Code::InvalidArgument, "page-token".to_owned()), "a token of another list");
    }
    assert_eq!(ids, ["admin", "p0", "p1", "p2", "p3", "p4"]);
    for bad in ["garbage", "!!!", "p", &"x".repeat(10_000)] {
        let refused = admin.refusal(LIST_PRINCIPALS, &page(bad)).await;
        assert_eq!(refused, (Code::InvalidArgument, "page-token".to_owned()), "{}", &bad[..bad.len().min(9)]);
    }
    let large = ListPrincipalsRequest { page_size: 1_001, ..Default::default() };
    assert_eq!(fault(&admin, LIST_PRINCIPALS, &large).await, invalid("page_size"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_keep_to_their_form() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    server.principal("u1", airunner_core::PrincipalType::User).await;
    for reason in ["two\nlines", &"x".repeat(1_025)] {
        let request = SuspendPrincipalRequest { principal_id: "u1".to_owned(), reason: reason.to_owned() };
        assert_eq!(fault(&admin, SUSPEND, &request).await, invalid("reason"));
    }
    let update = |principal: Principal, path: &str| UpdatePrincipalRequest {
        principal_id: "u1".to_owned(),
        version: 0,
        principal: Some(principal),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
    };
    let email = |email: &str| Principal { email: email.to_owned(), ..Default::default() };
    for bad in ["x", "a@b@c", "a b@c.de", "@c.de", "ä@c.de"] {
        assert_eq!(
            fault(&admin, UPDATE_PRINCIPAL, &update(email(bad), "email")).await,
            invalid("email"),
            "{bad}"
        );
    }
    for path in ["roles", "status", "principal_id", "type", "nothing"] {
        let request = update(Principal::default(), path);
        assert_eq!(fault(&admin, UPDATE_PRINCIPAL, &request).await, invalid("update_mask"), "{path}");
    }
    let names = Principal { dns_names: vec!["db.example".to_owned()], ..Default::default() };
    let refused = fault(&admin, UPDATE_PRINCIPAL, &update(names, "dns_names")).await;
    assert_eq!(refused, invalid("dns_names"), "a user's certificates carry none");
    let validity = Principal { validity: seconds(299), ..Default::default() };
    assert_eq!(fault(&admin, UPDATE_PRINCIPAL, &update(validity, "validity")).await, invalid("validity"));
    server.stop().await;
}
