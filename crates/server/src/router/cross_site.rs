//! Requests that a browser sends on behalf of another site are refused before anything else looks at them: a browser
//! with a certificate would otherwise lend it to any page.

use std::{net::IpAddr, sync::Arc};

use airunner_core::{Error, Label, Result};
use arc_swap::ArcSwap;
use http::{HeaderValue, Request, header, uri::Authority};

/// The DNS names that are ours: those in the server certificate, `localhost`, and the configured ones.
#[derive(Clone, Debug)]
pub struct OwnNames(Arc<ArcSwap<Vec<String>>>);

impl OwnNames {
    /// These names and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let own = Self(Arc::new(ArcSwap::from_pointee(Vec::new())));
        own.replace(names);
        own
    }

    /// From now on these names and `localhost`.
    pub fn replace(&self, names: impl IntoIterator<Item = String>) {
        let mut all: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        all.push("localhost".to_owned());
        self.0.store(Arc::new(all));
    }

    /// Refuses a request that a page of another site has sent, or that is addressed to a name that is not ours. A request
    /// that names no port is for `port`.
    ///
    /// # Errors
    /// `cross-site`.
    pub(crate) fn check<B>(&self, request: &Request<B>, port: u16) -> Result<()> {
        self.check_sender(request, port)?;
        // With no name at all there is none that could be another's.
        if addressed(request).all(|host| host.is_some_and(|host| self.is_own(&host))) {
            return Ok(());
        }
        Err(refusal("this server does not go by the name that the request is addressed to"))
    }

    /// The rules that every listener has; the `Host` rule is for those that serve more than what is public.
    pub(crate) fn check_sender<B>(&self, request: &Request<B>, port: u16) -> Result<()> {
        let mut sites = request.headers().get_all("sec-fetch-site").into_iter();
        if !sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none")) {
            return Err(refusal("a page of another site sent this request"));
        }
        let mut origins = request.headers().get_all(header::ORIGIN).into_iter();
        if !origins.all(|origin| self.is_own_origin(origin, request, port)) {
            return Err(refusal("a page of another origin sent this request"));
        }
        Ok(())
    }

    /// An origin is a scheme, a host and a port (RFC 6454 section 4): what else runs on this machine, at another port, is
    /// not us. Of addresses as origins only loopback and the one that is called can be us.
    fn is_own_origin<B>(&self, origin: &HeaderValue, request: &Request<B>, port: u16) -> bool {
        let Some((scheme, host)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
            return false;
        };
        let default = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return false,
        };
        let Some(host) = host_of(host) else { return false };
        let is_called = |called: &Authority| called.host().eq_ignore_ascii_case(host.host());
        let is_ours = match ip_of(&host) {
            Some(address) => address.is_loopback() || addressed(request).flatten().any(|it| is_called(&it)),
            None => self.is_own(&host),
        };
        let from = host.port_u16().unwrap_or(default);
        is_ours && addressed(request).flatten().all(|called| called.port_u16().unwrap_or(port) == from)
    }

    /// Whether a `Host` is ours. IP literals pass: a rebound page always carries a name.
    fn is_own(&self, host: &Authority) -> bool {
        let name = host.host();
        let name = name.strip_suffix('.').unwrap_or(name);
        ip_of(host).is_some() || self.0.load().iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Everything that says whom the request is addressed to: the target's authority and `Host`, of which there should be
/// one. Nothing in the place of what can't be read.
fn addressed<B>(request: &Request<B>) -> impl Iterator<Item = Option<Authority>> {
    let target = request.uri().authority().map(|authority| host_of(authority.as_str()));
    let hosts = request.headers().get_all(header::HOST).into_iter();
    target.into_iter().chain(hosts.map(|host| host.to_str().ok().and_then(host_of)))
}

/// `host[:port]`, and nothing before it.
fn host_of(text: &str) -> Option<Authority> {
    if text.contains('@') { None } else { text.parse().ok() }
}

fn ip_of(host: &Authority) -> Option<IpAddr> {
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    address.map_or_else(|| name.parse().ok(), |address| address.parse().ok().map(IpAddr::V6))
}

fn refusal(why: &str) -> Error {
    Error::new(Label::CrossSite, format!("{why}: it is refused, whoever sent it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(headers: &[(&str, &str)], uri: &str) -> bool {
        let names = OwnNames::new(["airunner.example.com".to_owned()]);
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        names.check(&request.body(()).unwrap(), 443).is_ok()
    }

    #[test]
    fn our_own_names_pages_and_no_pages_pass() {
        for (headers, uri) in [
            (vec![], "/x"),
            (vec![("host", "localhost:8443")], "/x"),
            (vec![("host", "127.0.0.1:8443")], "/x"),
            (vec![("host", "[::1]:8443")], "/x"),
            (vec![("host", "AIRUNNER.example.com.")], "/x"),
            (vec![("sec-fetch-site", "none")], "/x"),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "https://airunner.example.com")], "/x"),
            (vec![("origin", "https://airunner.example.com"), ("host", "airunner.example.com")], "/x"),
            (vec![("origin", "https://localhost:8443"), ("host", "127.0.0.1:8443")], "/x"),
            (vec![("origin", "https://[::1]:8443"), ("host", "[::1]:8443")], "/x"),
            (vec![("origin", "https://10.1.2.3:8443"), ("host", "10.1.2.3:8443")], "/x"),
            (vec![], "https://localhost:8443/x"),
            (vec![("origin", "https://localhost:8443")], "https://localhost:8443/x"),
        ] {
            assert!(passes(&headers, uri), "{headers:?} {uri}");
        }
    }

    #[test]
    fn other_sites_origins_and_names_are_refused() {
        for (headers, uri) in [
            (vec![("host", "evil.example")], "/x"),
            (vec![], "https://evil.example/x"),
            (vec![("sec-fetch-site", "cross-site")], "/x"),
            (vec![("sec-fetch-site", "same-site")], "/x"),
            (vec![("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], "/x"),
            (vec![("origin", "https://evil.example")], "/x"),
            (vec![("origin", "null")], "/x"),
            (vec![("origin", "")], "/x"),
            (vec![("origin", "chrome-extension://localhost")], "/x"),
            (vec![("origin", "https://192.168.1.1")], "/x"),
            (vec![("origin", "https://192.168.1.1"), ("host", "192.168.1.2")], "/x"),
            (vec![("host", "airunner.example.com.evil.example")], "/x"),
        ] {
            assert!(!passes(&headers, uri), "{headers:?} {uri}");
        }
    }

    #[test]
    fn another_port_is_another_origin() {
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8443"),
            ("https://localhost", "localhost:8443"),
            ("https://localhost:8443", "localhost"),
            ("http://localhost", "localhost"),
            ("https://127.0.0.1:3000", "127.0.0.1:8443"),
        ] {
            assert!(!passes(&[("origin", origin), ("host", host)], "/x"), "{origin} {host}");
        }
    }

    #[test]
    fn every_name_that_a_request_is_addressed_to_counts() {
        for (headers, uri) in [
            (vec![("host", "evil.example")], "https://localhost/x"),
            (vec![("host", "localhost"), ("host", "evil.example")], "/x"),
            (vec![("host", "localhost")], "https://evil.example/x"),
            (vec![("host", "localhost:1@evil.example")], "/x"),
            (vec![("host", "")], "/x"),
            (vec![("host", "evil.example\u{e4}")], "/x"),
        ] {
            assert!(!passes(&headers, uri), "{headers:?} {uri}");
        }
    }
}
