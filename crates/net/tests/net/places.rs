//! The places that one address may take, and clients that take nothing of what they are sent.

use std::{net::SocketAddr, time::Duration};

use airunner_net::{Limits, Refusal};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::bed::{Bed, Client1, Options, soon};

fn options(plain: bool, change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = Options { plain, ..Options::default() };
    change(&mut options.limits);
    options
}

/// Connects from another address of this machine.
async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn hung_up(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    let _how = soon(tcp.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn an_address_that_has_its_share_gets_no_more_and_others_are_served() {
    let mut bed = Bed::with(options(true, |limits| limits.max_connections_per_address = Some(2))).await;
    let dial = async || TcpStream::connect(bed.address).await.unwrap();
    let (mut first, second) = (Client1::over(dial().await).await, Client1::over(dial().await).await);
    hung_up(&mut dial().await).await;
    assert_eq!(first.get("/hello").await.unwrap(), "hello", "who is in stays");
    let mut other = Client1::over(connect_from("127.0.0.2", bed.address).await).await;
    assert_eq!(other.get("/hello").await.unwrap(), "hello");

    drop(second);
    soon(async {
        loop {
            let mut again = Client1::over(TcpStream::connect(bed.address).await.unwrap()).await;
            if again.get("/hello").await.is_ok() {
                return;
            }
        }
    })
    .await;
    assert_eq!(bed.next_refusal().await, Refusal::AddressFull);
}

#[tokio::test]
async fn an_address_may_keep_so_many_handshakes_open_and_any_number_of_connections() {
    let mut bed = Bed::with(options(false, |limits| limits.max_handshakes_per_address = 2)).await;
    let mut known = Vec::new();
    for _ in 0..5 {
        let mut client = bed.client().await;
        assert_eq!(client.get("/hello").await.unwrap(), "hello");
        known.push(client);
    }
    let silent =
        [TcpStream::connect(bed.address).await.unwrap(), TcpStream::connect(bed.address).await.unwrap()];
    hung_up(&mut TcpStream::connect(bed.address).await.unwrap()).await;
    assert_eq!(bed.next_refusal().await, Refusal::AddressFull);
    let mut other = connect_from("127.0.0.2", bed.address).await;
    let mut byte = [0];
    let waits = tokio::time::timeout(Duration::from_millis(50), other.read(&mut byte)).await;
    assert!(waits.is_err(), "another address has places of its own");
    drop(silent);
    assert_eq!(bed.next_refusal().await, Refusal::HungUp);
    assert_eq!(bed.next_refusal().await, Refusal::HungUp);
    assert_eq!(bed.hello(Some(&bed.ca.client())).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    for plain in [true, false] {
        let mut bed =
            Bed::with(options(plain, |limits| limits.stall_timeout = Duration::from_millis(200))).await;
        let open = async |client: &mut Client1| client.open("/stream").await.unwrap();
        let mut client = if plain {
            Client1::over(TcpStream::connect(bed.address).await.unwrap()).await
        } else {
            let mut config = (*bed.client_config(Some(&bed.ca.client()))).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let stream = airunner_net::connect(config.into(), "localhost", &bed.address.to_string()).await;
            Client1::over(stream.unwrap()).await
        };
        let unread = open(&mut client).await;
        soon(bed.dropped.recv()).await.unwrap();
        drop(unread);
        client.ended().await;
    }
}
