//! The server's side of a TLS handshake on an accepted connection: its time, its turn, and the alert that must reach
//! the client when it fails. Which certificates count is decided in `verifier`.

use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use rustls::{CertificateError, ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::Limits;

/// How long a refused client may take to read its alert and hang up.
const LINGER: Duration = Duration::from_secs(1);
/// How much a refused client may still send while it does.
const LINGER_BYTES: u64 = 64 * 1024;

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The listener has as many connections as it may have.
    Full,
    /// The address has as many connections as one may have.
    AddressFull,
    /// The peer is a balancer, and what it sent first is no PROXY header of version 2.
    Proxy,
    /// The client took too long.
    TimedOut,
    /// The client hung up.
    HungUp,
    /// What the client sent is not TLS, or not TLS as we allow it.
    Protocol,
    /// The client would not have our certificate.
    ByClient,
    /// The client showed no certificate.
    NoCertificate,
    /// The client's certificate was signed by no issuer that we trust.
    UnknownIssuer,
    /// The client's certificate is past its time, or before it.
    Expired,
    /// The client's certificate was revoked.
    Revoked,
    /// The client's certificate is malformed, or not made for clients, or its key was not proven.
    BadCertificate,
}

impl Refusal {
    /// The reason in one word, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::Proxy => "proxy",
            Self::TimedOut => "timed-out",
            Self::HungUp => "hung-up",
            Self::Protocol => "protocol",
            Self::ByClient => "by-client",
            Self::NoCertificate => "no-certificate",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::BadCertificate => "bad-certificate",
        }
    }

    fn of(error: &io::Error) -> Self {
        use rustls::Error as E;
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<E>()) else {
            return Self::HungUp;
        };
        match error {
            E::NoCertificatesPresented => Self::NoCertificate,
            E::AlertReceived(_) => Self::ByClient,
            E::InvalidCertificate(reason) => match reason {
                CertificateError::Revoked => Self::Revoked,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                _ => Self::BadCertificate,
            },
            _ => Self::Protocol,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Shakes hands, within the limits' time and in turn: `places` are the handshakes that may be under way.
pub(crate) async fn shake_hands(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
    limits: &Limits,
    places: &Semaphore,
) -> Result<Box<TlsStream<TcpStream>>, Refusal> {
    let outcome = timeout(limits.handshake_timeout, attempt(tcp, config, limits, places)).await;
    match outcome {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((refusal, tcp))) => {
            if let Some(tcp) = tcp.filter(|_| refusal != Refusal::HungUp) {
                linger(tcp, LINGER_BYTES).await;
            }
            Err(refusal)
        }
        Err(_) => Err(Refusal::TimedOut),
    }
}

async fn attempt(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
    limits: &Limits,
    places: &Semaphore,
) -> Result<Box<TlsStream<TcpStream>>, (Refusal, Option<TcpStream>)> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let hello = match Pin::new(&mut acceptor).await {
        Ok(hello) => hello,
        Err(error) => return Err((Refusal::of(&error), acceptor.take_io())),
    };
    // The semaphore is never closed; without a place the handshake would only be less bounded.
    let _place = places.acquire().await.ok();
    let crowded = places.available_permits() < limits.max_handshakes / 2;
    let patience = if crowded { limits.handshake_timeout / 5 } else { limits.handshake_timeout };
    match timeout(patience, hello.into_stream(Arc::clone(config)).into_fallible()).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err((error, tcp))) => Err((Refusal::of(&error), Some(tcp))),
        Err(_) => Err((Refusal::TimedOut, None)),
    }
}

/// Half-closes and reads what the client still sends. A socket that is closed with bytes unread resets the connection,
/// and the reset would overtake the alert, which says why.
pub(crate) async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, bytes: u64) {
    // Whether the client hung up, failed or took too long: the connection is over.
    let _ended = timeout(LINGER, async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(bytes), &mut tokio::io::sink()).await
    })
    .await;
}
