//! Clients that send a byte now and then: they are cut, each by the time-out of what it does not finish, and until then
//! they hold nobody up.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_core::Clock as _;
use airunner_e2e::{RawClient, TestServer, TestServerOptions, Wire, WireFrame};
use airunner_net::{Limits, system::SystemClock};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, timeout},
};
use tonic::Code;

use crate::calls::*;

/// What a slow client does not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    /// TLS, in its first record.
    Handshake,
    /// TLS, after a whole ClientHello.
    HandshakeHalfway,
    /// The head of an HTTP/1.1 request.
    Head,
    /// The head of an HTTP/2 request.
    HeadFrame,
    /// The body of an HTTP/1.1 request.
    Body,
    /// The message of a gRPC call.
    Message,
}

impl Slow {
    const ALL: [Self; 6] =
        [Self::Handshake, Self::HandshakeHalfway, Self::Head, Self::HeadFrame, Self::Body, Self::Message];
}

/// Where slow clients go, and how slow they are.
#[derive(Clone)]
struct Slowness {
    tls: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    pace: Duration,
    /// Those that are connected.
    connected: Arc<AtomicUsize>,
}

/// Counts a client while it is connected.
struct Connected(Arc<AtomicUsize>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Slowness {
    /// One slow client, until the server has had enough of it.
    async fn dribble(&self, what: Slow) {
        match what {
            Slow::Handshake => {
                // A handshake record of 512 bytes (RFC 8446 section 5.1).
                let tcp = TcpStream::connect(self.address).await.unwrap();
                self.bytes(tcp, &[22, 3, 1, 2, 0], 1).await;
            }
            Slow::HandshakeHalfway => {
                let tcp = TcpStream::connect(self.address).await.unwrap();
                // And the beginning of an encrypted record of 512 bytes (section 5.2).
                self.bytes(tcp, &[&self.client_hello()[..], &[23, 3, 3, 2, 0]].concat(), 1).await;
            }
            Slow::Head => {
                self.begun(b"http/1.1", b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nx: ").await;
            }
            Slow::Body => {
                let head = b"POST /v1/principals HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
                self.begun(b"http/1.1", head).await;
            }
            Slow::HeadFrame => {
                // No settings, and HEADERS of 1,000 bytes (RFC 9113 section 4.1).
                let frames = b"\0\0\0\x04\0\0\0\0\0\0\x03\xe8\x01\x05\0\0\0\x01";
                self.begun(b"h2", &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frames[..]].concat()).await;
            }
            Slow::Message => self.message().await,
        }
    }

    fn client_hello(&self) -> Vec<u8> {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut session = rustls::ClientConnection::new(self.tls.clone(), name).unwrap();
        let mut bytes = Vec::new();
        session.write_tls(&mut bytes).unwrap();
        bytes
    }

    async fn begun(&self, alpn: &[u8], beginning: &[u8]) {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let stream = airunner_net::connect(Arc::new(tls), "localhost", &self.address.to_string()).await;
        // In a crowd of such clients a handshake may fail.
        if let Ok(stream) = stream {
            self.bytes(stream, beginning, b'x').await;
        }
    }

    /// Sends the beginning, and then a byte at a time, until the server hangs up or has answered.
    async fn bytes<S: AsyncRead + AsyncWrite>(&self, stream: S, beginning: &[u8], byte: u8) {
        let (mut from, mut to) = tokio::io::split(Box::pin(stream));
        let _connected = self.connected();
        let _cut = to.write_all(beginning).await;
        let writing = async {
            let mut pace = interval(self.pace);
            loop {
                pace.tick().await;
                if to.write_all(&[byte]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = from.read_to_end(&mut answer) => {}
            () = writing => {}
        }
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "it was served");
    }

    async fn message(&self) {
        let address = self.address.to_string();
        let Ok(stream) = airunner_net::connect(self.tls.clone(), "localhost", &address).await else { return };
        let _connected = self.connected();
        let Ok(mut wire) = Wire::begin(stream).await else { return };
        let headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", GET_PRINCIPAL),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut pace = interval(self.pace);
        let _cut = wire.send(&[WireFrame::request(1, &headers, false)]).await;
        loop {
            pace.tick().await;
            if wire.send(&[WireFrame::data(1, &[0])]).await.is_err() {
                return;
            }
            // What has come by now: an answer, or the end.
            while let Ok(frame) = timeout(Duration::from_millis(1), wire.next()).await {
                let Ok(frame) = frame else { return };
                if frame.kind == WireFrame::HEADERS || frame.error_code().is_some() {
                    return;
                }
            }
        }
    }

    fn connected(&self) -> Connected {
        self.connected.fetch_add(1, SeqCst);
        Connected(self.connected.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_finish_is_cut_whatever_it_does_not_finish() {
    let short = Duration::from_millis(300);
    let limits = Limits {
        handshake_timeout: short,
        header_read_timeout: short,
        ping_interval: short,
        ping_timeout: short,
        drain_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let options = TestServerOptions {
        stranger_limits: limits.clone(),
        limits,
        body_timeout: short,
        ..TestServerOptions::default()
    };
    let server = TestServer::start_with(options).await;
    for address in [server.addresses.api, server.addresses.public.unwrap()] {
        let slowness = Slowness {
            tls: server.tls(Some(&server.admin)),
            address,
            pace: Duration::from_millis(10),
            connected: Arc::default(),
        };
        for what in Slow::ALL {
            let cut = timeout(Duration::from_secs(20), slowness.dribble(what)).await;
            assert!(cut.is_ok(), "{what:?} goes on for ever");
        }
    }
    server.stop().await;
}

/// Slow clients.
const CROWD: usize = 500;
/// Calls of a round.
const CALLS: usize = 100;
/// Rounds, of whose p99 the median counts.
const ROUNDS: usize = 5;
/// Tries: a neighbour on this machine may spoil one.
const TRIES: usize = 8;
/// How long the rounds may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// What is quicker than this is not told apart from noise.
const FLOOR: Duration = Duration::from_millis(1);

/// The slow clients, in a thread of their own; one that fails to get in is followed by another.
struct Crowd {
    slowness: Slowness,
    runtime: tokio::runtime::Runtime,
}

impl Crowd {
    async fn gather(server: &TestServer, kinds: &'static [Slow]) -> Self {
        let slowness = Slowness {
            tls: server.tls(Some(&server.admin)),
            address: server.addresses.api,
            pace: Duration::from_secs(1),
            connected: Arc::default(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        for n in 0..CROWD {
            let slowness = slowness.clone();
            runtime.spawn(async move {
                loop {
                    slowness.dribble(kinds[n % kinds.len()]).await;
                }
            });
        }
        let crowd = Self { slowness, runtime };
        eventually("the crowd is there", async || crowd.size() >= CROWD * 95 / 100).await;
        crowd
    }

    fn size(&self) -> usize {
        self.slowness.connected.load(SeqCst)
    }

    fn disperse(self) {
        self.runtime.shutdown_background();
    }
}

/// The 99th of a hundred, at least as slow as `FLOOR`.
async fn p99(mut call: impl AsyncFnMut()) -> Duration {
    let mut took = Vec::new();
    for _ in 0..CALLS {
        let begun = SystemClock.monotonic();
        call().await;
        took.push(SystemClock.monotonic().since(begun));
    }
    took.sort_unstable();
    took[CALLS * 99 / 100 - 1].max(FLOOR)
}

/// The median p99 of calls on a connection that is there, and of calls on a new connection each.
async fn measure(server: &TestServer) -> [Duration; 2] {
    let client = admin(server).await;
    let (mut warm, mut new) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        warm.push(p99(async || called(&client).await).await);
        new.push(p99(async || called(&admin(server).await).await).await);
    }
    [warm, new].map(|mut all| {
        all.sort_unstable();
        all[ROUNDS / 2]
    })
}

async fn called(client: &RawClient) {
    assert_eq!(client.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
}

/// Measures with a crowd of these kinds and without, until the crowd costs no more than as much again.
async fn hold_nobody_up(kinds: &'static [Slow]) {
    // Nobody is cut while it is measured: that would only help.
    let limits = Limits {
        handshake_timeout: 2 * PATIENCE,
        header_read_timeout: 2 * PATIENCE,
        drain_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let options = TestServerOptions { limits, body_timeout: 2 * PATIENCE, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let before = measure(&server).await;
        let crowd = Crowd::gather(&server, kinds).await;
        let crowded = timeout(PATIENCE, measure(&server)).await;
        let crowded = crowded.unwrap_or_else(|_| panic!("the crowd holds everyone up"));
        assert!(crowd.size() >= CROWD * 95 / 100, "the crowd stayed: {}", crowd.size());
        crowd.disperse();
        let after = measure(&server).await;
        let quiet = [before[0].max(after[0]), before[1].max(after[1])];
        seen.push((quiet, crowded));
        if crowded.iter().zip(quiet).all(|(crowded, quiet)| *crowded <= quiet * 2) {
            server.stop().await;
            return;
        }
    }
    panic!("the p99 is more than doubled every time (warm and new connections, quiet and crowded): {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_clients_hold_nobody_up() {
    hold_nobody_up(&Slow::ALL).await;
    hold_nobody_up(&[Slow::HandshakeHalfway]).await;
}
