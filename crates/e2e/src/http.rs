//! One HTTP/1.1 request on a connection of its own, with whatever headers a test likes; over TLS or without.

use std::sync::Arc;

use airunner_core::{Label, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What came back.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl HttpAnswer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends a request without TLS.
///
/// # Errors
/// `unreachable`.
pub async fn http(
    address: std::net::SocketAddr,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<HttpAnswer> {
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = stream.map_err(|error| airunner_core::Error::new(Label::Unreachable, error.to_string()))?;
    exchange(stream, &address.to_string(), verb, path, headers, b"").await
}

/// Sends a request with a body without TLS.
///
/// # Errors
/// `unreachable`.
pub async fn http_send(
    address: std::net::SocketAddr,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HttpAnswer> {
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = stream.map_err(|error| airunner_core::Error::new(Label::Unreachable, error.to_string()))?;
    exchange(stream, &address.to_string(), verb, path, headers, body).await
}

/// Sends a request over TLS.
///
/// # Errors
/// `unreachable`, and what TLS says.
pub async fn https(
    tls: &rustls::ClientConfig,
    address: std::net::SocketAddr,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<HttpAnswer> {
    https_send(tls, address, verb, path, headers, b"").await
}

/// Sends a request with a body over TLS.
///
/// # Errors
/// `unreachable`, and what TLS says.
pub async fn https_send(
    tls: &rustls::ClientConfig,
    address: std::net::SocketAddr,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HttpAnswer> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = airunner_net::connect(Arc::new(tls), "localhost", &address.to_string()).await?;
    exchange(stream, &address.to_string(), verb, path, headers, body).await
}

#[expect(clippy::expect_used, reason = "a test fails by panicking")]
async fn exchange<S>(
    stream: S,
    host: &str,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<HttpAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| airunner_core::Error::new(Label::Unreachable, format!("{error:?}"));
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(failed)?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(verb).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, host);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(failed)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(HttpAnswer { status: head.status, headers: head.headers, body })
}
