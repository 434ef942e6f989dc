//! The listener: binds an address, accepts connections, gives each a task, and ends them all at shutdown. What a
//! connection says is none of its business.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use airunner_core::{Error, Label, Result};
use async_trait::async_trait;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Connection, ConnectionHandle, Limits, Network, Refusal, Stream,
    handshake::shake_hands,
    proxy::read_header,
    seats::{Seat, Seats},
};

/// How long the accept loop rests when the system has no socket to give.
const EXHAUSTED_REST: Duration = Duration::from_millis(100);
/// How long the shutdown waits for what was told to end at once.
const ABANDON_AFTER: Duration = Duration::from_secs(2);

/// Serves the connections of a listener.
#[async_trait]
pub trait ConnectionHandler: Send + Sync + 'static {
    /// Serves one connection to its end. It runs in a task of its own and is dropped, wherever it stands, when the
    /// connection's handle is closed.
    async fn serve(&self, connection: Connection);

    /// Hears of a connection that was not served.
    fn refused(&self, address: SocketAddr, refusal: Refusal) {
        tracing::debug!(%address, %refusal, "connection refused");
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    proxies: Vec<Network>,
}

impl Listener {
    /// Binds `address`, which the configuration's key `setting` gave; port 0 takes a free one. `config` when the
    /// address can't be had, with a sentence that names both.
    pub async fn bind(address: SocketAddr, setting: &str) -> Result<Self> {
        let refused = |error: io::Error| bind_error(address, setting, error);
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address, proxies: Vec::new() })
    }

    /// Has connections from these networks begin with a header of the PROXY protocol, version 2, which says where the
    /// client is: it counts from then on, in limits, logs and audit. Without one they are closed. From elsewhere such a
    /// header is not taken for one.
    #[must_use]
    pub fn behind(mut self, proxies: &[Network]) -> Self {
        self.proxies = proxies.to_vec();
        self
    }

    /// The address that was bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

fn bind_error(address: SocketAddr, setting: &str, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: choose one of its own".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "the system does not allow it: ports below 1024 need a privilege, choose a higher one".to_owned()
        }
        _ => error.to_string(),
    };
    Error::new(Label::Config, format!("can't listen on {address} ({setting}): {what}"))
        .with_field(setting)
        .with_cause(error)
}

/// Serves TLS connections until `shutdown`, and then until the last of them has ended.
///
/// At shutdown the socket is closed, connections still in their handshake are dropped, the others are drained (see
/// [`ConnectionHandle::drain`]), and what is left after `limits.drain_timeout` is closed.
pub async fn serve_tls(
    listener: Listener,
    config: Arc<ServerConfig>,
    limits: Limits,
    shutdown: CancellationToken,
    handler: Arc<dyn ConnectionHandler>,
) {
    serve(listener, Some(config), limits, shutdown, handler).await;
}

/// Serves connections without TLS, otherwise like [`serve_tls`].
pub async fn serve_plain(
    listener: Listener,
    limits: Limits,
    shutdown: CancellationToken,
    handler: Arc<dyn ConnectionHandler>,
) {
    serve(listener, None, limits, shutdown, handler).await;
}

async fn serve(
    listener: Listener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    shutdown: CancellationToken,
    handler: Arc<dyn ConnectionHandler>,
) {
    let door = Arc::new(Door {
        tls,
        seats: Seats::new(&limits),
        handshakes: Semaphore::new(limits.max_handshakes),
        limits,
        handler,
        proxies: listener.proxies.clone(),
        all: ConnectionHandle::new(),
    });
    // Also when this future is dropped no connection outlives its listener.
    let _close_all = door.all.close_on_drop();
    let address = listener.local_addr();
    shutdown.run_until_cancelled(door.accept(&listener.socket)).await;
    drop(listener);

    let tasks = door.all.tasks();
    tasks.close();
    door.all.drain();
    if timeout(door.limits.drain_timeout, tasks.wait()).await.is_ok() {
        return;
    }
    tracing::warn!(%address, open = tasks.len(), "closing what did not end in the time to drain");
    door.all.close();
    if timeout(ABANDON_AFTER, tasks.wait()).await.is_err() {
        tracing::error!(%address, open = tasks.len(), "leaving tasks behind that do not end");
    }
}

/// What every connection of one listener shares.
struct Door {
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    handler: Arc<dyn ConnectionHandler>,
    seats: Seats,
    handshakes: Semaphore,
    proxies: Vec<Network>,
    all: ConnectionHandle,
}

