//! Token buckets per address and per principal.

use std::{net::IpAddr, time::Duration};

use airunner_app::authn::Caller;
use airunner_core::{Error, Label, PrincipalId, Result};
use airunner_host::config::Rate;
use airunner_net::subscriber_of;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::Door;

/// What the buckets hold; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests a second from an address on the API listener.
    pub api_per_address: Option<Rate>,
    /// Requests a second from an address on the public listener.
    pub public_per_address: Option<Rate>,
    /// Requests a second of a principal.
    pub per_principal: Option<Rate>,
    /// Whether loopback addresses are not counted.
    pub spare_loopback: bool,
}

/// The buckets.
pub struct Rates {
    api: Option<DefaultKeyedRateLimiter<IpAddr>>,
    public: Option<DefaultKeyedRateLimiter<IpAddr>>,
    principal: Option<DefaultKeyedRateLimiter<PrincipalId>>,
    spare_loopback: bool,
}

impl Rates {
    /// Full buckets.
    pub fn new(limits: RateLimits) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            api: limits.api_per_address.map(|rate| RateLimiter::keyed(quota(rate))),
            public: limits.public_per_address.map(|rate| RateLimiter::keyed(quota(rate))),
            principal: limits.per_principal.map(|rate| RateLimiter::keyed(quota(rate))),
            spare_loopback: limits.spare_loopback,
        }
    }

    /// Takes a token for this request.
    ///
    /// # Errors
    /// `rate-limited`, with the time to wait.
    pub(crate) fn check(&self, door: &Door, address: &str, caller: Option<&Caller>) -> Result<()> {
        let per_address = match door {
            Door::Public => &self.public,
            Door::Api(_) | Door::Closed(..) | Door::Loopback(_) => &self.api,
            #[cfg(feature = "test-callers")]
            Door::Test(_) => &None,
        };
        let address = address.parse::<std::net::SocketAddr>().ok().map(|address| subscriber_of(address.ip()));
        let address = address.filter(|address| !(self.spare_loopback && address.is_loopback()));
        if let (Some(limiter), Some(address)) = (per_address, address) {
            take(limiter, &address, "your address")?;
        }
        if let (Some(limiter), Some(caller)) = (&self.principal, caller) {
            take(limiter, caller.principal_id(), "your principal")?;
        }
        Ok(())
    }

    /// Checks an address alone, for listeners without callers.
    pub(crate) fn check_public(&self, address: std::net::SocketAddr) -> Result<()> {
        self.check(&Door::Public, &address.to_string(), None)
    }

    /// Forgets buckets that are full again.
    pub fn forget_idle(&self) {
        for limiter in [&self.api, &self.public].into_iter().flatten() {
            limiter.retain_recent();
        }
        if let Some(limiter) = &self.principal {
            limiter.retain_recent();
        }
    }
}

fn take<K: Clone + Eq + std::hash::Hash>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
    whose: &str,
) -> Result<()> {
    limiter.check_key(key).map_err(|_| {
        Error::new(Label::RateLimited, format!("too many requests from {whose}: slow down"))
            .with_retry_after(Duration::from_secs(1))
    })
}
