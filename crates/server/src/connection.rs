//! From an accepted connection to served requests: authenticate it once, serve it, and end it when its identity is
//! denied.

use std::{sync::Arc, time::Duration};

use airunner_app::{
    App,
    authn::{LoopbackListener, Standing, VerifiedPeer},
};
use airunner_core::{CertificateRef, Error, Label};
use airunner_net::{Connection, ConnectionHandler, Limits, Refusal, RevocationView, serve_http};
use async_trait::async_trait;
use hyper::service::service_fn;
use tokio::sync::Notify;

use crate::{
    metrics::Metrics,
    router::{Door, Router},
};

/// How long a denied connection stays to tell its next request why, before it is asked to go away.
const LINGER: Duration = Duration::from_millis(300);
/// How long a connection that could not be authenticated waits for a request that it can tell why.
const UNTOLD: Duration = Duration::from_secs(5);

/// Who is behind a listener's connections.
#[derive(Clone, Copy, Debug)]
pub enum Entrance {
    /// Those whose client certificate TLS has verified.
    Certificate,
    /// Anyone, for what is public.
    Public,
    /// Anyone, as the fixed caller of `--no-auth`.
    Loopback(LoopbackListener),
}

/// Serves the connections of one listener.
pub struct Connections {
    /// The use cases.
    pub app: Arc<App>,
    /// Where requests go.
    pub router: Arc<Router>,
    /// The listener's limits.
    pub limits: Limits,
    /// Who is behind them.
    pub entrance: Entrance,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl ConnectionHandler for Connections {
    async fn serve(&self, connection: Connection) {
        match self.entrance {
            Entrance::Certificate => self.serve_known(connection).await,
            Entrance::Public => self.serve_through(connection, Door::Public).await,
            Entrance::Loopback(listener) => self.serve_through(connection, Door::Loopback(listener)).await,
        }
    }

    fn refused(&self, address: std::net::SocketAddr, refusal: Refusal) {
        self.metrics.handshake_refused();
        tracing::info!(%address, %refusal, "connection refused");
    }
}

impl Connections {
    async fn serve_known(&self, connection: Connection) {
        match self.authenticate(&connection).await {
            Ok(authenticated) => {
                let standing = authenticated.standing.clone();
                let (handle, denied) = (connection.handle.clone(), standing.clone());
                let until_denied = async move {
                    denied.denied().await;
                    tokio::time::sleep(LINGER).await;
                    handle.drain();
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = self.serve_through(connection, Door::Api(standing)) => {}
                    () = until_denied => {}
                }
                drop(authenticated);
            }
            Err(error) => {
                self.metrics.authenticated(error.label().as_str(), None);
                tracing::warn!(address = %connection.peer.address, ?error, "a connection can't be authenticated");
                let door = Door::Closed(error.label(), error.message().to_owned());
                self.refuse_through(connection, door).await;
            }
        }
    }

    async fn authenticate(
        &self,
        connection: &Connection,
    ) -> airunner_core::Result<airunner_app::authn::Connection> {
        self.app.fleet.admit_connection()?;
        let leaf = connection
            .peer
            .leaf()
            .ok_or_else(|| Error::new(Label::NoCertificate, "this listener needs a client certificate"))?;
        let peer = VerifiedPeer { certificate: leaf.to_vec(), address: connection.peer.address.to_string() };
        let authenticated = self.app.authenticator.connection(peer).await?;
        let standing = &authenticated.standing;
        let result = standing.denial().map_or("ok", |denial| denial.label.as_str());
        self.metrics.authenticated(result, standing.principal_type());
        log_denial(standing);
        Ok(authenticated)
    }

    /// Serves a connection that nothing is known of: what kept it from being authenticated may soon be over, and it
    /// would never find out. So it is told why, and goes away.
    async fn refuse_through(&self, connection: Connection, door: Door) {
        let (handle, told) = (connection.handle.clone(), Arc::new(Notify::new()));
        let until_told = async {
            let _waited = tokio::time::timeout(UNTOLD, told.notified()).await;
            tokio::time::sleep(LINGER).await;
            handle.drain();
            std::future::pending::<()>().await;
        };
        let tell = told.clone();
        tokio::select! {
            () = self.serve_telling(connection, door, move || tell.notify_one()) => {}
            () = until_told => {}
        }
    }

    async fn serve_through(&self, connection: Connection, door: Door) {
        self.serve_telling(connection, door, || {}).await;
    }

    /// Calls `answered` with each request that is answered.
    async fn serve_telling(
        &self,
        connection: Connection,
        door: Door,
        answered: impl Fn() + Send + Sync + 'static,
    ) {
        let Connection { stream, peer, handle } = connection;
        let state = Arc::new((self.router.clone(), door, peer.address.to_string(), answered));
        let service = service_fn(move |request| {
            let state = state.clone();
            async move {
                let (router, door, address, answered) = &*state;
                let answer = router.handle(door, address, request).await;
                answered();
                answer
            }
        });
        serve_http(stream, service, &self.limits, &handle).await;
    }
}

fn log_denial(standing: &Standing) {
    if let Some(denial) = standing.denial() {
        let claim = standing.claim();
        tracing::warn!(principal = %claim.principal_id, serial = %claim.certificate.serial,
            label = denial.label.as_str(), "a connection was authenticated and refused");
    }
}

/// What the handshake asks: the status view, by the issuer's key and the serial number.
pub struct Revocations(pub Arc<App>);

impl RevocationView for Revocations {
    fn is_revoked(&self, authority_key_id: &[u8], serial: &[u8]) -> bool {
        let issuer = self.0.issuers().id_of_key(authority_key_id);
        let serial = airunner_core::Serial::from_bytes(serial);
        match (issuer, serial) {
            (Some(issuer_id), Ok(serial)) => {
                self.0.status().is_revoked(&CertificateRef { issuer_id, serial })
            }
            // Who can't be looked up is refused after the handshake, with a label.
            _ => false,
        }
    }
}
