//! The limits of a request's head. What is larger than the listener reads at all is refused before it gets here.

use airunner_core::{Error, Label, Result};
use http::Request;

/// Bytes of a path with its query at most.
const MAX_URI: usize = 8 * 1024;
/// Headers at most. HTTP/1 refuses more by itself, and HTTP/2 counts bytes alone.
const MAX_HEADERS: usize = 100;
/// Bytes of all headers at most, as RFC 9113 section 6.5.2 counts them: HTTP/1 may read a little more.
const MAX_HEADER_LIST: usize = 16 * 1024;
/// What a header counts beyond its name and its value.
const OVERHEAD: usize = 32;

/// Refuses a head that is too large.
///
/// # Errors
/// `uri-too-long`, `headers-too-large`.
pub(crate) fn check<B>(request: &Request<B>) -> Result<()> {
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > MAX_URI {
        let message =
            format!("a path is at most {MAX_URI} bytes with its query: send what is long in the body");
        return Err(Error::new(Label::UriTooLong, message));
    }
    let headers = request.headers();
    let size =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + OVERHEAD;
    if headers.len() > MAX_HEADERS || headers.iter().map(size).sum::<usize>() > MAX_HEADER_LIST {
        let message =
            format!("a request has at most {MAX_HEADERS} headers and {MAX_HEADER_LIST} bytes of them");
        return Err(Error::new(Label::HeadersTooLarge, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(request: http::request::Builder) -> Option<Label> {
        check(&request.body(()).unwrap()).err().map(|error| error.label())
    }

    #[test]
    fn what_fits_passes_and_a_byte_or_a_header_more_does_not() {
        let path = |length: usize| Request::builder().uri(format!("/{}", "x".repeat(length - 1)));
        assert_eq!(label_of(path(MAX_URI)), None);
        assert_eq!(label_of(path(MAX_URI + 1)), Some(Label::UriTooLong));
        let query = Request::builder().uri(format!("https://localhost/x?{}", "y".repeat(MAX_URI)));
        assert_eq!(label_of(query), Some(Label::UriTooLong));

        let headers = |count| (0..count).fold(Request::builder(), |it, n| it.header(format!("x-{n}"), "y"));
        assert_eq!(label_of(headers(MAX_HEADERS)), None);
        assert_eq!(label_of(headers(MAX_HEADERS + 1)), Some(Label::HeadersTooLarge));
        let large = |length: usize| Request::builder().header("x", "y".repeat(length - OVERHEAD - 1));
        assert_eq!(label_of(large(MAX_HEADER_LIST)), None);
        assert_eq!(label_of(large(MAX_HEADER_LIST + 1)), Some(Label::HeadersTooLarge));
    }
}
