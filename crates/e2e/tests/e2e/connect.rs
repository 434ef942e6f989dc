//! The Connect project's own client, with code of its own generator, calls the server in each of its spellings.

use std::collections::BTreeSet;

use airunner_e2e::TestServer;
use connectrpc::{
    CodecFormat, ConnectError, ErrorCode, Protocol,
    client::{ClientConfig, HttpClient},
};
use data_encoding::BASE64_NOPAD;
use prost::Message as _;

use generated::airunner::principal::v1 as principal;
use principal::{
    CreatePrincipalRequest, GetPrincipalRequest, ListPrincipalsRequest, PrincipalServiceClient,
    PrincipalType, SuspendPrincipalRequest, WhoAmIRequest,
};

#[expect(unreachable_pub, reason = "generated, and all of it public")]
mod generated {
    connectrpc::include_generated!("connect.rs");
}

/// Every spelling that a unary call of this client can have.
fn spellings(server: &TestServer) -> Vec<ClientConfig> {
    let port = server.addresses.api.port();
    let config = ClientConfig::new(format!("https://localhost:{port}").parse().unwrap());
    let of = |protocol, codec| config.clone().with_protocol(protocol).with_codec_format(codec);
    vec![
        of(Protocol::Connect, CodecFormat::Json),
        of(Protocol::Connect, CodecFormat::Json).compress_requests("gzip"),
        of(Protocol::Connect, CodecFormat::Proto),
        of(Protocol::Connect, CodecFormat::Proto).compress_requests("gzip"),
        of(Protocol::Grpc, CodecFormat::Proto),
    ]
}

/// What a refusal says: Connect's code, and the label out of its details.
fn said(refused: &ConnectError) -> (ErrorCode, String) {
    let info = refused.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo"));
    let value = info.and_then(|detail| detail.value.clone()).unwrap_or_default();
    let bytes = BASE64_NOPAD.decode(value.trim_end_matches('=').as_bytes()).unwrap();
    (refused.code, tonic_types::pb::ErrorInfo::decode(&*bytes).unwrap().reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_connect_project_makes_every_call_of_a_session() {
    let server = TestServer::start().await;
    let http = HttpClient::with_tls(server.tls(Some(&server.admin)));
    for (n, config) in spellings(&server).into_iter().enumerate() {
        let spelling =
            format!("{:?} {:?} {:?}", config.protocol(), config.codec_format(), config.request_compression());
        let client = PrincipalServiceClient::new(http.clone(), config);
        let id = format!("builder-{n}");
        // Long enough that the client packs it.
        let description = "the build machine in the cellar; ".repeat(20);
        let request = CreatePrincipalRequest {
            principal_id: id.clone(),
            r#type: PrincipalType::Worker.into(),
            description: description.trim().to_owned(),
            ..Default::default()
        };
        client.create_principal(request.clone()).await.unwrap_or_else(|error| panic!("{spelling}: {error}"));
        let got =
            client.get_principal(GetPrincipalRequest { principal_id: id.clone(), ..Default::default() });
        let got = got.await.unwrap().into_owned().principal;
        assert_eq!(
            (got.principal_id.as_str(), got.description.as_str()),
            (&*id, description.trim()),
            "{spelling}"
        );
        assert!(got.created_at.is_set(), "{spelling}");

        let listed = client.list_principals(ListPrincipalsRequest::default()).await.unwrap().into_owned();
        let ids: BTreeSet<_> = listed.principals.iter().map(|one| one.principal_id.clone()).collect();
        assert!(ids.contains(&id) && ids.contains("admin"), "{spelling}: {ids:?}");
        let me = client.who_am_i(WhoAmIRequest::default()).await.unwrap().into_owned();
        assert_eq!(me.principal.principal_id, "admin", "{spelling}");

        let again = client.create_principal(request).await.unwrap_err();
        assert_eq!(said(&again), (ErrorCode::AlreadyExists, "already-exists".to_owned()), "{spelling}");
        let nobody = SuspendPrincipalRequest { principal_id: "nobody".to_owned(), ..Default::default() };
        let missing = client.suspend_principal(nobody).await.unwrap_err();
        assert_eq!(said(&missing), (ErrorCode::NotFound, "not-found".to_owned()), "{spelling}");
        let garbled = GetPrincipalRequest { principal_id: "../admin".to_owned(), ..Default::default() };
        let garbled = client.get_principal(garbled).await.unwrap_err();
        assert_eq!(said(&garbled), (ErrorCode::InvalidArgument, "invalid-argument".to_owned()), "{spelling}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_connect_project_is_told_who_may_not() {
    let server = TestServer::start().await;
    let worker = server.principal("w-1", airunner_core::PrincipalType::Worker).await;
    let http = HttpClient::with_tls(server.tls(Some(&worker)));
    for config in spellings(&server) {
        let client = PrincipalServiceClient::new(http.clone(), config);
        let refused = client.list_principals(ListPrincipalsRequest::default()).await.unwrap_err();
        assert_eq!(said(&refused), (ErrorCode::PermissionDenied, "permission-denied".to_owned()));
    }
    server.stop().await;
}
