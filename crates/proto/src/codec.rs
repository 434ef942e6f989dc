//! How a message is read off the wire and written to it: as protobuf has it, but that a message of too many fields is
//! not begun. An empty message within another is two bytes there and hundreds in memory, so that a message of some
//! megabytes could be made into one of a gigabyte. What the fields mean is not looked at here.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::Buf,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Fields of a message at most, each element of a list counted, those of the messages in it not: more than any list of
/// ours has.
pub const MAX_FIELDS: usize = 16 * 1024;

/// The codec of every method.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Reads messages of so many fields and no more.
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The whole of it lies in one piece; a piece that is less has fewer fields.
        if has_more_fields(buf.chunk(), MAX_FIELDS) {
            return Err(Status::resource_exhausted("the message has too many fields"));
        }
        U::decode(buf).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Whether a message has more than so many fields. One that can't be read has as many as come before the place where
/// it goes wrong.
fn has_more_fields(mut message: &[u8], most: usize) -> bool {
    // A field has two bytes at the least.
    if message.len() / 2 <= most {
        return false;
    }
    let mut fields = 0;
    while message.has_remaining() {
        fields += 1;
        if fields > most {
            return true;
        }
        let Ok((tag, wire_type)) = decode_key(&mut message) else { return false };
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::v1::{EnqueueJobsRequest, JobSpec};

    #[test]
    fn fields_are_counted_where_there_may_be_too_many() {
        let jobs = |count| EnqueueJobsRequest { jobs: vec![JobSpec::default(); count], ..Default::default() };
        assert!(!has_more_fields(&jobs(MAX_FIELDS).encode_to_vec(), MAX_FIELDS));
        assert!(has_more_fields(&jobs(MAX_FIELDS + 1).encode_to_vec(), MAX_FIELDS));
        let one = EnqueueJobsRequest {
            jobs: vec![JobSpec { command: "x".repeat(1 << 20), ..Default::default() }],
            request_id: "r".to_owned(),
        };
        assert!(!has_more_fields(&one.encode_to_vec(), MAX_FIELDS));
        assert!(
            !has_more_fields(&[0xff; 1 << 20], MAX_FIELDS),
            "left to the reader, which says what is wrong"
        );
    }
}
