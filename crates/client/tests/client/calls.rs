//! Calls: what they fail with, and what an exchanged identity does to them.

use std::time::Duration;

use airunner_client::{Client, ClientOptions, Error};
use airunner_core::{Kind, Label, PrincipalType, RevocationReason, RevocationTarget};
use airunner_e2e::TestServer;
use airunner_proto::{
    audit::v1::TailAuditRequest,
    job::v1::{EnqueueJobsRequest, JobSpec, StartJobRequest},
    principal::v1::{GetPrincipalRequest, ListPrincipalsRequest, SuspendPrincipalRequest, WhoAmIRequest},
};
use tonic::{Request, codec::CompressionEncoding};
use tonic_health::pb::HealthCheckRequest;

use crate::bed::{Proxy, client, client_through, loaded, options, seen_serial, soon, until};

/// The time of a call that is to end for another reason.
const NEVER: Duration = Duration::from_hours(1);

async fn who_am_i(client: &Client) -> Result<String, Error> {
    Ok(soon(client.principals().who_am_i(WhoAmIRequest {}))
        .await?
        .into_inner()
        .principal
        .unwrap()
        .principal_id)
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    let server = TestServer::start().await;
    let client = Client::connect(options(&server, Some(&server.admin))).await.unwrap();
    assert_eq!(who_am_i(&client).await.unwrap(), "admin");
    let health = client.health().check(HealthCheckRequest { service: String::new() }).await;
    assert_eq!(health.unwrap().into_inner().status, 1);
    assert_eq!(client.identity().unwrap().serial().to_string(), seen_serial(&client).await);
    server.stop().await;
}

#[tokio::test]
async fn an_error_says_what_the_server_said() {
    let server = TestServer::start().await;
    let client = client(&server, &server.admin);
    let request = GetPrincipalRequest { principal_id: "nobody-there".to_owned() };
    let error = Error::from(client.principals().get_principal(request).await.unwrap_err());
    assert!(error.is(Label::NotFound), "{error:?}");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.request_id().is_some_and(|id| !id.is_empty()));

    let request = EnqueueJobsRequest { jobs: vec![JobSpec::default()], ..Default::default() };
    let error = Error::from(client.jobs().enqueue_jobs(request).await.unwrap_err());
    assert_eq!((error.label(), error.field()), ("invalid-argument", Some("command")));

    let worker = server.principal("w", PrincipalType::Worker).await;
    let request = GetPrincipalRequest { principal_id: "admin".to_owned() };
    let denied = crate::bed::client(&server, &worker).principals().get_principal(request).await.unwrap_err();
    assert!(Error::from(denied).is(Label::PermissionDenied));
    server.stop().await;
}

