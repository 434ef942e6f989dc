//! The transport under the typed services: HTTP/2 connections that are opened when they are needed, opened anew when
//! they are lost, and exchanged while in use when the identity changes. What is said on them is not looked at.

mod body;
mod connection;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use airunner_core::{Clock, Label, Monotonic};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Request, Response, Uri, header::USER_AGENT, uri::Scheme};
use rustls::ClientConfig;
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};
use tonic::{Status, body::Body};
use tower::Service;

use self::{
    body::ResponseBody,
    connection::{Connection, Refused},
};
use crate::{
    Endpoint, Error,
    deadline::{self, Deadline},
};

/// Connections that a request is tried on, where it provably did not leave this machine on the ones before.
const TRIES: usize = 3;
/// For how long after a failed connection attempt the next is not made, doubled with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("airunner-client/", env!("CARGO_PKG_VERSION")));

/// The transport of a [`crate::Client`]; what the typed services are generic over. Clones share the connections.
///
/// Its error is a `tonic::Status` that carries label and message, so that [`Error::from`] gives them back.
#[derive(Clone)]
pub struct Channel(Arc<Shared>);

/// How long a channel waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the answer of a call that has no time of its own.
    pub(crate) timeout: Duration,
    /// For any sign of life of the server.
    pub(crate) silence: Duration,
}

struct Shared {
    endpoint: Endpoint,
    patience: Patience,
    clock: Arc<dyn Clock>,
    tls: ArcSwap<Tls>,
    generation: watch::Sender<u64>,
    slots: Vec<Slot>,
    next: AtomicUsize,
}

/// With what connections are made, and since how many exchanges of it.
struct Tls {
    config: Arc<ClientConfig>,
    generation: u64,
}

/// The place of one connection.
#[derive(Default)]
struct Slot {
    current: ArcSwapOption<Connection>,
    /// Held by the one who connects; the others wait for what comes of it.
    dialing: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    count: u32,
    last: Option<(Monotonic, Error)>,
}

impl Channel {
    pub(crate) fn new(
        endpoint: Endpoint,
        config: Arc<ClientConfig>,
        connections: usize,
        patience: Patience,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Shared {
            endpoint,
            patience,
            clock,
            tls: ArcSwap::from_pointee(Tls { config, generation: 0 }),
            generation: watch::Sender::new(0),
            slots: (0..connections.max(1)).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Opens one connection, unless one is open.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        self.0.connection().await.map(drop)
    }

    /// Makes the connections of all later requests with `config`. Open requests stay on theirs, which end with the last
    /// of them.
    pub(crate) fn replace(&self, config: Arc<ClientConfig>) {
        let shared = &self.0;
        shared.generation.send_modify(|generation| {
            *generation += 1;
            shared.tls.store(Arc::new(Tls { config, generation: *generation }));
        });
        // A connection ends when nobody can send on it and its last request is answered.
        shared.slots.iter().for_each(|slot| slot.current.store(None));
    }

    /// Counts the exchanges.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.send(request).await.map_err(|error| error.to_status()) })
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({})", self.0.endpoint)
    }
}

impl Shared {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let deadline = deadline::of(request.uri().path(), request.headers(), self.patience.timeout);
        self.address(&mut request)?;
        let (Deadline::Head(limit) | Deadline::Whole(limit)) = deadline else {
            return Ok(self.exchange(request).await?.map(Body::new));
        };
        let mut timer = Box::pin(sleep(limit));
        let response = tokio::select! {
            biased;
            response = self.exchange(request) => response?,
            () = &mut timer => return Err(self.too_late()),
        };
        let timer = (deadline == Deadline::Whole(limit)).then(|| (timer, self.too_late()));
        Ok(response.map(|body| Body::new(body.until(timer))))
    }

    /// Writes into the request where it goes (RFC 9113 section 8.3.1).
    fn address(&self, request: &mut Request<Body>) -> Result<(), Error> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.endpoint.address().parse().map_err(airunner_core::Error::internal)?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(airunner_core::Error::internal)?;
        request.headers_mut().insert(USER_AGENT, AGENT);
        Ok(())
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response<ResponseBody>, Error> {
        let mut tries = 1;
        loop {
            match self.connection().await?.send(request).await {
                Ok(response) => return Ok(response),
                Err(Refused { unsent: Some(unsent), .. }) if tries < TRIES => request = *unsent,
                Err(Refused { error, .. }) => return Err(error),
            }
            tries += 1;
        }
    }

    /// A connection that can be sent on, of the present generation.
    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let turn = if self.slots.len() == 1 { 0 } else { self.next.fetch_add(1, Relaxed) % self.slots.len() };
        let slot = &self.slots[turn];
        if let Some(connection) = self.usable(slot) {
            return Ok(connection);
        }
        let mut failures = slot.dialing.lock().await;
        loop {
            if let Some(connection) = self.usable(slot) {
                return Ok(connection);
            }
            if let Some(error) = failures.pause(self.clock.monotonic()) {
                return Err(error);
            }
            let tls = self.tls.load_full();
            match Connection::open(&self.endpoint, &tls, self.patience.silence).await {
                Ok(connection) => {
                    *failures = Failures::default();
                    // If the identity was exchanged in the meantime, this one is of the past already.
                    slot.current.store(Some(Arc::new(connection)));
                }
                Err(error) => {
                    failures.count = failures.count.saturating_add(1);
                    failures.last = Some((self.clock.monotonic(), error.clone()));
                    return Err(error);
                }
            }
        }
    }

    fn usable(&self, slot: &Slot) -> Option<Arc<Connection>> {
        let generation = *self.generation.borrow();
        slot.current.load_full().filter(|connection| connection.is_usable(generation))
    }

    fn too_late(&self) -> Error {
        Error::new(
            Label::Deadline,
            format!(
                "{} did not answer in time; whether it did what was asked is not known: look before you repeat it, \
                 or allow more time",
                self.endpoint
            ),
        )
    }
}

impl Failures {
    /// Why no attempt is made now.
    fn pause(&self, now: Monotonic) -> Option<Error> {
        let (at, error) = self.last.as_ref()?;
        let doublings = self.count.saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        (now.since(*at) < pause).then(|| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_the_pause_grows_and_ends() {
        let at = |millis| Monotonic::new(Duration::from_millis(millis));
        let failed =
            |count| Failures { count, last: Some((at(1_000), Error::new(Label::Unreachable, "down"))) };
        for (count, pause) in [(1, 50), (2, 100), (3, 200), (40, 2_000)] {
            assert!(failed(count).pause(at(1_000 + pause - 1)).is_some(), "{count}");
            assert!(failed(count).pause(at(1_000 + pause)).is_none(), "{count}");
        }
        assert!(Failures::default().pause(at(0)).is_none());
    }
}
