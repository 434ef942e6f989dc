//! `[server]`: where it listens, what it is called, how long it drains.

use std::{net::SocketAddr, time::Duration};

use airunner_core::{DnsName, Result};
use airunner_net::{MAX_PROXIES, Network};

use super::source::Source;

/// Names of its own that a server may be given.
const MAX_NAMES: usize = 64;
/// How long a drain may take.
const MAX_DRAIN: u64 = 60 * 60;
/// How long a drain takes where nothing is said.
const DRAIN: u64 = 30;

/// Where the server listens, and how others reach it.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    api: SocketAddr,
    public: SocketAddr,
    plain: SocketAddr,
    metrics: SocketAddr,
    grpc: Option<SocketAddr>,
    names: Vec<DnsName>,
    proxies: Vec<Network>,
    drain: Duration,
    api_address: Option<String>,
    public_address: Option<String>,
}

impl ServerConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let address = |key, default: u16| -> Result<SocketAddr> {
            Ok(address(source, key)?.unwrap_or(SocketAddr::from(([127, 0, 0, 1], default))))
        };
        let config = Self {
            api: address("server.api_addr", 8443)?,
            public: address("server.public_addr", 8444)?,
            plain: address("server.plain_addr", 8080)?,
            metrics: address("server.metrics_addr", 9464)?,
            grpc: self::address(source, "server.grpc_addr")?,
            names: source.list("server.names", MAX_NAMES)?.unwrap_or_default(),
            proxies: source.list("server.proxy_protocol_from", MAX_PROXIES)?.unwrap_or_default(),
            drain: Duration::from_secs(
                source.integer("server.drain_seconds", 0..=MAX_DRAIN)?.unwrap_or(DRAIN),
            ),
            api_address: host_and_port(source, "server.api_address")?,
            public_address: host_and_port(source, "server.public_address")?,
        };
        config.check_apart(source)?;
        Ok(config)
    }

    fn check_apart(&self, source: &Source) -> Result<()> {
        let mut taken: Vec<(&str, SocketAddr)> = vec![("server.api_addr", self.api)];
        let others = [
            ("server.public_addr", Some(self.public)),
            ("server.plain_addr", Some(self.plain)),
            ("server.metrics_addr", Some(self.metrics)),
            ("server.grpc_addr", self.grpc),
        ];
        for (key, address) in others {
            let Some(address) = address else { continue };
            let same = |(_, other): &&(&str, SocketAddr)| *other == address && address.port() != 0;
            if let Some((other, _)) = taken.iter().find(same) {
                return Err(
                    source.refuse(key, format!("is {address}, which {other} has already: give each its own"))
                );
            }
            taken.push((key, address));
        }
        Ok(())
    }

    /// The API listener; port 0 is any free one.
    pub fn api_addr(&self) -> SocketAddr {
        self.api
    }

    /// The public listener.
    pub fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// The plain listener.
    pub fn plain_addr(&self) -> SocketAddr {
        self.plain
    }

    /// The metrics listener.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics
    }

    /// A further listener like the API's, where one is wanted.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Names that requests may address it by, beside those in its certificate.
    pub fn names(&self) -> &[DnsName] {
        &self.names
    }

    /// Networks of balancers: connections from there begin with a PROXY header of version 2.
    pub fn proxies(&self) -> &[Network] {
        &self.proxies
    }

    /// How long a drain may take.
    pub fn drain(&self) -> Duration {
        self.drain
    }

    /// `host:port` of the API listener as others reach it.
    pub fn api_address(&self) -> String {
        self.api_address.clone().unwrap_or_else(|| self.reached_at(self.api))
    }

    /// `host:port` of the public listener as others reach it.
    pub fn public_address(&self) -> String {
        self.public_address.clone().unwrap_or_else(|| self.reached_at(self.public))
    }

    pub(super) fn set_bound(&mut self, api: SocketAddr, public: SocketAddr) {
        self.api = api;
        self.public = public;
    }

    /// A loopback listener is reached at its address; another by the server's first name, since it may listen on all.
    fn reached_at(&self, address: SocketAddr) -> String {
        match self.names.first() {
            Some(name) if !address.ip().is_loopback() => format!("{name}:{}", address.port()),
            _ if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        }
    }
}

fn address(source: &Source, key: &str) -> Result<Option<SocketAddr>> {
    let Some(text) = source.text(key)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        source.refuse(
            key,
            format!("is {text:?}, and must be an IP address with a port, as 127.0.0.1:8443 or [::]:8443"),
        )
    })
}

fn host_and_port(source: &Source, key: &str) -> Result<Option<String>> {
    let Some(text) = source.text(key)? else { return Ok(None) };
    let named = text.rsplit_once(':').is_some_and(|(host, port)| {
        host.parse::<DnsName>().is_ok() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let addressed = text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0);
    if named || addressed {
        return Ok(Some(text.to_owned()));
    }
    Err(source.refuse(key, format!("is {text:?}, and must be host:port, as others reach the listener")))
}
