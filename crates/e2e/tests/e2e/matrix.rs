//! Every RPC against every kind of identity: who is stopped in the handshake, who afterwards and with which label,
//! and which role may call what. The table is written down here and not derived, so that a change of the API is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use airunner_core::{Label, PrincipalStatus, PrincipalType, Role, StatusChange};
use airunner_e2e::{Answer, Credentials, TestServer, TestServerOptions};
use airunner_proto::{
    DESCRIPTOR_SET,
    ca::v1::{
        IssueCertificateRequest, IssueCertificateResponse, RenewCertificateRequest, RenewCertificateResponse,
        RevokeCertificatesRequest, RevokeCertificatesResponse,
    },
    principal::v1::{
        DeletePrincipalRequest, DeletePrincipalResponse, SuspendPrincipalRequest, SuspendPrincipalResponse,
    },
};
use prost_reflect::DescriptorPool;
use tonic::Code;

use crate::calls::*;

/// What an RPC needs, and what it answers to an empty message from one who may call it.
pub(crate) struct Row {
    pub(crate) path: &'static str,
    pub(crate) needs: &'static str,
    pub(crate) empty: (Code, &'static str),
}

const fn row(path: &'static str, needs: &'static str, empty: (Code, &'static str)) -> Row {
    Row { path, needs, empty }
}

const FINE: (Code, &str) = (Code::Ok, "");
const INVALID: (Code, &str) = (Code::InvalidArgument, "invalid-argument");
const NO_CSR: (Code, &str) = (Code::InvalidArgument, "csr-malformed");
const OFFLINE: (Code, &str) = (Code::FailedPrecondition, "root-offline");
const NO_WORKER: (Code, &str) = (Code::Unavailable, "no-worker");

/// The reflection service is not ours: its refusals have no label.
const NO_QUESTION: (Code, &str) = (Code::InvalidArgument, "");

pub(crate) const TABLE: &[Row] = &[
    row(CREATE_PRINCIPAL, "certs:enrol", INVALID),
    row(GET_PRINCIPAL, "principals:read", INVALID),
    row(LIST_PRINCIPALS, "principals:read", FINE),
    row(UPDATE_PRINCIPAL, "principals:manage", INVALID),
    row(SET_ROLES, "principals:manage", INVALID),
    row(SUSPEND, "principals:manage", INVALID),
    row(ACTIVATE, "principals:manage", INVALID),
    row(REVOKE_PRINCIPAL, "principals:manage", INVALID),
    row(DELETE_PRINCIPAL, "principals:manage", INVALID),
    row(WHO_AM_I, "self", FINE),
    row(EXPLAIN, "principals:read", INVALID),
    row(ISSUE, "certs:manage", INVALID),
    row(REGISTER, "certs:manage", INVALID),
    row(RENEW, "self", NO_CSR),
    row(GET_CERTIFICATE, "principals:read", INVALID),
    row(LIST_CERTIFICATES, "principals:read", FINE),
    row(REVOKE, "certs:manage", INVALID),
    row(TRUST_BUNDLE, "anonymous", FINE),
    row(CREATE_TOKEN, "certs:enrol", INVALID),
    row(LIST_TOKENS, "certs:enrol", FINE),
    row(DELETE_TOKEN, "certs:enrol", INVALID),
    row(ENROLL, "anonymous", NO_CSR),
    row(RENEW_ISSUER, "ca:manage", OFFLINE),
    row(ENQUEUE, "jobs:submit", INVALID),
    row(START, "jobs:submit", NO_WORKER),
    row(DEQUEUE, "jobs:dequeue", INVALID),
    row(EXTEND, "jobs:dequeue", INVALID),
    row(ISSUE_JOB_CERTIFICATE, "jobs:dequeue", INVALID),
    row(COMPLETE, "jobs:complete", INVALID),
    row(GET_JOB, "jobs:list", INVALID),
    row(JOB_STATUS, "jobs:list", INVALID),
    row(LIST_JOBS, "jobs:list", FINE),
    row(CANCEL, "jobs:cancel", INVALID),
    row(WRITE_INPUT, "jobs:attach", INVALID),
    row(RESIZE, "jobs:attach", INVALID),
    row(PUBLISH_STREAM, "events:publish", INVALID),
    row(PUBLISH, "events:publish", INVALID),
    row(STREAM_EVENTS, "events:stream", INVALID),
    row(OUTPUT, "events:stream", INVALID),
    row(TAIL_AUDIT, "audit:read", FINE),
    row(HEALTH_CHECK, "self", FINE),
    row(HEALTH_WATCH, "self", FINE),
    row(REFLECTION, "self", NO_QUESTION),
    row(REFLECTION_ALPHA, "self", NO_QUESTION),
];

/// The role matrix, beside what everyone may.
pub(crate) fn holds(role: Role, permission: &str) -> bool {
    let held = match role {
        Role::Admin => return true,
        Role::Worker => "jobs:dequeue jobs:complete jobs:list events:publish events:stream",
        Role::User => "jobs:submit jobs:list jobs:cancel jobs:attach events:stream",
        Role::Service => {
            "jobs:submit jobs:dequeue jobs:complete jobs:list jobs:cancel jobs:attach events:publish events:stream"
        }
        Role::Viewer => "jobs:list events:stream",
        Role::Enroller => "certs:enrol",
    };
    matches!(permission, "self" | "anonymous") || held.split(' ').any(|one| one == permission)
}

fn described() -> BTreeSet<String> {
    let sets = [
        DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = sets.map(|set| DescriptorPool::decode(set).unwrap());
    let methods = pools.iter().flat_map(DescriptorPool::services).flat_map(|service| {
        service
            .methods()
            .map(|method| format!("/{}/{}", service.full_name(), method.name()))
            .collect::<Vec<_>>()
    });
    methods.collect()
}

#[test]
fn the_table_has_a_row_for_every_rpc_and_no_other() {
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.path.to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len(), "a row stands twice");
    assert_eq!(described(), rows);
    let served = airunner_server::method::Methods::load(DESCRIPTOR_SET).unwrap();
    let served: BTreeMap<&str, _> = served.iter().collect();
    for row in TABLE {
        let method = served.get(row.path).unwrap_or_else(|| panic!("{} is not served", row.path));
        assert_eq!(method.permission.as_str(), row.needs, "{}", row.path);
        assert_eq!(method.public, row.needs == "anonymous", "{}", row.path);
    }
    assert_eq!(served.len(), TABLE.len());
}

fn check_holder(row: &Row, who: &str, answer: &Answer) {
    assert_eq!((answer.code, answer.label.as_str()), row.empty, "{who} at {}: {answer:?}", row.path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_call_what_it_holds_and_is_told_what_it_lacks() {
    let server = TestServer::start().await;
    for role in Role::ALL {
        let who = server.principal_of_role(&format!("the-{role}"), *role).await;
        let client = server.connect(Some(&who)).await.unwrap();
        for row in TABLE {
            let answer = client.probe(row.path).await.unwrap();
            if holds(*role, row.needs) {
                check_holder(row, role.as_str(), &answer);
                continue;
            }
            let denied = (Code::PermissionDenied, "permission-denied");
            assert_eq!((answer.code, answer.label.as_str()), denied, "{role} at {}", row.path);
            assert_eq!(answer.field.as_deref(), Some(row.needs), "{role} at {}", row.path);
            assert!(answer.message.contains(row.needs), "{}", answer.message);
            assert!(!answer.request_id.is_empty(), "{answer:?}");
        }
        let nowhere = client.probe("/airunner.principal.v1.PrincipalService/Nothing").await.unwrap();
        assert_eq!((nowhere.code, nowhere.label.as_str()), (Code::Unimplemented, "unknown-method"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_listener_serves_what_is_public_and_nothing_else() {
    let server = TestServer::start().await;
    let anyone = server.connect_public().await;
    for row in TABLE {
        let answer = anyone.probe(row.path).await.unwrap();
        if row.needs == "anonymous" {
            check_holder(row, "anyone", &answer);
        } else {
            let nothing = (Code::Unimplemented, "unknown-method");
            assert_eq!((answer.code, answer.label.as_str()), nothing, "{}", row.path);
        }
    }
    for path in ["/", "/health", "/metrics", "/v1/principals", "/jobs/start"] {
        let request = airunner_proto::principal::v1::WhoAmIRequest {};
        let headers = [("content-type", "text/plain")];
        let response = anyone.send_with("GET", path, &headers, &request).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    // A certificate changes nothing there: it is not even asked for.
    let address = server.addresses.public.unwrap().to_string();
    let known = airunner_e2e::RawClient::connect(server.tls(Some(&server.admin)), &address).await.unwrap();
    assert_eq!(known.probe(WHO_AM_I).await.unwrap().code, Code::Unimplemented);
    server.stop().await;
}

/// How an identity is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnedAway {
    /// By an alert, which our client turns into this label.
    InHandshake(Label),
    /// By every RPC, UNAUTHENTICATED with this label.
    ByEveryCall(&'static str),
}

/// How this identity is turned away at `path`; a connection of its own each time, since a denied one ends soon.
async fn turned_away(server: &TestServer, who: Option<&Credentials>, path: &str) -> TurnedAway {
    let client = match server.connect(who).await {
        Ok(client) => client,
        Err(error) => return TurnedAway::InHandshake(error.label()),
    };
    match client.probe(path).await {
        Err(error) => TurnedAway::InHandshake(error.label()),
        Ok(answer) => {
            assert_eq!(answer.code, Code::Unauthenticated, "{path}: {answer:?}");
            assert!(!answer.message.is_empty() && answer.messages.is_empty());
            let label = Label::ALL.iter().find(|label| label.as_str() == answer.label).unwrap();
            TurnedAway::ByEveryCall(label.as_str())
        }
    }
}

/// Everyone who is turned away, with the answer that is theirs.
async fn strangers(
    server: &TestServer,
    other: &TestServer,
) -> Vec<(&'static str, Option<Credentials>, TurnedAway)> {
    use TurnedAway::{ByEveryCall, InHandshake};
    let admin = admin(server).await;
    let user = async |id: &str| server.principal(id, PrincipalType::User).await;

    let suspended = user("suspended").await;
    let request = SuspendPrincipalRequest { principal_id: "suspended".to_owned(), reason: String::new() };
    let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &request).await;

    let deleted = user("deleted").await;
    let request = DeletePrincipalRequest { principal_id: "deleted".to_owned() };
    let _: DeletePrincipalResponse = admin.ask(DELETE_PRINCIPAL, &request).await;

    // Delete revokes; a row that was edited by hand has only its status.
    let ended = user("ended").await;
    let change = StatusChange {
        status: PrincipalStatus::Deleted,
        reason: String::new(),
        revoke: None,
        keep_an_admin: false,
    };
    server.stores.principals.set_status(&ended.id, change, server.audit("principal.delete")).await.unwrap();

    let revoked = user("revoked").await;
    let request = RevokeCertificatesRequest { principal_id: "revoked".to_owned(), ..Default::default() };
    let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;

    let retired = user("retired").await;
    let renewing = server.connect(Some(&retired)).await.unwrap();
    let request = RenewCertificateRequest { csr: key_and_csr().1 };
    let _: RenewCertificateResponse = renewing.ask(RENEW, &request).await;

    user("expired").await;
    let (key, csr) = key_and_csr();
    let validity = seconds(300);
    let request =
        IssueCertificateRequest { principal_id: "expired".to_owned(), csr, validity, ..Default::default() };
    let issued: IssueCertificateResponse = admin.ask(ISSUE, &request).await;
    let expired = server.credentials("expired", &issued.certificate.unwrap().pem, &issued.chain_pem, key);
    server.turn_ahead(Duration::from_secs(301)).await;

    let foreign = other.principal("foreign", PrincipalType::Admin).await;
    vec![
        ("nobody", None, InHandshake(Label::NoCertificate)),
        ("of another CA", Some(foreign), InHandshake(Label::IssuerDistrusted)),
        ("expired", Some(expired), InHandshake(Label::CertificateExpired)),
        ("revoked", Some(revoked), InHandshake(Label::CertificateRevoked)),
        ("deleted", Some(deleted), InHandshake(Label::CertificateRevoked)),
        ("deleted by hand", Some(ended), ByEveryCall("principal-deleted")),
        ("suspended", Some(suspended), ByEveryCall("principal-suspended")),
        ("retired", Some(retired), ByEveryCall("certificate-retired")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_count_is_turned_away_at_every_rpc() {
    let overlap = Duration::from_mins(1);
    let server = TestServer::start_with(TestServerOptions { overlap, ..Default::default() }).await;
    let other = TestServer::start().await;
    for (what, who, expected) in strangers(&server, &other).await {
        for row in TABLE {
            let answer = turned_away(&server, who.as_ref(), row.path).await;
            assert_eq!(answer, expected, "{what} at {}", row.path);
        }
    }
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_issuing_key_makes_no_usable_client() {
    let options = TestServerOptions { single_ca: true, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let forged = |server: &TestServer| server.app.counters().forged.load(SeqCst);

    let (unknown, _) = server.forge("admin", PrincipalType::Admin, None).await;
    for (n, row) in TABLE.iter().enumerate() {
        let answer = turned_away(&server, Some(&unknown), row.path).await;
        assert_eq!(answer, TurnedAway::ByEveryCall("unknown-certificate"), "{}", row.path);
        assert_eq!(forged(&server), n as u64 + 1, "every such connection raises the alarm");
    }

    // A known serial number under another name, a record of another principal, and a record of another type.
    server.principal("alice", PrincipalType::User).await;
    let (known, serial) = server.forge("alice", PrincipalType::User, None).await;
    server.record(&known, serial, |_| {}).await;
    assert_eq!(server.connect(Some(&known)).await.unwrap().probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let (same_serial, _) = server.forge("admin", PrincipalType::Admin, Some(serial)).await;
    let (of_another, serial) = server.forge("alice", PrincipalType::User, None).await;
    server.record(&of_another, serial, |record| record.principal_id = "admin".parse().unwrap()).await;
    let (of_another_type, serial) = server.forge("alice", PrincipalType::Admin, None).await;
    server.record(&of_another_type, serial, |_| {}).await;
    for who in [same_serial, of_another, of_another_type] {
        for row in TABLE {
            let answer = turned_away(&server, Some(&who), row.path).await;
            assert_eq!(answer, TurnedAway::ByEveryCall("identity-mismatch"), "{}", row.path);
        }
    }
    assert_eq!(forged(&server), TABLE.len() as u64, "a mismatch is no forgery by a stolen key");
    server.stop().await;
}
