//! The address of a listener.

use std::{fmt, str::FromStr};

use airunner_core::{EnrollmentTokenText, Error, Result};

/// Where a server listens: `https://host:port` or `host:port`; an IPv6 address stands in brackets. The port of an
/// `https` URL that names none is 443. The server's certificate must name the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: String,
    host_len: usize,
}

impl Endpoint {
    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.address[..self.host_len]
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            let example = "https://host:port, where the server's certificate names the host";
            Error::invalid("server", format!("{text:?} is not a server's address: write {example}"))
        };
        let trimmed = text.trim();
        let address = match trimmed.strip_prefix("https://") {
            Some(rest) => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                // The last colon may be one of an IPv6 address.
                let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
                if has_port { rest.to_owned() } else { format!("{rest}:443") }
            }
            None => trimmed.to_owned(),
        };
        EnrollmentTokenText::check_address(&address).map_err(|_| refuse())?;
        let host_len = address.rfind(':').ok_or_else(refuse)?;
        if address.starts_with('*') || address.ends_with(":0") {
            return Err(refuse());
        }
        Ok(Self { address, host_len })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_either_form() {
        for (text, host, address) in [
            ("https://api.example.com:8443", "api.example.com", "api.example.com:8443"),
            ("https://api.example.com:8443/", "api.example.com", "api.example.com:8443"),
            ("https://api.example.com", "api.example.com", "api.example.com:443"),
            (" localhost:8443\n", "localhost", "localhost:8443"),
            ("https://[::1]", "[::1]", "[::1]:443"),
            ("[::1]:8443", "[::1]", "[::1]:8443"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.address()), (host, address), "{text}");
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for bad in
            ["", "localhost", "http://localhost:8443", "https://a:b@c:1", "*.a:1", "a:0", "a:70000", "a/b:1"]
        {
            let error = bad.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.field(), Some("server"), "{bad}");
        }
    }
}
