//! HTTP on a connection: drain, close, idle time and silence.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bed::{Bed, Client, Client1, Options, soon};

/// Reads the next piece of a stream; none when it has ended, however.
async fn next_piece(body: &mut Incoming) -> Option<bytes::Bytes> {
    soon(body.frame()).await?.ok()?.into_data().ok()
}

/// Reads a stream to its end.
async fn runs_out(body: &mut Incoming) {
    while next_piece(body).await.is_some() {}
}

#[tokio::test]
async fn a_stream_flows_until_its_connection_is_closed() {
    let mut bed = Bed::new().await;
    let mut client = bed.client().await;
    let (_, handle) = bed.next_connection().await;
    let mut body = client.open("/stream").await.unwrap().into_body();
    for _ in 0..1_000 {
        assert!(next_piece(&mut body).await.is_some());
    }

    handle.close();

    soon(bed.dropped.recv()).await.unwrap();
    runs_out(&mut body).await;
    client.ended().await;
}

#[tokio::test]
async fn closing_drops_a_request_that_waits_and_leaves_other_connections_alone() {
    let mut bed = Bed::new().await;
    let (mut client, mut other) = (bed.client().await, bed.client().await);
    let (_, first) = bed.next_connection().await;
    let open = tokio::spawn(async move { client.get("/slow").await });
    soon(bed.entered.recv()).await.unwrap();

    first.close();

    soon(bed.dropped.recv()).await.unwrap();
    assert!(soon(open).await.unwrap().is_err());
    assert_eq!(other.get("/hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn draining_finishes_what_is_open_and_takes_nothing_new() {
    let mut bed = Bed::new().await;
    let mut client = bed.client().await;
    let (_, handle) = bed.next_connection().await;
    let mut body = client.open("/stream").await.unwrap().into_body();

    handle.drain();

    soon(async { while client.open("/hello").await.is_ok() {} }).await;
    for _ in 0..1_000 {
        assert!(next_piece(&mut body).await.is_some(), "draining cut an open stream");
    }
    drop(body);
    client.ended().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_asked_to_leave() {
    let mut options = Options::default();
    options.limits.header_read_timeout = Duration::from_millis(500);
    options.limits.idle_timeout = Duration::from_millis(200);
    let bed = Bed::with(options).await;
    let mut client = bed.client().await;
    assert_eq!(client.get("/hello").await.unwrap(), "hello");
    client.ended().await;
}

#[tokio::test]
async fn silence_and_half_a_preface_and_half_a_head_are_cut() {
    let mut options = Options { plain: true, ..Options::default() };
    options.limits.header_read_timeout = Duration::from_millis(50);
    let bed = Bed::with(options).await;
    for beginning in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET /hello HTTP/1.1\r\nHost: "] {
        let mut tcp = TcpStream::connect(bed.address).await.unwrap();
        tcp.write_all(beginning).await.unwrap();
        let mut said = Vec::new();
        let _how = soon(tcp.read_to_end(&mut said)).await;
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{beginning:?} was answered");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let bed = Bed::with(Options { plain: true, ..Options::default() }).await;
    let mut tcp = TcpStream::connect(bed.address).await.unwrap();
    let head = format!("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    // The server may hang up before it has read all of it.
    let _cut = tcp.write_all(head.as_bytes()).await;
    let mut said = Vec::new();
    let _how = soon(tcp.read_to_end(&mut said)).await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "a head of 40 KB was taken");
}

#[tokio::test]
async fn closing_ends_an_http_1_stream_too() {
    let mut bed = Bed::with(Options { plain: true, ..Options::default() }).await;
    let mut client = Client1::over(TcpStream::connect(bed.address).await.unwrap()).await;
    let (_, handle) = bed.next_connection().await;
    let mut body = client.open("/stream").await.unwrap().into_body();
    assert!(next_piece(&mut body).await.is_some());
    handle.close();
    soon(bed.dropped.recv()).await.unwrap();
    runs_out(&mut body).await;
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let bed = Bed::new().await;
    let leaf = bed.ca.client();
    let mut client = Client::over(bed.dial(Some(&leaf)).await.unwrap()).await;
    for _ in 0..500 {
        assert_eq!(client.get("/hello").await.unwrap(), "hello");
    }
}
