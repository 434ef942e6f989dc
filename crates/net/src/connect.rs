//! Connects a client: TCP, TLS, and a stream that remembers the alert that ended it.

use std::{
    io,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use airunner_core::{Error, Label, Result};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{FailureSlot, TlsFailure};

/// How long name look-up, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `address` (`host:port`) and verifies that the server is `server_name` (a DNS name or an IP address).
///
/// A server that can't be reached or verified is `unreachable`. That the server refuses our certificate is known only
/// after this: at the first read, see [`ClientStream`].
pub async fn connect(config: Arc<ClientConfig>, server_name: &str, address: &str) -> Result<ClientStream> {
    // A URI writes an IPv6 address in brackets, a certificate does not.
    let bare = server_name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(server_name);
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
        Error::invalid("server_name", format!("{server_name:?} is neither a DNS name nor an IP address"))
    })?;
    let attempt = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    match timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(Ok(tls)) => Ok(ClientStream {
            tls: Box::new(tls),
            failure: FailureSlot::default(),
            open: watch::Sender::new(()),
        }),
        Ok(Err(error)) => Err(failed(address, error)),
        Err(_) => Err(unreachable(address, "it does not answer")),
    }
}

fn failed(address: &str, error: io::Error) -> Error {
    match TlsFailure::of_io(&error) {
        Some(failure) => Error::new(failure.label(), format!("{address}: {failure}")),
        None => unreachable(address, &error.to_string()),
    }
    .with_cause(error)
}

fn unreachable(address: &str, why: &str) -> Error {
    let advice = "check that the server runs and that the address is right";
    Error::new(Label::Unreachable, format!("can't reach {address}: {why}; {advice}"))
}

/// A client's TLS connection. The first read or write that fails for a reason of TLS fails with a [`TlsFailure`]
/// inside, which [`crate::tls_failure`] finds under any wrapping; the [`FailureSlot`] keeps it for those whose request
/// was only told that the connection is gone.
#[derive(Debug)]
pub struct ClientStream {
    tls: Box<TlsStream<TcpStream>>,
    failure: FailureSlot,
    /// There as long as the stream.
    open: watch::Sender<()>,
}

/// Tells when a [`ClientStream`] is gone, to those who wait for what can only come over it. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct StreamEnd(watch::Receiver<()>);

impl StreamEnd {
    /// Returns once the stream was dropped.
    pub async fn reached(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl ClientStream {
    /// Where the failure that ends this connection will stand.
    pub fn failure(&self) -> FailureSlot {
        self.failure.clone()
    }

    /// When this stream is gone.
    pub fn end(&self) -> StreamEnd {
        StreamEnd(self.open.subscribe())
    }

    /// What was negotiated, and the chain that the server showed.
    pub fn session(&self) -> &ClientConnection {
        self.tls.get_ref().1
    }

    fn labelled(&self, error: io::Error) -> io::Error {
        let Some(failure) = TlsFailure::of_io(&error) else {
            return error;
        };
        self.failure.set(failure);
        io::Error::new(error.kind(), failure)
    }

    /// The error of a write that failed. The server may have refused us and hung up: then the alert, which is the
    /// reason, lies unread.
    fn write_failure(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut scratch = [0; 1];
        let read = Pin::new(self.tls.as_mut()).poll_read(cx, &mut ReadBuf::new(&mut scratch));
        match read {
            Poll::Ready(Err(alert)) if TlsFailure::of_io(&alert).is_some() => self.labelled(alert),
            _ => self.labelled(error),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.tls.as_mut()).poll_read(cx, buffer).map_err(|error| self.labelled(error))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.tls.as_mut()).poll_write(cx, bytes).map_err(|error| self.write_failure(cx, error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.tls.as_mut()).poll_flush(cx).map_err(|error| self.write_failure(cx, error))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.tls.as_mut()).poll_shutdown(cx).map_err(|error| self.labelled(error))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.tls.as_mut())
            .poll_write_vectored(cx, slices)
            .map_err(|error| self.write_failure(cx, error))
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
