//! One question to a listener without a client certificate: that of the public one, over TLS, and those without TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use airunner_client::{Client, ClientOptions, Endpoint};
use airunner_core::{Error, Label};
use airunner_proto::ca::v1::{GetTrustBundleRequest, GetTrustBundleResponse};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;
use crate::failure::Result;

/// Bytes of an answer that are read at most.
const MAX_LEN: u64 = 1 << 20;

/// An answer over HTTP.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) code: u16,
    /// What was said.
    pub(crate) body: String,
}

/// Reads a path of a listener without TLS.
///
/// # Errors
/// `unreachable` where nothing that speaks HTTP answers in time.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let asked = timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_LEN).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    });
    let unreachable = |why: String| Error::new(Label::Unreachable, format!("{address} {why}"));
    let answer = asked.await.map_err(|_| unreachable("does not answer".to_owned()))?;
    let answer = answer.map_err(|error| unreachable(format!("can't be reached: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| unreachable("does not speak HTTP".to_owned()))?;
    Ok(Answer { code, body: body.to_owned() })
}

/// Asks a public listener for the trust bundle, under the roots of `options`.
///
/// # Errors
/// What the call fails with.
pub(crate) async fn trust_bundle(
    address: SocketAddr,
    options: &ClientOptions,
) -> Result<GetTrustBundleResponse> {
    let server: Endpoint = format!("localhost:{}", address.port()).parse()?;
    let roots_pem = options.roots_pem.clone();
    let options = ClientOptions { server, identity: None, roots_pem, timeout: PATIENCE, ..options.clone() };
    let client = Client::new(options)?;
    let asked = timeout(PATIENCE, async {
        Ok(client.certificates().get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner())
    });
    asked
        .await
        .unwrap_or_else(|_| Err(Error::new(Label::Unreachable, format!("{address} does not answer")).into()))
}

/// Where a listener of this machine is reached, whatever it is bound to.
pub(crate) fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
