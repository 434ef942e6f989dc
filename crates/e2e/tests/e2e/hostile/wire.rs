//! HTTP in bytes: frames of HTTP/2 (RFC 9113 section 4) and texts of HTTP/1.1 (RFC 9112), as wrong as a test likes.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::target::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
/// What a flood ends with.
const LAST: &[u8] = b"the last";
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const NONE: u8 = 0;
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// After how long without a byte a server is taken to wait for more.
const SILENCE: Duration = Duration::from_millis(500);

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of GOAWAY and RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame to send.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields in HPACK (RFC 7541 section 6.2.2): literal, not indexed, not packed.
pub(super) fn fields(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(&mut block, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer in HPACK (section 5.1), with no bit set before it.
pub(super) fn integer(block: &mut Vec<u8>, bits: u8, mut value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}

/// The head of a good request, without a body.
pub(super) fn request(path: &str) -> Vec<u8> {
    fields(&[
        (":method", b"GET"),
        (":scheme", b"https"),
        (":authority", b"localhost"),
        (":path", path.as_bytes()),
    ])
}

/// The head of a gRPC call.
pub(super) fn call(path: &str) -> Vec<u8> {
    fields(&[
        (":method", b"POST"),
        (":scheme", b"https"),
        (":authority", b"localhost"),
        (":path", path.as_bytes()),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ])
}

/// A connection for HTTP/2.
pub(super) struct Http2<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Http2<S> {
    /// Says the preface and these settings, as identifiers and values.
    pub(super) async fn begin(&mut self, settings: &[(u16, u32)]) {
        let settings =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let payload: Vec<u8> = settings.collect();
        self.send(&[PREFACE, &frame(SETTINGS, NONE, 0, &payload)].concat()).await;
    }

    /// Sends. That the other end has hung up already is no fault of a flood.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async { self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok() };
        timeout(PATIENCE, sent).await.unwrap_or(false)
    }

    /// The next frame; none at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, read_frame(&mut self.0)).await.expect("a frame or the end")
    }

    /// The next frame of this kind; none at the end.
    pub(super) async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// Sends these bytes again and again, up to so many times, while somebody else reads what comes. Returns the
    /// GOAWAY, if one came, and whether the connection has ended: a server that has ended it may still read a while, so
    /// that what it said last arrives, but it answers nothing.
    pub(super) async fn flood(self, times: u32, bytes: impl Fn(u32) -> Vec<u8>) -> (Option<Frame>, bool) {
        let (mut reader, mut writer) = tokio::io::split(self.0);
        let reading = tokio::spawn(async move {
            let (mut goaway, mut is_answered) = (None, false);
            while let Some(frame) = read_frame(&mut reader).await {
                is_answered |= frame.kind == PING && frame.payload == LAST;
                if frame.kind == GOAWAY {
                    goaway = Some(frame);
                }
            }
            (goaway, !is_answered)
        });
        let mut batch = Vec::new();
        let mut open = true;
        for n in 0..times {
            batch.extend_from_slice(&bytes(n));
            if batch.len() > 16 * 1024 || n + 1 == times {
                open = timeout(PATIENCE, writer.write_all(&batch)).await.is_ok_and(|sent| sent.is_ok());
                batch.clear();
                if !open {
                    break;
                }
            }
        }
        let asked = frame(PING, NONE, 0, LAST);
        open = open && timeout(PATIENCE, writer.write_all(&asked)).await.is_ok_and(|sent| sent.is_ok());
        let _ = timeout(PATIENCE, writer.shutdown()).await;
        if !open {
            // The stream looked for an alert when its write failed, and the reader may not be woken any more.
            let read = timeout(SILENCE, reading).await;
            return (read.ok().and_then(|read| read.unwrap().0), true);
        }
        timeout(PATIENCE, reading).await.expect("the end of the connection").unwrap()
    }
}

async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    let number = u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff;
    Some(Frame { kind: head[3], stream: number, payload })
}

/// A connection for HTTP/1.1.
pub(super) struct Http1<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    /// Sends these bytes, and returns all that comes until the other end hangs up, or waits for more than it gets.
    pub(super) async fn say(mut self, bytes: &[u8]) -> String {
        // Who is refused in the middle of a request may have been hung up on.
        let _ = timeout(PATIENCE, self.0.write_all(bytes)).await.expect("a server that reads");
        let _ = self.0.flush().await;
        let mut said = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        while let Ok(Ok(length @ 1..)) = timeout(SILENCE, self.0.read(&mut piece)).await {
            said.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The statuses of the answers in what was said.
pub(super) fn statuses(said: &str) -> Vec<u16> {
    let lines = said.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5));
    lines.filter_map(|status| status.parse().ok()).collect()
}