#[tokio::test]
async fn a_refused_certificate_is_a_labelled_error_and_no_broken_pipe() {
    let server = TestServer::start().await;
    let anonymous = Client::new(options(&server, None)).unwrap();
    assert!(who_am_i(&anonymous).await.unwrap_err().is(Label::NoCertificate));

    let other = TestServer::start().await;
    let stranger = Client::new(ClientOptions {
        roots_pem: server.roots_pem().into_bytes(),
        server: server.addresses.api.to_string().parse().unwrap(),
        ..options(&other, Some(&other.admin))
    });
    assert!(who_am_i(&stranger.unwrap()).await.unwrap_err().is(Label::IssuerDistrusted));

    let worker = server.principal("w", PrincipalType::Worker).await;
    let target = RevocationTarget::Principal(worker.id.clone());
    let (reason, audit) = (RevocationReason::KeyCompromise, server.audit("certificate.revoke"));
    server.stores.certificates.revoke(&target, reason, audit).await.unwrap();
    until(|| server.app.status().len().1 == 1).await;
    let revoked = client(&server, &worker);
    for _ in 0..20 {
        let error = who_am_i(&revoked).await.unwrap_err();
        assert!(error.is(Label::CertificateRevoked), "{error:?}");
        assert!(error.is_denial());
    }
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_suspension_reaches_a_live_client_with_its_reason() {
    let server = TestServer::start().await;
    let worker = server.principal("w", PrincipalType::Worker).await;
    let held = client(&server, &worker);
    who_am_i(&held).await.unwrap();
    let request = SuspendPrincipalRequest { principal_id: "w".to_owned(), reason: "on leave".to_owned() };
    client(&server, &server.admin).principals().suspend_principal(request).await.unwrap();
    for _ in 0..3 {
        let error = who_am_i(&held).await.unwrap_err();
        assert!(error.is(Label::PrincipalSuspended), "{error:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_or_not_ours_is_unreachable() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let mistrusting =
        ClientOptions { roots_pem: other.roots_pem().into_bytes(), ..options(&server, Some(&server.admin)) };
    let error = Client::connect(mistrusting).await.unwrap_err();
    assert!(
        error.is(Label::Unreachable) && error.message().contains("no CA that this client trusts"),
        "{error}"
    );

    let gone = options(&other, Some(&other.admin));
    other.stop().await;
    let client = Client::new(gone).unwrap();
    let error = who_am_i(&client).await.unwrap_err();
    assert!(error.is(Label::Unreachable) && error.is_transient(), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn after_a_lost_connection_the_next_call_connects_anew() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addresses.api).await;
    let client = client_through(&proxy, &server, &server.admin);
    for _ in 0..5 {
        who_am_i(&client).await.unwrap();
        proxy.cut();
        // The loss is noticed at some time: until then a call may still run into it.
        until(|| server.app.live().is_empty()).await;
        soon(async {
            while let Err(error) = who_am_i(&client).await {
                assert!(error.is(Label::Unreachable), "{error:?}");
            }
        })
        .await;
    }
    assert_eq!(proxy.accepted(), 6);
    server.stop().await;
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addresses.api).await;
    let timeout = Duration::from_millis(100);
    let address = proxy.address.to_string().parse().unwrap();
    let client =
        Client::new(ClientOptions { server: address, timeout, ..options(&server, Some(&server.admin)) });
    let client = client.unwrap();
    soon(async { while who_am_i(&client).await.is_err() {} }).await;
    proxy.fall_silent();
    let error = who_am_i(&client).await.unwrap_err();
    assert!(error.is(Label::Deadline), "{error:?}");

    let mut request = Request::new(WhoAmIRequest {});
    request.set_timeout(Duration::from_millis(1));
    let error = Error::from(soon(client.principals().who_am_i(request)).await.unwrap_err());
    assert!(error.is(Label::Deadline), "{error:?}");
    drop(proxy);
    server.stop().await;
}

/// The three kinds of calls: one that has a time, one that has none, one whose answer goes on.
#[tokio::test]
async fn no_call_outlives_its_connection() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addresses.api).await;
    let options = ClientOptions {
        server: proxy.address.to_string().parse().unwrap(),
        silence: Duration::from_secs(1),
        ..options(&server, Some(&server.admin))
    };
    let client = Client::new(options).unwrap();
    let request = TailAuditRequest { count: 1, follow: true };
    let mut tail = client.audit().tail_audit(request).await.unwrap().into_inner();
    soon(tail.message()).await.unwrap().unwrap();
    proxy.fall_silent();
    let start = StartJobRequest {
        job: Some(JobSpec { command: "true".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let mut timeless = client.jobs();
    let (followed, started, asked) = soon(async {
        tokio::join!(tail.message(), timeless.start_job(start), async {
            let mut request = Request::new(WhoAmIRequest {});
            request.set_timeout(NEVER);
            client.principals().who_am_i(request).await
        })
    })
    .await;
    for error in [followed.unwrap_err(), started.unwrap_err(), asked.unwrap_err()] {
        let error = Error::from(error);
        assert!(error.is(Label::Unreachable), "{error:?}");
    }
    drop(proxy);
    server.stop().await;
}

/// What HTTP/2 forgets to tell of a connection that TLS refused while the request was written, is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_on_a_connection_that_is_refused_ends() {
    let server = TestServer::start().await;
    let nobody = || Client::new(ClientOptions { timeout: NEVER, ..options(&server, None) }).unwrap();
    let start = |client: Client| async move {
        let request = StartJobRequest { job: Some(JobSpec::default()), ..Default::default() };
        Error::from(client.jobs().start_job(request).await.unwrap_err())
    };
    for _ in 0..20 {
        let calls = (0..20).map(|_| tokio::spawn(start(nobody())));
        for call in calls.collect::<Vec<_>>() {
            let error = soon(call).await.unwrap();
            assert!(error.is(Label::NoCertificate), "{error:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn messages_are_packed_both_ways_where_one_wants_it() {
    let server = TestServer::start().await;
    for n in 0..20 {
        server.principal(&format!("w-{n}"), PrincipalType::Worker).await;
    }
    let client = client(&server, &server.admin);
    let gzip = CompressionEncoding::Gzip;
    let mut packed = client.principals().send_compressed(gzip).accept_compressed(gzip);
    let got = packed.get_principal(GetPrincipalRequest { principal_id: "w-7".to_owned() }).await.unwrap();
    assert_eq!(got.into_inner().principal.unwrap().principal_id, "w-7");
    let listed = packed.list_principals(ListPrincipalsRequest::default()).await.unwrap();
    assert_eq!(listed.metadata().get("grpc-encoding").unwrap(), "gzip");
    let plain = client.principals().list_principals(ListPrincipalsRequest::default()).await.unwrap();
    assert!(plain.metadata().get("grpc-encoding").is_none());
    assert_eq!(listed.into_inner(), plain.into_inner());
    server.stop().await;
}

#[tokio::test]
async fn an_exchanged_identity_serves_new_calls_and_lets_open_streams_finish() {
    let server = TestServer::start().await;
    let client = client(&server, &server.admin);
    let old = seen_serial(&client).await;
    let request = TailAuditRequest { count: 1, follow: true };
    let mut tail = client.audit().tail_audit(request).await.unwrap().into_inner();
    soon(tail.message()).await.unwrap().unwrap();

    let successor = server.issue(&server.admin.id).await;
    let mut changes = client.identity_changes();
    client.replace_identity(loaded(&successor)).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let new = seen_serial(&client).await;
    assert_ne!(new, old);
    assert_eq!(new, client.identity().unwrap().serial().to_string());
    assert_eq!(server.app.live().len(), 2);

    // Something that the old stream tells of.
    server.principal("w", PrincipalType::Worker).await;
    let told = soon(tail.message()).await.unwrap().unwrap();
    assert!(told.entry.is_some());

    drop(tail);
    until(|| server.app.live().len() == 1).await;
    assert_eq!(seen_serial(&client).await, new);
    server.stop().await;
}

#[tokio::test]
async fn a_pool_spreads_calls_over_its_connections() {
    let server = TestServer::start().await;
    let client =
        Client::new(ClientOptions { connections: 3, ..options(&server, Some(&server.admin)) }).unwrap();
    for _ in 0..9 {
        who_am_i(&client).await.unwrap();
    }
    assert_eq!(server.app.live().len(), 3);
    drop(client);
    until(|| server.app.live().is_empty()).await;
    server.stop().await;
}

#[tokio::test]
async fn calls_that_start_together_share_one_connection() {
    let server = TestServer::start().await;
    let client = client(&server, &server.admin);
    let calls = (0..50).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { who_am_i(&client).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), "admin");
    }
    assert_eq!(server.app.live().len(), 1);
    server.stop().await;
}
