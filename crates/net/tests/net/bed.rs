//! A server on loopback with a service of a few paths, and clients for it.

use std::{
    collections::HashSet,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use airunner_core::{Clock, Error, Monotonic, Timestamp};
use airunner_net::{
    ClientStream, ClientTls, ClientVerifier, Connection, ConnectionHandle, ConnectionHandler, Limits,
    Listener, Network, Peer, Refusal, RevocationView, ServerIdentity, TlsProfile, TrustAnchors,
    client_config, connect, serve_http, serve_plain, serve_tls, server_config, system::SystemClock,
    tls_failure,
};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::ca::{Leaf, TestCa};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, and fails rather than hang.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("did not happen in time")
}

/// The real clock, moved by what a test likes.
#[derive(Default)]
pub(crate) struct MovedClock(AtomicI64);

impl MovedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        SystemClock.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

/// Revoked certificates, and every question that was asked.
#[derive(Default)]
pub(crate) struct Revoked {
    pub(crate) serials: Mutex<HashSet<Vec<u8>>>,
    pub(crate) asked: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl RevocationView for Revoked {
    fn is_revoked(&self, authority_key_id: &[u8], serial: &[u8]) -> bool {
        self.asked.lock().unwrap().push((authority_key_id.to_vec(), serial.to_vec()));
        self.serials.lock().unwrap().contains(serial)
    }
}

/// The far side of the service: what the tests see of it and when it may go on.
pub(crate) struct Stage {
    /// Lets `/slow` answer.
    pub(crate) release: watch::Sender<bool>,
    entered: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<()>,
    connections: mpsc::UnboundedSender<(Peer, ConnectionHandle)>,
    refusals: mpsc::UnboundedSender<Refusal>,
    limits: Limits,
}

#[async_trait]
impl ConnectionHandler for Stage {
    async fn serve(&self, connection: Connection) {
        let Connection { stream, peer, handle } = connection;
        self.connections.send((peer, handle.clone())).ok();
        let (release, entered, dropped) =
            (self.release.subscribe(), self.entered.clone(), self.dropped.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            answer(request, release.clone(), entered.clone(), dropped.clone())
        });
        serve_http(stream, service, &self.limits, &handle).await;
    }

    fn refused(&self, _address: SocketAddr, refusal: Refusal) {
        self.refusals.send(refusal).ok();
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

/// `/hello` answers, `/slow` answers when released, `/stream` ticks for ever, anything else echoes its body.
async fn answer(
    request: Request<Incoming>,
    mut release: watch::Receiver<bool>,
    entered: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<()>,
) -> Result<Answer, hyper::Error> {
    let text = |text: &'static str| Response::new(http_body_util::Full::from(text).boxed_unsync());
    match request.uri().path() {
        "/hello" => Ok(text("hello")),
        "/slow" => {
            let _told = TellsDrop(dropped);
            entered.send(()).ok();
            release.wait_for(|released| *released).await.ok();
            Ok(text("done"))
        }
        "/stream" => Ok(Response::new(Ticks(TellsDrop(dropped)).boxed_unsync())),
        _ => {
            let body = request.into_body().collect().await?.to_bytes();
            Ok(Response::new(http_body_util::Full::from(body).boxed_unsync()))
        }
    }
}

struct TellsDrop(mpsc::UnboundedSender<()>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

/// A body without end.
struct Ticks(#[expect(dead_code, reason = "held for its drop")] TellsDrop);

impl Body for Ticks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"tick")))))
    }
}

/// How a bed differs from the usual one: default profile and limits, TLS with client certificates.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) profile: TlsProfile,
    pub(crate) limits: Limits,
    pub(crate) plain: bool,
    pub(crate) anyone: bool,
    /// Networks of balancers.
    pub(crate) proxies: Vec<Network>,
}

