//! Bodies of requests: read whole, unpacked, and framed for gRPC; bodies of answers packed.

use std::{
    io::{Read, Write},
    pin::{Pin, pin},
    time::Duration,
};

use airunner_core::BoxError;
use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use http::{HeaderMap, Version, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Fault;

/// Answers smaller than this are not worth packing.
pub(crate) const WORTH_PACKING: usize = 1_024;

/// Bytes of a refused body that are read all the same.
const PASSED_OVER: u64 = 16 * 1024 * 1024;
/// For how long they are.
const MOMENT: Duration = Duration::from_secs(1);

/// The limits of a request's body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes at most, packed and unpacked.
    pub bytes: usize,
    /// How long the whole of it may take to arrive.
    pub time: Duration,
}

/// The body of a request, unpacked.
pub(crate) async fn read<B>(parts: &Parts, body: B, limits: BodyLimits) -> Result<Bytes, Fault>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (headers, limit) = (&parts.headers, limits.bytes);
    let mut body = pin!(body);
    // Said in the head, it need not be read to be known.
    if body.size_hint().lower() > limit as u64 {
        pass_over(parts, body).await;
        return Err(Fault::too_large(limit));
    }
    let collected = tokio::time::timeout(limits.time, Limited::new(body.as_mut(), limit).collect()).await;
    let collected = match collected.map_err(|_| Fault::slow(limits.time))? {
        Ok(collected) => collected,
        Err(error) if error.is::<LengthLimitError>() => {
            pass_over(parts, body).await;
            return Err(Fault::too_large(limit));
        }
        Err(_) => return Err(Fault::content("the body broke off")),
    };
    let bytes = collected.to_bytes();
    match only(headers, &header::CONTENT_ENCODING)?.map(header::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip") => unpack(&bytes, limit),
        Some(_) => Err(Fault::media("a body may be packed with gzip, and with nothing else")),
    }
}

/// Reads on, for a moment, what is refused already: over HTTP/2 a client may be cut off while it still sends, and some
/// (curl 7) then report a broken stream instead of the answer. Over HTTP/1.1 one that waits to be told to go on would be
/// told so.
async fn pass_over<B>(parts: &Parts, mut body: Pin<&mut B>)
where
    B: http_body::Body<Data = Bytes>,
{
    if parts.version != Version::HTTP_2 || body.size_hint().lower() > PASSED_OVER {
        return;
    }
    let mut left = PASSED_OVER;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whether the end came or the moment is over is all the same.
    let _ = tokio::time::timeout(MOMENT, reading).await;
}

/// The value of a header that stands at most once: of two, one reader takes the first and another the last.
pub(super) fn only<'h>(
    headers: &'h HeaderMap,
    name: &header::HeaderName,
) -> Result<Option<&'h header::HeaderValue>, Fault> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Fault::media(&format!("the header {name} stands there twice: send it once"))),
    }
}

fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, Fault> {
    let mut whole = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut unpacker = GzDecoder::new(packed);
    let read = unpacker.by_ref().take(most).read_to_end(&mut whole);
    read.map_err(|_| Fault::content("the body is not gzip, as its Content-Encoding says"))?;
    if whole.len() > limit {
        return Err(Fault::too_large(limit));
    }
    if !unpacker.into_inner().is_empty() {
        return Err(Fault::content("something follows the end of the body's gzip"));
    }
    Ok(whole.into())
}

/// The body packed, if that is worth it.
pub(super) fn pack(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < WORTH_PACKING {
        return None;
    }
    let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    packer.write_all(body).ok()?;
    packer.finish().ok()
}

/// A message as gRPC sends it: not compressed, its length in four bytes.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&vec![0; 10 * 1024 * 1024]).unwrap();
        let packed = packer.finish().unwrap();
        assert!(packed.len() < 64 * 1024);
        assert!(matches!(unpack(&packed, 1024 * 1024), Err(Fault::TooLarge(_))));
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let body = br#"{"a": "b"}"#.repeat(200);
        assert_eq!(unpack(&pack(&body).unwrap(), 1 << 20).unwrap(), body);
        assert_eq!(pack(b"{}"), None);
        assert!(unpack(b"{}", 100).is_err());
        let after = [pack(&body).unwrap(), b"x".to_vec()].concat();
        assert!(unpack(&after, 1 << 20).is_err(), "what stands behind the packed body was passed over");
    }
}
