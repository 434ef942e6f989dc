//! An accepted connection: its bytes, who is at the other end, and the handle that ends it. HTTP is not spoken here.

use std::{
    fmt, io,
    io::IoSlice,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// The other end.
    pub peer: Peer,
    /// What ends it.
    pub handle: ConnectionHandle,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The chain that the client showed, leaf first; empty where none was asked for. The leaf is verified, with proof
    /// of its key. **Of the rest nothing is.**
    pub certificates: Vec<CertificateDer<'static>>,
    /// What ALPN (RFC 7301) chose; none without TLS or where the client offers none of ours.
    pub alpn: Option<Protocol>,
}

impl Peer {
    /// The client's verified certificate.
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.first()
    }
}

/// An application protocol that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
}

/// The bytes of a connection, with or without TLS.
pub enum Stream {
    /// As they come.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What is known of the client at `address` after the handshake.
    pub(crate) fn peer(&self, address: SocketAddr) -> Peer {
        let Self::Tls(tls) = self else {
            return Peer { address, certificates: Vec::new(), alpn: None };
        };
        let (_, session) = tls.get_ref();
        let certificates = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let alpn = match session.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(b"http/1.1") => Some(Protocol::Http1),
            _ => None,
        };
        Peer { address, certificates, alpn }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Stream::Plain",
            Self::Tls(_) => "Stream::Tls",
        })
    }
}

macro_rules! either {
    ($stream:ident, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain(plain) => {
                let $inner = Pin::new(plain);
                $call
            }
            Stream::Tls(tls) => {
                let $inner = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }
}

/// Ends a connection, from anywhere. Clones end the same one.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle {
    drain: CancellationToken,
    close: CancellationToken,
    tasks: TaskTracker,
}

impl ConnectionHandle {
    /// The handle of a connection that no listener knows.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle that ends together with this one, or alone.
    pub(crate) fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), close: self.close.child_token(), tasks: self.tasks.clone() }
    }

    /// Closes when the guard is dropped.
    pub(crate) fn close_on_drop(&self) -> DropGuard {
        self.close.clone().drop_guard()
    }

    /// Lets open requests finish and takes no more: GOAWAY in HTTP/2 (RFC 9113 section 6.8), `Connection: close` in
    /// HTTP/1. A connection without open requests ends.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the connection now, whatever is open on it.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.close.is_cancelled()
    }

    /// Returns when [`Self::drain`] is called.
    pub async fn drained(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when [`Self::close`] is called.
    pub async fn closed(&self) {
        self.close.cancelled().await;
    }

    /// The tasks that the listener's shutdown waits for. What serves the connection and is spawned apart belongs here.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}
