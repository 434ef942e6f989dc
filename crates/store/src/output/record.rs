//! How a chunk of output lies in a segment, be it a file or an object: a header of 28 bytes, then the bytes, none of them changed.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `ao` |
//! | 2 | the version, 2 |
//! | 3 | the stream: 1 stdout, 2 stderr |
//! | 4..8 | how many bytes follow the header |
//! | 8..16 | the sequence |
//! | 16..24 | when, in milliseconds since the epoch |
//! | 24..28 | CRC-32, that of ISO/IEC 8802-3 (RFC 1952, section 8), over bytes 0..24 and what follows the header |
//!
//! Numbers are big-endian.

use airunner_core::{OutputChunk, OutputStream, Sequence, Timestamp};
use bytes::Bytes;
use crc32fast::Hasher;

use super::MAX_CHUNK;

/// Bytes before the chunk's own.
pub const HEADER: usize = 28;

/// A header that may be one: what it says is not yet checked against the checksum.
pub struct Header {
    bytes: [u8; HEADER],
    stream: OutputStream,
    /// How many bytes follow.
    pub len: usize,
    /// The chunk's place.
    pub sequence: Sequence,
}

/// Appends `chunk` as a record.
pub fn write(chunk: &OutputChunk, to: &mut Vec<u8>) {
    to.extend_from_slice(&header(chunk));
    to.extend_from_slice(&chunk.bytes);
}

/// What stands before the bytes of `chunk`.
pub fn header(chunk: &OutputChunk) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..3].copy_from_slice(b"ao\x02");
    header[3] = match chunk.stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    };
    // Chunks are checked against MAX_CHUNK before they get here.
    let len = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
    header[4..8].copy_from_slice(&len.to_be_bytes());
    header[8..16].copy_from_slice(&chunk.sequence.as_u64().to_be_bytes());
    header[16..24].copy_from_slice(&chunk.at.as_millis().to_be_bytes());
    let checksum = checksum(&header, &chunk.bytes);
    header[24..].copy_from_slice(&checksum);
    header
}

impl Header {
    /// What stands in the bytes; none where they are no header of ours.
    pub fn read(bytes: [u8; HEADER]) -> Option<Self> {
        let stream = match &bytes[..4] {
            b"ao\x02\x01" => OutputStream::Stdout,
            b"ao\x02\x02" => OutputStream::Stderr,
            _ => return None,
        };
        let len = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let sequence = Sequence::from_u64(u64::from_be_bytes(eight(&bytes, 8)));
        (len <= MAX_CHUNK).then_some(Self { bytes, stream, len, sequence })
    }

    /// The chunk, if `bytes` are those that the header was written for.
    pub fn chunk(&self, bytes: Bytes) -> Option<OutputChunk> {
        if checksum(&self.bytes, &bytes) != self.bytes[24..] {
            return None;
        }
        let at = Timestamp::from_millis(i64::from_be_bytes(eight(&self.bytes, 16)));
        Some(OutputChunk { sequence: self.sequence, at, stream: self.stream, bytes })
    }
}

fn eight(header: &[u8; HEADER], from: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[from..from + 8]);
    bytes
}

fn checksum(header: &[u8; HEADER], bytes: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new();
    hasher.update(&header[..24]);
    hasher.update(bytes);
    hasher.finalize().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> OutputChunk {
        OutputChunk {
            sequence: Sequence::new(3, 9),
            at: Timestamp::from_millis(-5),
            stream: OutputStream::Stderr,
            bytes: bytes.to_vec().into(),
        }
    }

    fn read(record: &[u8]) -> Option<OutputChunk> {
        let (header, bytes) = record.split_at(HEADER);
        Header::read(header.try_into().unwrap())?.chunk(bytes.to_vec().into())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for bytes in [&b""[..], b"\0\xff binary \n", &vec![7; MAX_CHUNK]] {
            let mut record = Vec::new();
            write(&chunk(bytes), &mut record);
            assert_eq!(read(&record), Some(chunk(bytes)));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let mut record = Vec::new();
        write(&chunk(b"hello"), &mut record);
        for place in 0..record.len() {
            let mut spoilt = record.clone();
            spoilt[place] ^= 4;
            assert_eq!(read(&spoilt), None, "byte {place}");
        }
    }
}
