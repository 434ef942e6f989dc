//! HTTP/2 frame by frame (RFC 9113), for what no library would send. Of the answers it knows the frames alone, and
//! nothing of what stands in them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFrame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl WireFrame {
    /// A frame type.
    pub const DATA: u8 = 0;
    /// A frame type.
    pub const HEADERS: u8 = 1;
    /// A frame type.
    pub const RST_STREAM: u8 = 3;
    /// A frame type.
    pub const SETTINGS: u8 = 4;
    /// A frame type.
    pub const GOAWAY: u8 = 7;
    /// A flag of DATA and HEADERS.
    pub const END_STREAM: u8 = 1;
    /// A flag of SETTINGS.
    pub const ACK: u8 = 1;
    /// A flag of HEADERS.
    pub const END_HEADERS: u8 = 4;
    /// An error code.
    pub const REFUSED_STREAM: u32 = 7;
    /// An error code.
    pub const CANCEL: u32 = 8;
    /// An error code.
    pub const ENHANCE_YOUR_CALM: u32 = 11;

    /// The head of a request, which ends there where `ends`.
    pub fn request(stream: u32, headers: &[(&str, &str)], ends: bool) -> Self {
        let flags = Self::END_HEADERS | if ends { Self::END_STREAM } else { 0 };
        Self { kind: Self::HEADERS, flags, stream, payload: header_block(headers) }
    }

    /// The end of a stream that nobody wants any more.
    pub fn cancel(stream: u32) -> Self {
        Self { kind: Self::RST_STREAM, flags: 0, stream, payload: Self::CANCEL.to_be_bytes().to_vec() }
    }

    /// A piece of a body.
    pub fn data(stream: u32, bytes: &[u8]) -> Self {
        Self { kind: Self::DATA, flags: 0, stream, payload: bytes.to_vec() }
    }

    fn encoded(&self) -> Vec<u8> {
        // No test sends a frame whose length has more than three bytes.
        let mut bytes = self.payload.len().to_be_bytes()[size_of::<usize>() - 3..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The error code of RST_STREAM, and of GOAWAY.
    pub fn error_code(&self) -> Option<u32> {
        let at = match self.kind {
            Self::RST_STREAM => 0,
            Self::GOAWAY => 4,
            _ => return None,
        };
        let bytes = self.payload.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }
}

/// A connection that frames are written to.
pub struct Wire<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Says the preface and empty settings, and agrees to what the server sets.
    ///
    /// # Errors
    /// The stream's.
    pub async fn begin(stream: S) -> io::Result<Self> {
        let mut wire = Self(stream);
        let settings = |flags| WireFrame { kind: WireFrame::SETTINGS, flags, stream: 0, payload: Vec::new() };
        wire.0.write_all(PREFACE).await?;
        wire.send(&[settings(0)]).await?;
        while wire.next().await?.kind != WireFrame::SETTINGS {}
        wire.send(&[settings(WireFrame::ACK)]).await?;
        Ok(wire)
    }

    /// Sends frames in one write, so that they arrive together as far as that can be had.
    ///
    /// # Errors
    /// The stream's.
    pub async fn send(&mut self, frames: &[WireFrame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(WireFrame::encoded).collect();
        self.0.write_all(&bytes).await?;
        self.0.flush().await
    }

    /// The next frame.
    ///
    /// # Errors
    /// The stream's; its end is `UnexpectedEof`.
    pub async fn next(&mut self) -> io::Result<WireFrame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        // Three bytes of length, the type, the flags, and four of the stream.
        let [l0, l1, l2, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(WireFrame { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), payload })
    }
}

/// Literal fields, not indexed and not Huffman coded (RFC 7541 section 6.2.2).
fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
#[expect(clippy::cast_possible_truncation, reason = "each is masked or compared to fit")]
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push((rest & 127) as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}
