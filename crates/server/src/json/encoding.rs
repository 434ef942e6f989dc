//! Content types and encodings: which are read, which are sent.

use http::{HeaderMap, header};

use super::{Fault, body::only};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    /// Protobuf, on Connect's paths.
    Proto,
}

impl Codec {
    /// The codec of a request; JSON where nothing is said.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let Some(value) = only(headers, &header::CONTENT_TYPE)? else { return Ok(Self::Json) };
        let text = value.to_str().unwrap_or_default();
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let charset = parameters.trim().to_ascii_lowercase();
        let is_utf8 = matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/json" if is_utf8 => Ok(Self::Json),
            "application/proto" | "application/x-protobuf" => Ok(Self::Proto),
            _ => Err(Fault::media("a body is JSON in UTF-8: send application/json")),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Proto => "application/proto",
        }
    }
}

/// Whether `name` stands in a header that lists what is accepted, and is not refused there with q=0.
pub(crate) fn accepts(headers: &HeaderMap, header: header::HeaderName, name: &str) -> bool {
    let values = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (what, parameters) = item.split_once(';').unwrap_or((item, ""));
        let refused = parameters.split(';').any(|one| {
            let weight = one.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        });
        what.trim().eq_ignore_ascii_case(name) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn json_is_what_says_so_and_what_says_nothing() {
        let of = |value| Codec::of(&headers(header::CONTENT_TYPE, value));
        assert_eq!(Codec::of(&HeaderMap::new()), Ok(Codec::Json));
        assert_eq!(of("application/json; charset=UTF-8"), Ok(Codec::Json));
        assert_eq!(of("application/proto"), Ok(Codec::Proto));
        for other in
            ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""]
        {
            assert!(matches!(of(other), Err(Fault::Media(_))), "{other}");
        }
    }

    #[test]
    fn what_is_refused_is_not_accepted() {
        let accepted =
            |value| accepts(&headers(header::ACCEPT_ENCODING, value), header::ACCEPT_ENCODING, "gzip");
        assert!(accepted("br, gzip;q=0.5"));
        assert!(!accepted("gzip;q=0"));
        assert!(!accepted("br"));
    }
}
