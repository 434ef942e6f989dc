//! The server's TLS configuration. Which certificate and which anchors are in it is decided where it is called.

use std::sync::Arc;

use airunner_core::{Error, Result};
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    version::TLS13,
};

use crate::{ClientVerifier, ServerIdentity, TlsProfile};

/// A listener's TLS: 1.3 only, ALPN h2 and http/1.1, and a client certificate where `client` is given. Nothing is ever
/// resumed: no tickets, no session store, no early data, so that every connection passes every check.
pub fn server_config(
    profile: TlsProfile,
    identity: ServerIdentity,
    client: Option<Arc<ClientVerifier>>,
) -> Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(profile.provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::internal)?;
    let builder = match client {
        Some(verifier) => builder.with_client_cert_verifier(verifier as Arc<dyn ClientCertVerifier>),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
