//! Enrolment: who gets to see the token, and what is left of an attempt that was cut short.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use airunner_client::{Client, ClientOptions, EnrollOptions, IdentityFiles, IdentitySource, enroll};
use airunner_core::{EnrollmentTokenText, Fingerprint, KeyAlgorithm, Label, Secret};
use airunner_e2e::{TestServer, TestServerOptions};
use airunner_net::{
    Connection, ConnectionHandler, Limits, Listener, ServerIdentity, TlsIdentity, TlsProfile, serve_http,
    serve_tls, server_config,
};
use airunner_pki::{PrivateKey, create_csr, sha256};
use airunner_proto::ca::v1::{EnrollRequest, GetTrustBundleResponse};
use airunner_testkit::TestCa;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use prost::Message as _;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bed::{client, names, options, seen_serial, soon, token, worker_without_certificate};

fn text(token: &Secret) -> EnrollmentTokenText {
    EnrollmentTokenText::parse(std::str::from_utf8(token.expose()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_becomes_an_identity_that_the_server_knows() {
    let server = TestServer::start().await;
    worker_without_certificate(&server, "w").await;
    let folder = TempDir::new().unwrap();
    let passphrase = Secret::new(b"open sesame".to_vec());
    let enrolled = enroll(EnrollOptions {
        passphrase: Some(passphrase.clone()),
        ..EnrollOptions::new(token(&server, "w").await, folder.path())
    });
    let enrolled = soon(enrolled).await.unwrap();
    assert_eq!(enrolled.principal_id.as_str(), "w");
    assert_eq!(enrolled.api_address, server.addresses.api.to_string());

    let key = folder.path().join("current/key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&key).unwrap().contains("ENCRYPTED PRIVATE KEY"));
    assert!(names(folder.path(), "pending-").is_empty());

    // The roots come with the identity.
    let files = IdentityFiles::open(folder.path(), Some(passphrase)).unwrap();
    let address = enrolled.api_address.parse().unwrap();
    let options = ClientOptions::new(address, "", Some(IdentitySource::Folder(files)));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(seen_serial(&client).await, enrolled.identity.serial().to_string());
    server.stop().await;
}

#[tokio::test]
async fn under_the_p384_profile_the_key_is_a_p384_key() {
    let options = TestServerOptions { profile: TlsProfile::P384, ..TestServerOptions::default() };
    let server = TestServer::start_with(options).await;
    worker_without_certificate(&server, "w").await;
    let admin = crate::bed::options(&server, Some(&server.admin));
    let admin = Client::new(ClientOptions { profile: TlsProfile::P384, ..admin }).unwrap();
    let request = airunner_proto::ca::v1::CreateEnrollmentTokenRequest {
        principal_id: "w".to_owned(),
        ..Default::default()
    };
    let answer = admin.enrollments().create_enrollment_token(request).await.unwrap().into_inner();
    let folder = TempDir::new().unwrap();
    let token = Secret::new(answer.token.into_bytes());
    let enrolled =
        enroll(EnrollOptions { profile: TlsProfile::P384, ..EnrollOptions::new(token, folder.path()) });
    let enrolled = soon(enrolled).await.unwrap();
    let algorithm = enrolled.identity.certificate().public_key.algorithm();
    assert_eq!(algorithm, KeyAlgorithm::EcdsaP384);
    server.stop().await;
}

#[tokio::test]
async fn a_lost_answer_costs_nothing_the_same_key_gets_the_same_certificate() {
    let server = TestServer::start().await;
    worker_without_certificate(&server, "w").await;
    let token = token(&server, "w").await;
    // What is left when the answer was lost: the key that waits, and a token that was used by it.
    let folder = TempDir::new().unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let waiting = folder.path().join(format!("pending-enroll-{}.pem", text(&token).id));
    std::fs::write(&waiting, key.to_pem(None).unwrap().expose()).unwrap();
    std::fs::set_permissions(&waiting, PermissionsExt::from_mode(0o600)).unwrap();
    let public = ClientOptions {
        server: server.addresses.public.unwrap().to_string().parse().unwrap(),
        ..options(&server, None)
    };
    let request = EnrollRequest { token: text(&token).expose(), csr: create_csr(&key).unwrap() };
    let lost = Client::new(public).unwrap().enrollments().enroll(request).await.unwrap().into_inner();

    let enrolled = soon(enroll(EnrollOptions::new(token.clone(), folder.path()))).await.unwrap();
    assert_eq!(enrolled.identity.serial().to_string(), lost.certificate.unwrap().serial_number);

    // As after a crash between the exchange and the removal of the key that waited.
    std::fs::copy(folder.path().join("current/key.pem"), &waiting).unwrap();
    let again = soon(enroll(EnrollOptions::new(token.clone(), folder.path()))).await.unwrap();
    assert_eq!(again.identity.serial(), enrolled.identity.serial());
    assert!(!waiting.exists());

    let elsewhere = TempDir::new().unwrap();
    let error = soon(enroll(EnrollOptions::new(token, elsewhere.path()))).await.unwrap_err();
    assert!(error.is(Label::TokenUsed), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_key_is_on_the_disk_before_it_is_asked_for() {
    let server = TestServer::start().await;
    worker_without_certificate(&server, "w").await;
    let token = token(&server, "w").await;
    let request =
        airunner_proto::ca::v1::DeleteEnrollmentTokenRequest { enrollment_id: text(&token).id.to_string() };
    client(&server, &server.admin).enrollments().delete_enrollment_token(request).await.unwrap();
    let folder = TempDir::new().unwrap();
    let error = soon(enroll(EnrollOptions::new(token, folder.path()))).await.unwrap_err();
    assert!(error.is(Label::TokenInvalid), "{error:?}");
    assert_eq!(names(folder.path(), "pending-enroll-").len(), 1);
    assert!(!folder.path().join("current").exists());
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_token_is_refused_before_anything_is_done() {
    let folder = TempDir::new().unwrap();
    for bad in [&b"aet1_"[..], b"hello", b"\xff\xfe"] {
        let place = folder.path().join("identity");
        let error = enroll(EnrollOptions::new(Secret::new(bad.to_vec()), &place)).await.unwrap_err();
        assert!(error.is(Label::TokenInvalid), "{error:?}");
        assert!(!place.exists());
    }
}

/// A server of someone else: it shows a trust bundle and writes down what it is asked.
struct Impostor {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<(String, Bytes)>>>,
    _serving: JoinSet<()>,
}

struct Ears {
    roots_pem: String,
    heard: Arc<Mutex<Vec<(String, Bytes)>>>,
}

#[async_trait::async_trait]
impl ConnectionHandler for Ears {
    async fn serve(&self, connection: Connection) {
        let (roots_pem, heard) = (self.roots_pem.clone(), Arc::clone(&self.heard));
        let service = service_fn(move |request: Request<Incoming>| {
            let (roots_pem, heard) = (roots_pem.clone(), Arc::clone(&heard));
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await?.to_bytes();
                heard.lock().unwrap().push((path, body));
                Ok::<_, hyper::Error>(bundle_answer(roots_pem))
            }
        });
        serve_http(connection.stream, service, &Limits::default(), &connection.handle).await;
    }
}

fn bundle_answer(roots_pem: String) -> Response<UnsyncBoxBody<Bytes, std::convert::Infallible>> {
    let message = GetTrustBundleResponse { roots_pem, ..Default::default() }.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(&message);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(frame.freeze()).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
}

impl Impostor {
    async fn new(ca: &TestCa, roots_pem: String) -> Self {
        let leaf = ca.server(&["localhost", "127.0.0.1"]);
        let chain = leaf.chain().iter().map(|der| der.to_vec()).collect();
        let identity = TlsIdentity::from_der(chain, &leaf.key().to_pkcs8(), TlsProfile::Default).unwrap();
        let config = server_config(TlsProfile::Default, ServerIdentity::new(identity), None).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), "test").await.unwrap();
        let (address, heard) = (listener.local_addr(), Arc::default());
        let ears = Arc::new(Ears { roots_pem, heard: Arc::clone(&heard) });
        let mut serving = JoinSet::new();
        serving.spawn(serve_tls(listener, config, Limits::default(), CancellationToken::new(), ears));
        Self { address, heard, _serving: serving }
    }

    fn token(&self, root: &[u8]) -> Secret {
        let id = airunner_core::EnrollmentId::from_bytes([7; 16]);
        let root = Fingerprint::from_bytes(sha256(root));
        let token = EnrollmentTokenText::new(id, &[9; 32], &self.address.to_string(), root);
        Secret::new(token.expose().into_bytes())
    }

    /// The paths that were asked for; nothing that was sent holds the token.
    fn paths(&self, token: &Secret) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let contains = |body: &Bytes| body.windows(8).any(|window| token.expose()[5..].starts_with(window));
        assert!(!heard.iter().any(|(_, body)| contains(body)), "the token was sent");
        heard.iter().map(|(path, _)| path.clone()).collect()
    }
}

const BUNDLE: &str = "/airunner.ca.v1.CertificateService/GetTrustBundle";

#[tokio::test]
async fn a_server_with_another_root_never_sees_the_token() {
    let (ours, theirs) = (TestCa::new(), TestCa::new());
    let impostor = Impostor::new(&theirs, theirs.root_pem()).await;
    let token = impostor.token(ours.root().der());
    let folder = TempDir::new().unwrap();
    let error = soon(enroll(EnrollOptions::new(token.clone(), folder.path()))).await.unwrap_err();
    assert!(error.is(Label::ServerUntrusted) && !error.is_transient(), "{error:?}");
    assert!(error.message().contains("wrong CA fingerprint"), "{error}");
    assert!(error.message().contains("ask the admin"), "{error}");
    assert!(error.message().contains(&hex(theirs.root().der())), "{error}");
    assert_eq!(impostor.paths(&token), [BUNDLE]);
    assert!(names(folder.path(), "pending-").is_empty());
}

#[tokio::test]
async fn a_server_that_only_repeats_the_right_root_never_sees_the_token() {
    let (ours, theirs) = (TestCa::new(), TestCa::new());
    // Roots are public: anyone can show them. Nobody else has a certificate under them.
    let impostor = Impostor::new(&theirs, theirs.root_pem() + &ours.root_pem()).await;
    let token = impostor.token(ours.root().der());
    let folder = TempDir::new().unwrap();
    let error = soon(enroll(EnrollOptions::new(token.clone(), folder.path()))).await.unwrap_err();
    assert!(error.is(Label::ServerUntrusted) && error.message().contains("under it"), "{error:?}");
    assert_eq!(impostor.paths(&token), [BUNDLE]);
}

fn hex(root: &[u8]) -> String {
    Fingerprint::from_bytes(sha256(root)).to_hex()
}
