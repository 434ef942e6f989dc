//! Behind a balancer: the client is where the balancer says, and who is no balancer can't say anything.

use std::{net::SocketAddr, time::Duration};

use airunner_net::{Limits, Refusal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::bed::{Bed, Client1, Options, soon};

const CLIENT: [u8; 4] = [192, 0, 2, 9];

/// What a balancer sends before the client's first byte.
fn header(command: u8, client: [u8; 4], port: u16) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1], &port.to_be_bytes(), &443_u16.to_be_bytes()].concat();
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, 0x11], &length, &addresses].concat()
}

/// A listener to which 127.0.0.1 is a balancer.
async fn bed(plain: bool, change: impl FnOnce(&mut Limits)) -> Bed {
    let mut options = Options { plain, proxies: vec!["127.0.0.1".parse().unwrap()], ..Options::default() };
    change(&mut options.limits);
    Bed::with(options).await
}

async fn dial(bed: &Bed, header: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(bed.address).await.unwrap();
    tcp.write_all(header).await.unwrap();
    tcp
}

async fn from_elsewhere(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn the_client_is_where_the_balancer_says_also_under_tls() {
    let mut bed = bed(true, |_| {}).await;
    let mut client = Client1::over(dial(&bed, &header(1, CLIENT, 7_000)).await).await;
    assert_eq!(client.get("/hello").await.unwrap(), "hello");
    let (peer, _) = soon(bed.connections.recv()).await.unwrap();
    assert_eq!(peer.address, "192.0.2.9:7000".parse().unwrap());

    let mut bed = self::bed(false, |_| {}).await;
    let tcp = dial(&bed, &header(1, CLIENT, 7_001)).await;
    let mut config = (*bed.client_config(Some(&bed.ca.client()))).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let mut client = Client1::over(tls).await;
    assert_eq!(client.get("/hello").await.unwrap(), "hello");
    let (peer, _) = soon(bed.connections.recv()).await.unwrap();
    assert_eq!(peer.address, "192.0.2.9:7001".parse().unwrap());
}

#[tokio::test]
async fn a_health_check_of_the_balancer_is_served_as_its_own() {
    let mut bed = bed(true, |limits| limits.max_connections_per_address = Some(1)).await;
    let mut first = Client1::over(dial(&bed, &header(0, [0; 4], 0)).await).await;
    let mut second = Client1::over(dial(&bed, &header(0, [0; 4], 0)).await).await;
    assert_eq!(first.get("/hello").await.unwrap(), "hello");
    assert_eq!(second.get("/hello").await.unwrap(), "hello", "the balancer is no client with a share");
    let (peer, _) = soon(bed.connections.recv()).await.unwrap();
    assert_eq!(peer.address.ip(), std::net::Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn a_balancer_without_a_header_is_cut_off() {
    let mut bed = bed(true, |limits| limits.handshake_timeout = Duration::from_millis(200)).await;
    for (sent, refusal) in [
        (&b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], Refusal::Proxy),
        (b"PROXY TCP4 192.0.2.9 10.0.0.1 7000 443\r\n", Refusal::Proxy),
        (b"\r\n\r\n\0\r\nQU", Refusal::TimedOut),
        (b"", Refusal::TimedOut),
    ] {
        let mut tcp = dial(&bed, sent).await;
        let mut rest = Vec::new();
        let _how = soon(tcp.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"", "something was served");
        assert_eq!(bed.next_refusal().await, refusal);
    }
}

#[tokio::test]
async fn a_header_from_elsewhere_is_taken_for_what_it_is_not() {
    let mut bed = bed(true, |_| {}).await;
    let mut plain = Client1::over(from_elsewhere(bed.address).await).await;
    assert_eq!(plain.get("/hello").await.unwrap(), "hello", "who is no balancer needs no header");
    let (peer, _) = soon(bed.connections.recv()).await.unwrap();
    assert_eq!(peer.address.ip().to_string(), "127.0.0.2");
    let mut tcp = from_elsewhere(bed.address).await;
    tcp.write_all(&header(1, CLIENT, 7_000)).await.unwrap();
    tcp.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _how = soon(tcp.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("hello"), "a forged header was taken");
}

#[tokio::test]
async fn limits_of_an_address_hold_for_the_client_and_not_for_the_balancer() {
    let mut bed = bed(true, |limits| limits.max_connections_per_address = Some(1)).await;
    let mut first = Client1::over(dial(&bed, &header(1, CLIENT, 7_000)).await).await;
    assert_eq!(first.get("/hello").await.unwrap(), "hello");
    let mut again = dial(&bed, &header(1, CLIENT, 7_001)).await;
    let mut rest = Vec::new();
    let _how = soon(again.read_to_end(&mut rest)).await;
    assert_eq!(bed.next_refusal().await, Refusal::AddressFull);
    let mut other = Client1::over(dial(&bed, &header(1, [192, 0, 2, 10], 7_000)).await).await;
    assert_eq!(other.get("/hello").await.unwrap(), "hello");
}
