//! The listener: its limits, its shutdown, and the connections that it must not serve.

use std::time::Duration;

use airunner_core::Label;
use airunner_net::{Limits, Listener, Refusal};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bed::{Bed, Client, Client1, Options, soon};

fn short(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = Options::default();
    change(&mut options.limits);
    options
}

/// Reads until the server hangs up, cleanly or not.
async fn hung_up(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    let _how = soon(tcp.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_when_its_time_is_over() {
    let mut bed = Bed::with(short(|limits| limits.handshake_timeout = Duration::from_millis(50))).await;
    let mut tcp = TcpStream::connect(bed.address).await.unwrap();
    hung_up(&mut tcp).await;
    assert_eq!(bed.next_refusal().await, Refusal::TimedOut);
}

#[tokio::test]
async fn a_refused_client_reads_its_alert_and_no_reset_however_much_it_has_sent() {
    let mut bed = Bed::new().await;
    let mut tcp = TcpStream::connect(bed.address).await.unwrap();
    tcp.write_all(&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000)).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut alert = Vec::new();
    soon(tcp.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "content type alert (RFC 8446 section 5.1): {alert:?}");
    assert_eq!(bed.next_refusal().await, Refusal::Protocol);
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_stop_others() {
    let bed = Bed::new().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(bed.address).await.unwrap());
    }
    assert_eq!(bed.hello(Some(&bed.ca.client())).await.unwrap(), "hello");
}

#[tokio::test]
async fn clients_that_stop_halfway_are_cut_and_make_place() {
    let options = short(|limits| {
        limits.max_handshakes = 8;
        limits.handshake_timeout = Duration::from_secs(2);
    });
    let mut bed = Bed::with(options).await;
    let mut halfway = Vec::new();
    for _ in 0..300 {
        let mut tcp = TcpStream::connect(bed.address).await.unwrap();
        tcp.write_all(&client_hello(&bed)).await.unwrap();
        halfway.push(tcp);
    }
    for _ in 0..300 {
        assert_eq!(bed.next_refusal().await, Refusal::TimedOut);
    }
    assert_eq!(bed.hello(Some(&bed.ca.client())).await.unwrap(), "hello");
}

#[tokio::test]
async fn in_a_crowd_who_stops_halfway_is_cut_sooner() {
    let options = short(|limits| {
        limits.max_handshakes = 4;
        limits.handshake_timeout = Duration::from_secs(2);
    });
    let mut bed = Bed::with(options).await;
    let first = TcpStream::connect(bed.address).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..4 {
        let mut tcp = TcpStream::connect(bed.address).await.unwrap();
        tcp.write_all(&client_hello(&bed)).await.unwrap();
        crowd.push(tcp);
    }
    assert_eq!(bed.next_refusal().await, Refusal::TimedOut);
    let still = first.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock, "the one that came first has its whole time");
}