impl Door {
    async fn accept(self: &Arc<Self>, socket: &TcpListener) {
        let mut was_full = false;
        loop {
            let (tcp, address) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    rest_after(&error).await;
                    continue;
                }
            };
            let is_proxy = self.proxies.iter().any(|network| network.contains(address.ip()));
            let seat = if is_proxy {
                self.seats.take_unnamed()
            } else {
                self.seats.take(address.ip(), self.tls.is_some())
            };
            let is_full = matches!(seat, Err(Refusal::Full));
            if is_full && !was_full {
                tracing::warn!(
                    limit = self.limits.max_connections,
                    "no room for more connections: closing new ones"
                );
            }
            was_full = is_full;
            match seat {
                Ok(seat) => self.admit(tcp, address, seat, is_proxy),
                Err(refusal) => self.handler.refused(address, refusal),
            }
        }
    }

    fn admit(self: &Arc<Self>, mut tcp: TcpStream, peer: SocketAddr, mut seat: Seat, is_proxy: bool) {
        let (door, handle) = (Arc::clone(self), self.all.child());
        self.all.tasks().spawn(async move {
            // The seat is given back however the task ends.
            let address =
                if is_proxy { door.client_behind(&mut tcp, peer, &mut seat).await } else { Some(peer) };
            let Some(address) = address else { return };
            let opened = door.open(tcp, address).await;
            seat.has_shaken();
            if let Some(stream) = opened {
                let peer = stream.peer(address);
                let connection = Connection { stream, peer, handle: handle.clone() };
                let served = door.handler.serve(connection);
                tokio::select! {
                    // The handler first: told to close, it may still say goodbye.
                    biased;
                    () = served => {}
                    () = handle.closed() => {}
                }
            }
        });
    }

    /// Where the client is, by the balancer's word; the balancer itself where it speaks for itself, which no limit of
    /// one address holds for. None if the connection was refused.
    async fn client_behind(
        &self,
        tcp: &mut TcpStream,
        peer: SocketAddr,
        seat: &mut Seat,
    ) -> Option<SocketAddr> {
        let header = timeout(self.limits.handshake_timeout, read_header(tcp));
        let header = tokio::select! {
            header = header => header.unwrap_or(Err(Refusal::TimedOut)),
            () = self.all.drained() => return None,
        };
        let named = header.and_then(|client| {
            client.map_or(Ok(peer), |client| {
                seat.name(client.ip(), self.tls.is_some())?;
                Ok(client)
            })
        });
        named.map_err(|refusal| self.handler.refused(peer, refusal)).ok()
    }

    /// The connection's stream, after the handshake where there is one; none if it was refused.
    async fn open(&self, tcp: TcpStream, address: SocketAddr) -> Option<Stream> {
        // A socket that can't be set is broken, and the first read says so.
        let _broken = tcp.set_nodelay(true);
        let Some(config) = &self.tls else {
            return Some(Stream::Plain(tcp));
        };
        let shaken = tokio::select! {
            shaken = shake_hands(tcp, config, &self.limits, &self.handshakes) => shaken,
            () = self.all.drained() => return None,
        };
        match shaken {
            Ok(stream) => Some(Stream::Tls(stream)),
            Err(refusal) => {
                self.handler.refused(address, refusal);
                None
            }
        }
    }
}

async fn rest_after(error: &io::Error) {
    if is_of_one_connection(error) {
        return;
    }
    tracing::warn!(%error, "can't accept connections: is the limit of open files reached? (LimitNOFILE, ulimit -n)");
    sleep(EXHAUSTED_REST).await;
}

/// Whether the failure concerns the connection that was being accepted, and no other.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_rests_when_the_system_is_exhausted_and_not_for_one_bad_connection() {
        const EMFILE: i32 = 24;
        const ENOBUFS: i32 = 105;
        const ECONNABORTED: i32 = 103;
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(EMFILE)));
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(ENOBUFS)));
        assert!(is_of_one_connection(&io::Error::from_raw_os_error(ECONNABORTED)));
    }

    #[test]
    fn a_bind_error_names_the_address_and_the_setting() {
        let address = "127.0.0.1:8443".parse().unwrap();
        let error = bind_error(address, "server.api_addr", io::ErrorKind::AddrInUse.into());
        assert_eq!(error.label(), Label::Config);
        assert_eq!(error.field(), Some("server.api_addr"));
        for part in ["127.0.0.1:8443", "server.api_addr", "another program"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}
