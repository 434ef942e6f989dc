//! Requests that a browser sends on behalf of another site are refused before anything else looks at them: a browser
//! with a certificate would otherwise lend it to any page.

use std::{net::IpAddr, sync::Arc};

use airunner_core::{Error, Label, Result};
use arc_swap::ArcSwap;
use http::{HeaderMap, Request, header};

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

    /// Refuses a request that a page of another site has sent, or that is addressed to a name that is not ours.
    ///
    /// # Errors
    /// `cross-site`.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<()> {
        self.check_origin(request.headers())?;
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let host =
            authority.or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()));
        // HTTP/1.1 without Host never gets here; with neither there is no name that could be another's.
        if host.is_none_or(|host| self.is_own(host)) {
            return Ok(());
        }
        Err(refusal("this server does not go by the name that the request is addressed to"))
    }

    /// The rules that every listener has; the `Host` rule is for those that serve more than what is public.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<()> {
        let site = headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return Err(refusal("a page of another site sent this request"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        // An address is no name, but as an origin it is a page that was loaded from there: only loopback can be us.
        let own = host.is_some_and(|host| {
            let name = name_of(host);
            match name.parse::<IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => self.is_own_name(name),
            }
        });
        if own { Ok(()) } else { Err(refusal("a page of another origin sent this request")) }
    }

    /// Whether a `Host` is ours. IP literals pass: a rebound page always carries a name.
    fn is_own(&self, host: &str) -> bool {
        let name = name_of(host);
        name.parse::<IpAddr>().is_ok() || self.is_own_name(name)
    }

    fn is_own_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.0.load().iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
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
        names.check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn other_sites_origins_and_names_are_refused() {
        for (headers, uri) in [
            (vec![], "/x"),
            (vec![("host", "localhost:8443")], "/x"),
            (vec![("host", "127.0.0.1:8443")], "/x"),
            (vec![("host", "[::1]:8443")], "/x"),
            (vec![("host", "AIRUNNER.example.com")], "/x"),
            (vec![("sec-fetch-site", "none")], "/x"),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "https://airunner.example.com")], "/x"),
            (vec![], "https://localhost:8443/x"),
        ] {
            assert!(passes(&headers, uri), "{headers:?} {uri}");
        }
        for (headers, uri) in [
            (vec![("host", "evil.example")], "/x"),
            (vec![], "https://evil.example/x"),
            (vec![("sec-fetch-site", "cross-site")], "/x"),
            (vec![("sec-fetch-site", "same-site")], "/x"),
            (vec![("origin", "https://evil.example")], "/x"),
            (vec![("origin", "null")], "/x"),
            (vec![("origin", "https://192.168.1.1")], "/x"),
            (vec![("host", "airunner.example.com.evil.example")], "/x"),
        ] {
            assert!(!passes(&headers, uri), "{headers:?} {uri}");
        }
    }
}