fn client_hello(bed: &Bed) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(bed.client_config(None), name).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_a_freed_place_is_used() {
    let mut bed = Bed::with(short(|limits| limits.max_connections = 2)).await;
    let (mut first, second) = (bed.client().await, bed.client().await);
    let mut third = TcpStream::connect(bed.address).await.unwrap();
    hung_up(&mut third).await;
    assert_eq!(bed.next_refusal().await, Refusal::Full);
    assert_eq!(first.get("/hello").await.unwrap(), "hello");

    bed.next_connection().await;
    let (_, handle) = bed.next_connection().await;
    handle.close();
    second.ended().await;
    soon(async {
        while bed.dial(Some(&bed.ca.client())).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_busy_port_is_an_error_that_names_address_and_setting() {
    let bed = Bed::new().await;
    let error = Listener::bind(bed.address, "server.api_addr").await.unwrap_err();
    assert_eq!(error.label(), Label::Config);
    for part in [&bed.address.to_string(), "server.api_addr", "another program"] {
        assert!(error.message().contains(part), "{error}");
    }
}

/// Returns when the listener's socket is closed.
async fn refuses_connections(bed: &Bed) {
    soon(async {
        while TcpStream::connect(bed.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn at_shutdown_open_requests_finish_and_new_connections_are_refused() {
    let mut bed = Bed::new().await;
    let (mut client, mut client1) = (bed.client().await, http1_client(&bed).await);
    let (idle, mut idle1) = (bed.client().await, http1_client(&bed).await);
    assert_eq!(idle1.get("/hello").await.unwrap(), "hello");
    let open = tokio::spawn(async move { client.get("/slow").await });
    let open1 = tokio::spawn(async move { client1.get("/slow").await });
    soon(bed.entered.recv()).await.unwrap();
    soon(bed.entered.recv()).await.unwrap();

    bed.shutdown.cancel();
    refuses_connections(&bed).await;
    idle.ended().await;
    idle1.ended().await;
    assert!(!bed.served.is_finished(), "the listener did not wait for open requests");

    bed.stage.release.send_replace(true);
    assert_eq!(soon(open).await.unwrap().unwrap(), "done");
    assert_eq!(soon(open1).await.unwrap().unwrap(), "done");
    soon(bed.served).await.unwrap();
}

async fn http1_client(bed: &Bed) -> Client1 {
    let mut config = (*bed.client_config(Some(&bed.ca.client()))).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let address = bed.address.to_string();
    Client1::over(soon(airunner_net::connect(config.into(), "localhost", &address)).await.unwrap()).await
}

#[tokio::test]
async fn at_shutdown_a_connection_in_its_handshake_is_dropped() {
    let bed = Bed::new().await;
    let mut tcp = TcpStream::connect(bed.address).await.unwrap();
    assert_eq!(bed.hello(Some(&bed.ca.client())).await.unwrap(), "hello", "the first was not accepted yet");
    bed.shutdown.cancel();
    hung_up(&mut tcp).await;
    soon(bed.served).await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_the_time_to_drain_is_closed() {
    let mut bed = Bed::with(short(|limits| limits.drain_timeout = Duration::from_millis(100))).await;
    let (mut client, mut client1) = (bed.client().await, http1_client(&bed).await);
    let stream = client.open("/stream").await.unwrap();
    let stream1 = client1.open("/stream").await.unwrap();
    bed.shutdown.cancel();
    soon(&mut bed.served).await.unwrap();
    soon(bed.dropped.recv()).await.unwrap();
    soon(bed.dropped.recv()).await.unwrap();
    drop((stream, stream1));
    client.ended().await;
}

#[tokio::test]
async fn a_listener_that_is_dropped_takes_its_connections_along() {
    let mut bed = Bed::new().await;
    let mut client = bed.client().await;
    let _stream = client.open("/stream").await.unwrap();
    bed.served.abort();
    soon(bed.dropped.recv()).await.unwrap();
    client.ended().await;
}

#[tokio::test]
async fn without_tls_both_versions_of_http_are_served() {
    let mut bed = Bed::with(Options { plain: true, ..Options::default() }).await;
    let dial = async || TcpStream::connect(bed.address).await.unwrap();
    assert_eq!(Client::over(dial().await).await.get("/hello").await.unwrap(), "hello");
    assert_eq!(Client1::over(dial().await).await.get("/hello").await.unwrap(), "hello");
    let (peer, _) = bed.next_connection().await;
    assert!(peer.certificates.is_empty() && peer.alpn.is_none());
}

#[test]
fn a_listener_survives_running_out_of_files() {
    let this = std::env::current_exe().unwrap();
    let child = "connections::runs_out_of_files";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --exact \"$1\" --ignored --nocapture"])
        .arg(this)
        .arg(child)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "takes all files of its process: run by a_listener_survives_running_out_of_files in a process of its own"]
async fn runs_out_of_files() {
    let (warned, mut warnings) = tokio::sync::mpsc::unbounded_channel();
    let _guard = tracing::subscriber::set_default(Warnings(warned));
    let bed = Bed::with(Options { plain: true, ..Options::default() }).await;
    // This runtime has one thread, so nothing is accepted before the first await.
    let waiting = std::net::TcpStream::connect(bed.address).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    soon(warnings.recv()).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(warnings.try_recv().is_err(), "the accept loop does not rest");
    drop((waiting, taken));
    let mut client = Client1::over(TcpStream::connect(bed.address).await.unwrap()).await;
    assert_eq!(client.get("/hello").await.unwrap(), "hello");
}

/// Hears warnings, and nothing else.
struct Warnings(tokio::sync::mpsc::UnboundedSender<()>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.send(()).ok();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
