//! TLS and connections: profiles, hot-reloading certificates, client-certificate verification, the listener, and the
//! client's side of it. Nothing here knows a principal, a store or an RPC.

mod client;
mod connect;
mod connection;
mod failure;
mod handshake;
mod http;
mod identity;
mod limits;
mod listener;
mod p521;
mod profile;
mod proxy;
mod seats;
mod server;
pub mod system;
mod timeout;
mod verifier;
mod watched;

pub use client::{BundleProbe, ClientTls, bundle_probe_config, client_config};
pub use connect::{ClientStream, StreamEnd, connect};
pub use connection::{Connection, ConnectionHandle, Peer, Protocol, Stream};
pub use failure::{FailureSlot, TlsFailure, tls_failure};
pub use handshake::Refusal;
pub use http::serve_http;
pub use identity::{ServerIdentity, TlsIdentity};
pub use limits::Limits;
pub use listener::{ConnectionHandler, Listener, serve_plain, serve_tls};
pub use profile::TlsProfile;
pub use proxy::{MAX_PROXIES, Network};
pub use seats::subscriber_of;
pub use server::server_config;
pub use timeout::grpc_timeout;
pub use verifier::{ClientVerifier, RevocationView, TrustAnchors};
