//! `[limits]`: how many requests, connections and streams one address and one principal may have. Counting is the
//! server's.

use std::num::NonZeroU32;

use airunner_core::Result;

use super::{environment::Environment, source::Source};

/// Requests a second at most, for any limit.
const MAX_RPS: u64 = 1_000_000;
/// Requests a second from one address on the public and the plain listener, where nothing is said.
const PUBLIC_RPS: u32 = 20;
/// Connections and streams at most, for any limit.
const MAX_COUNT: u64 = 1_000_000;
/// Connections of a listener, where nothing is said.
const CONNECTIONS: usize = 20_000;
/// Connections of one address to the public and to the plain listener, where nothing is said.
const PUBLIC_CONNECTIONS: usize = 1_024;
/// Streams of one principal, where nothing is said.
const STREAMS: usize = 16_384;

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come each second.
    pub per_second: NonZeroU32,
    /// Tokens that it holds.
    pub burst: NonZeroU32,
}

/// The limits of the listeners.
#[derive(Clone, Copy, Debug)]
pub struct LimitsConfig {
    api_per_address: Option<Rate>,
    public_per_address: Option<Rate>,
    per_principal: Option<Rate>,
    spares_loopback: bool,
    connections: usize,
    api_connections_per_address: Option<usize>,
    public_connections_per_address: Option<usize>,
    streams_per_principal: usize,
}

impl LimitsConfig {
    pub(super) fn validate(source: &Source, environment: Environment) -> Result<Self> {
        let number = |key, least| -> Result<Option<u32>> {
            Ok(source.integer(key, least..=MAX_RPS)?.and_then(|number| u32::try_from(number).ok()))
        };
        let address = number("limits.per_address_rps", 0)?;
        let principal = number("limits.per_principal_rps", 0)?;
        let burst = number("limits.burst", 1)?;
        let rate = |per_second: u32| {
            let per_second = NonZeroU32::new(per_second)?;
            let twice = per_second.saturating_mul(const { NonZeroU32::MIN.saturating_add(1) });
            Some(Rate { per_second, burst: burst.and_then(NonZeroU32::new).unwrap_or(twice) })
        };
        let count = |key, least| -> Result<Option<usize>> {
            Ok(source.integer(key, least..=MAX_COUNT)?.and_then(|number| usize::try_from(number).ok()))
        };
        let unless_off = |count: usize| (count > 0).then_some(count);
        let connections = count("limits.per_address_connections", 0)?;
        Ok(Self {
            connections: count("limits.connections", 1)?.unwrap_or(CONNECTIONS),
            api_connections_per_address: connections.and_then(unless_off),
            public_connections_per_address: unless_off(connections.unwrap_or(PUBLIC_CONNECTIONS)),
            streams_per_principal: count("limits.per_principal_streams", 1)?.unwrap_or(STREAMS),
            api_per_address: address.and_then(rate),
            public_per_address: rate(address.unwrap_or(PUBLIC_RPS)),
            per_principal: principal.and_then(rate),
            spares_loopback: environment == Environment::Local,
        })
    }

    /// Of one address on the API listener; none is no limit.
    pub fn api_per_address(&self) -> Option<Rate> {
        self.api_per_address
    }

    /// Of one address on the public and on the plain listener; 20 a second with a burst of 40 where nothing is set.
    pub fn public_per_address(&self) -> Option<Rate> {
        self.public_per_address
    }

    /// Of one principal, on every listener.
    pub fn per_principal(&self) -> Option<Rate> {
        self.per_principal
    }

    /// Whether loopback addresses are not limited.
    pub fn spares_loopback(&self) -> bool {
        self.spares_loopback
    }

    /// Open connections of a listener.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Open connections of one address to an API listener; none is no limit but that on all.
    pub fn api_connections_per_address(&self) -> Option<usize> {
        self.api_connections_per_address
    }

    /// Open connections of one address to the public and to the plain listener; 1,024 where nothing is set.
    pub fn public_connections_per_address(&self) -> Option<usize> {
        self.public_connections_per_address
    }

    /// Open streams of one principal, over all its connections to this server.
    pub fn streams_per_principal(&self) -> usize {
        self.streams_per_principal
    }
}