/// A running server.
pub(crate) struct Bed {
    pub(crate) ca: TestCa,
    pub(crate) profile: TlsProfile,
    pub(crate) address: SocketAddr,
    pub(crate) identity: ServerIdentity,
    pub(crate) anchors: TrustAnchors,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) stage: Arc<Stage>,
    pub(crate) entered: mpsc::UnboundedReceiver<()>,
    pub(crate) dropped: mpsc::UnboundedReceiver<()>,
    pub(crate) connections: mpsc::UnboundedReceiver<(Peer, ConnectionHandle)>,
    pub(crate) refusals: mpsc::UnboundedReceiver<Refusal>,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let Options { profile, limits, plain, anyone, proxies } = options;
        let ca = if profile == TlsProfile::P384 { TestCa::p384() } else { TestCa::new() };
        let identity = ServerIdentity::new(ca.server().identity(profile));
        let anchors = TrustAnchors::new(vec![ca.issuing_der()]).unwrap();
        let (revoked, clock) = (Arc::new(Revoked::default()), Arc::new(MovedClock::default()));
        let verifier = ClientVerifier::new(profile, anchors.clone(), revoked.clone(), clock.clone());
        let verifier = (!anyone).then(|| Arc::new(verifier));
        let config = server_config(profile, identity.clone(), verifier).unwrap();

        let (entered_sender, entered) = mpsc::unbounded_channel();
        let (dropped_sender, dropped) = mpsc::unbounded_channel();
        let (connection_sender, connections) = mpsc::unbounded_channel();
        let (refusal_sender, refusals) = mpsc::unbounded_channel();
        let stage = Arc::new(Stage {
            release: watch::Sender::new(false),
            entered: entered_sender,
            dropped: dropped_sender,
            connections: connection_sender,
            refusals: refusal_sender,
            limits: limits.clone(),
        });

        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), "server.api_addr").await.unwrap().behind(&proxies);
        let address = listener.local_addr();
        let shutdown = CancellationToken::new();
        let (token, handler) = (shutdown.clone(), stage.clone());
        let served = tokio::spawn(async move {
            if plain {
                serve_plain(listener, limits, token, handler).await;
            } else {
                serve_tls(listener, config, limits, token, handler).await;
            }
        });
        Self {
            ca,
            profile,
            address,
            identity,
            anchors,
            revoked,
            clock,
            shutdown,
            served,
            stage,
            entered,
            dropped,
            connections,
            refusals,
        }
    }

    /// The TLS of a client that trusts this bed's root and shows `leaf`.
    pub(crate) fn client_config(&self, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        let identity = leaf.map(|leaf| leaf.identity(self.profile));
        let tls = ClientTls { profile: self.profile, roots: vec![self.ca.root_der()], identity };
        client_config(tls, Arc::new(SystemClock)).unwrap()
    }

    /// Connects TLS, showing `leaf`.
    pub(crate) async fn dial(&self, leaf: Option<&Leaf>) -> Result<ClientStream, Error> {
        soon(connect(self.client_config(leaf), "localhost", &self.address.to_string())).await
    }

    /// An HTTP/2 client with a good certificate.
    pub(crate) async fn client(&self) -> Client {
        let leaf = self.ca.client();
        Client::over(self.dial(Some(&leaf)).await.unwrap()).await
    }

    /// What `/hello` says to a client that shows `leaf`: `hello`, or why not.
    pub(crate) async fn hello(&self, leaf: Option<&Leaf>) -> Result<String, Error> {
        let stream = self.dial(leaf).await?;
        let slot = stream.failure();
        let mut client = Client::over(stream).await;
        match client.get("/hello").await {
            Ok(text) => Ok(text),
            Err(error) => {
                let found = tls_failure(&error);
                // hyper tells some requests only that the connection is gone; the slot always knows.
                let kept: Error = slot.get().unwrap_or_else(|| panic!("no TLS failure: {error:?}")).into();
                if let Some(found) = found {
                    assert_eq!(found.label(), kept.label());
                }
                Err(kept)
            }
        }
    }

    pub(crate) async fn next_connection(&mut self) -> (Peer, ConnectionHandle) {
        soon(self.connections.recv()).await.unwrap()
    }

    pub(crate) async fn next_refusal(&mut self) -> Refusal {
        soon(self.refusals.recv()).await.unwrap()
    }
}

/// An HTTP/2 client on one connection.
pub(crate) struct Client {
    sender: http2::SendRequest<Empty<Bytes>>,
    ended: JoinHandle<Result<(), hyper::Error>>,
}

impl Client {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) =
            soon(http2::handshake(TokioExecutor::new(), TokioIo::new(io))).await.unwrap();
        Self { sender, ended: tokio::spawn(connection) }
    }

    pub(crate) async fn open(&mut self, path: &str) -> Result<Response<Incoming>, hyper::Error> {
        let request = Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap();
        soon(self.sender.send_request(request)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<String, hyper::Error> {
        let response = self.open(path).await?;
        let body = soon(response.into_body().collect()).await?.to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns when the connection has ended, from whichever side.
    pub(crate) async fn ended(self) {
        let Self { sender, ended } = self;
        let _how = soon(ended).await.unwrap();
        drop(sender);
    }
}

/// An HTTP/1.1 client on one connection.
pub(crate) struct Client1 {
    sender: http1::SendRequest<Empty<Bytes>>,
    ended: JoinHandle<Result<(), hyper::Error>>,
}

impl Client1 {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = soon(http1::handshake(TokioIo::new(io))).await.unwrap();
        Self { sender, ended: tokio::spawn(connection) }
    }

    pub(crate) async fn open(&mut self, path: &str) -> Result<Response<Incoming>, hyper::Error> {
        let request = Request::get(path).header("host", "localhost").body(Empty::new()).unwrap();
        soon(self.sender.send_request(request)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<String, hyper::Error> {
        let response = self.open(path).await?;
        let body = soon(response.into_body().collect()).await?.to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns when the connection has ended, from whichever side.
    pub(crate) async fn ended(self) {
        let Self { sender, ended } = self;
        let _how = soon(ended).await.unwrap();
        drop(sender);
    }
}
