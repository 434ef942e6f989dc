//! HTTP/2 frames: floods, lies about length and order, and heads that are none.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{target::Target, wire::*};
use crate::calls::*;

/// Error codes (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

const WHOLE: u8 = END_HEADERS | END_STREAM;
const PATH: &str = "/v1/whoami";

/// The n-th stream of a client.
const fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// The reason of a connection's end, where the attacker lived to read it: who is hung up on in the middle of what it
/// says gets a reset, which may overtake the reason.
fn is_calmed(goaway: Option<Frame>) {
    let code = goaway.map(|frame| frame.code());
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR | COMPRESSION_ERROR)), "{code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset_is_told_to_calm_down() {
    let mut target = Target::start().await;
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    let head = request(PATH);
    let (goaway, ended) = attacker
        .flood(50_000, |n| {
            let open = frame(HEADERS, WHOLE, stream(n), &head);
            [open, frame(RST_STREAM, NONE, stream(n), &8_u32.to_be_bytes())].concat()
        })
        .await;
    is_calmed(goaway);
    assert!(ended, "50,000 resets were read");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_that_we_are_made_to_send_are_counted_too() {
    let mut target = Target::start().await;
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    let head = call(WHO_AM_I);
    let (goaway, ended) = attacker
        .flood(50_000, |n| {
            let open = frame(HEADERS, END_HEADERS, stream(n), &head);
            [open, frame(WINDOW_UPDATE, NONE, stream(n), &[0; 4])].concat()
        })
        .await;
    is_calmed(goaway);
    assert!(ended, "50,000 errors were borne");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_ends_the_connection() {
    let mut target = Target::start().await;
    let field = fields(&[("x-padding", &[b'x'; 1_000])]);
    for piece in [field.as_slice(), &[]] {
        let mut attacker = target.http2().await;
        attacker.begin(&[]).await;
        attacker.send(&frame(HEADERS, NONE, 1, &request(PATH))).await;
        let (goaway, ended) = attacker.flood(100_000, |_| frame(CONTINUATION, NONE, 1, piece)).await;
        is_calmed(goaway);
        assert!(ended, "{} bytes a piece were read without end", piece.len());
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_want_an_answer_are_answered_one_by_one() {
    let mut target = Target::start().await;
    for flooded in [frame(PING, NONE, 0, &[7; 8]), frame(SETTINGS, NONE, 0, &[])] {
        let mut attacker = target.http2().await;
        attacker.begin(&[]).await;
        attacker.flood(200_000, |_| flooded.clone()).await;
        target.is_unharmed().await;
        // One that reads none of the answers is read no further itself.
        let mut attacker = target.http2().await;
        attacker.begin(&[]).await;
        let batch = flooded.repeat(1_000);
        let mut blocked = false;
        for _ in 0..20_000 {
            let sent = timeout(Duration::from_secs(1), attacker.0.write_all(&batch)).await;
            blocked = !matches!(sent, Ok(Ok(())));
            if blocked {
                break;
            }
        }
        assert!(blocked, "more than 180 MB were read of one that reads nothing");
        target.is_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_mean_nothing_are_passed_over() {
    let mut target = Target::start().await;
    let priority = [&stream(9).to_be_bytes()[..], &[7]].concat();
    for flooded in [
        frame(PRIORITY, NONE, 1, &priority),
        frame(0x77, 0xff, 5, &[1; 64]),
        frame(WINDOW_UPDATE, NONE, 0, &1_u32.to_be_bytes()),
        frame(SETTINGS, ACK, 0, &[]),
    ] {
        let mut attacker = target.http2().await;
        attacker.begin(&[]).await;
        attacker.flood(100_000, |_| flooded.clone()).await;
        target.is_unharmed().await;
    }
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    attacker.send(&frame(HEADERS, END_HEADERS, 1, &call(WHO_AM_I))).await;
    attacker.flood(200_000, |_| frame(DATA, NONE, 1, &[])).await;
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_no_window_gets_no_bytes_and_costs_few() {
    let mut target = Target::start().await;
    let mut attacker = target.http2().await;
    attacker.begin(&[(4, 0)]).await;
    for n in 0..200 {
        attacker.send(&frame(HEADERS, WHOLE, stream(n), &request("/openapi.json"))).await;
    }
    attacker.send(&frame(PING, NONE, 0, &[1; 8])).await;
    let mut heads = 0;
    while let Some(answer) = attacker.next().await {
        assert_ne!(answer.kind, DATA, "bytes that nobody allowed");
        heads += u32::from(answer.kind == HEADERS);
        if heads == 200 {
            break;
        }
    }
    target.is_unharmed().await;
    attacker.send(&frame(SETTINGS, NONE, 0, &[0, 4, 0, 0, 0x40, 0])).await;
    let piece = attacker.next_of(&[DATA, GOAWAY]).await.expect("a frame");
    assert_eq!(piece.kind, DATA, "with a window there are bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_requests_of_a_connection_are_limited() {
    let mut target = Target::start().await;
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    let head = call(WHO_AM_I);
    let all: Vec<u8> = (0..400).flat_map(|n| frame(HEADERS, END_HEADERS, stream(n), &head)).collect();
    attacker.send(&all).await;
    let reset = attacker.next_of(&[RST_STREAM, GOAWAY]).await.expect("a frame");
    assert_eq!((reset.kind, reset.code()), (RST_STREAM, REFUSED_STREAM));
    assert!(reset.stream >= stream(256), "{reset:?}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_limited_in_bytes_however_it_is_packed() {
    let mut target = Target::start().await;
    // One large field, and many small ones.
    let large = [request(PATH), fields(&[("x", &[b'x'; 16_300])])].concat();
    let many: Vec<u8> = (0..500).flat_map(|_| fields(&[("x", b"y")])).collect();
    let many = [request(PATH), many].concat();
    // A field that is put into the table once, and named ten thousand times.
    let mut bomb = request(PATH);
    bomb.extend([0x40, 1, b'x']);
    integer(&mut bomb, 7, 3_000);
    bomb.extend([b'y'; 3_000]);
    bomb.extend([0xbe; 10_000]);
    for block in [large, many, bomb] {
        let mut attacker = target.http2().await;
        attacker.begin(&[]).await;
        attacker.send(&frame(HEADERS, WHOLE, 1, &block)).await;
        let answer = attacker.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await.expect("an answer");
        if answer.kind == HEADERS {
            // 431 is in no table: a literal of three digits, packed or not.
            assert!(
                !matches!(answer.payload.first(), Some(0x88)),
                "a head of {} bytes was taken",
                block.len()
            );
        }
        target.is_unharmed().await;
    }
}

/// What is to come of a frame: the end of the connection, or of the stream, with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Connection(u32),
    Stream(u32),
    /// An answer of HTTP whose status stands in HPACK's table: 200 and 400 here.
    Answer(u8),
}

async fn end_of(target: &Target, bytes: &[u8]) -> End {
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    attacker.send(bytes).await;
    let answer = attacker.next_of(&[GOAWAY, RST_STREAM, HEADERS]).await.expect("an answer");
    match answer.kind {
        GOAWAY => End::Connection(answer.code()),
        RST_STREAM => End::Stream(answer.code()),
        _ => End::Answer(answer.payload[0]),
    }
}

/// Frames that break the protocol, by what is wrong with them, with what is to come of them.
type Broken = (&'static str, Vec<u8>, End);

/// Those on the wrong stream, or at the wrong time.
fn misplaced() -> Vec<Broken> {
    let head = request(PATH);
    let open = frame(HEADERS, END_HEADERS, 1, &call(WHO_AM_I));
    let after = |bytes: &[u8]| [&open, bytes].concat();
    let in_head = [frame(HEADERS, NONE, 1, &head), frame(PING, NONE, 0, &[0; 8])].concat();
    let back = [5, 3].map(|stream| frame(HEADERS, END_HEADERS, stream, &call(WHO_AM_I))).concat();
    let on_itself = [&[0, 0, 0, 1, 7][..], &head].concat();
    let mut all: Vec<Broken> = [
        ("HEADERS on no stream", frame(HEADERS, WHOLE, 0, &head)),
        ("HEADERS on a stream of the server's", frame(HEADERS, WHOLE, 2, &head)),
        ("DATA on no stream", frame(DATA, NONE, 0, b"x")),
        ("DATA on an idle stream", frame(DATA, NONE, 7, b"x")),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, NONE, 7, &[0; 4])),
        ("WINDOW_UPDATE on an idle stream", frame(WINDOW_UPDATE, NONE, 7, &[0, 0, 0, 1])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("a PING within a head", in_head),
        ("PUSH_PROMISE of a client", after(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]))),
        ("SETTINGS on a stream", frame(SETTINGS, NONE, 1, &[])),
        ("PING on a stream", frame(PING, NONE, 1, &[0; 8])),
        ("GOAWAY on a stream", frame(GOAWAY, NONE, 1, &[0; 8])),
        ("PRIORITY on no stream", frame(PRIORITY, NONE, 0, &[0, 0, 0, 1, 7])),
        ("a stream number that goes back", back),
    ]
    .map(|(name, bytes)| (name, bytes, End::Connection(PROTOCOL_ERROR)))
    .into();
    let stream = End::Stream(PROTOCOL_ERROR);
    all.push(("a stream that depends on itself", frame(HEADERS, WHOLE | 0x20, 1, &on_itself), stream));
    let again = after(&frame(HEADERS, END_HEADERS, 1, &fields(&[("x", b"y")])));
    all.push(("a second head without an end", again, End::Stream(PROTOCOL_ERROR)));
    all
}

/// Those that lie about lengths and sizes.
fn missized() -> Vec<Broken> {
    let open = frame(HEADERS, END_HEADERS, 1, &call(WHO_AM_I));
    let after = |bytes: &[u8]| [&open, bytes].concat();
    let beyond = 0x7fff_ffff_u32.to_be_bytes();
    [
        ("SETTINGS that allow push oddly", frame(SETTINGS, NONE, 0, &[0, 2, 0, 0, 0, 9]), PROTOCOL_ERROR),
        ("WINDOW_UPDATE by nothing", frame(WINDOW_UPDATE, NONE, 0, &[0; 4]), PROTOCOL_ERROR),
        ("padding longer than its frame", after(&frame(DATA, 8, 1, &[200, 1, 2])), PROTOCOL_ERROR),
        ("a frame of 16,385 bytes", after(&frame(DATA, NONE, 1, &vec![0; 16_385])), FRAME_SIZE_ERROR),
        ("SETTINGS of 5 bytes", frame(SETTINGS, NONE, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("an acknowledgement with settings in it", frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("PING of 7 bytes", frame(PING, NONE, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("RST_STREAM of 3 bytes", after(&frame(RST_STREAM, NONE, 1, &[0; 3])), FRAME_SIZE_ERROR),
        ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, NONE, 0, &[0; 3]), FRAME_SIZE_ERROR),
        ("a window beyond 2^31", frame(WINDOW_UPDATE, NONE, 0, &beyond), FLOW_CONTROL_ERROR),
        ("settings with such a window", frame(SETTINGS, NONE, 0, &[0, 4, 0x80, 0, 0, 0]), FLOW_CONTROL_ERROR),
    ]
    .map(|(name, bytes, code)| (name, bytes, End::Connection(code)))
    .into()
}

/// Those whose head can't be unpacked.
fn mispacked() -> Vec<Broken> {
    [
        ("a field out of no table", &[0xff, 0x7f][..]),
        ("field number 0", &[0x80]),
        ("a number without end", &[0xff; 64]),
        ("a text that is cut", &[0, 10, b'x']),
        ("Huffman that is none", &[0, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("a table larger than allowed", &[0x3f, 0xff, 0xff, 0xff, 0x7f]),
    ]
    .map(|(name, block)| (name, frame(HEADERS, WHOLE, 1, block), End::Connection(COMPRESSION_ERROR)))
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_protocol_end_what_they_belong_to() {
    let mut target = Target::start().await;
    for (name, bytes, end) in [misplaced(), missized(), mispacked()].concat() {
        let ended = end_of(&target, &bytes).await;
        // The library has the general code for some of these.
        let general = matches!(end, End::Connection(_)) && ended == End::Connection(PROTOCOL_ERROR);
        assert!(ended == end || general, "{name}: {ended:?} and not {end:?}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_no_request_are_refused() {
    let mut target = Target::start().await;
    let of = |more: &[(&str, &[u8])]| [request(PATH), fields(more)].concat();
    let without = |name: &str| {
        let all: [(&str, &[u8]); 4] = [
            (":method", b"GET"),
            (":scheme", b"https"),
            (":authority", b"localhost"),
            (":path", PATH.as_bytes()),
        ];
        fields(&all.into_iter().filter(|(it, _)| *it != name).collect::<Vec<_>>())
    };
    for (name, block) in [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("two methods", of(&[(":method", b"DELETE")])),
        ("two paths", of(&[(":path", b"/v1/principals")])),
        ("two authorities", of(&[(":authority", b"evil.example")])),
        ("a status", of(&[(":status", b"200")])),
        ("an unknown field of the protocol's", of(&[(":secret", b"1")])),
        ("a field of the protocol's after others", [fields(&[("x", b"y")]), request(PATH)].concat()),
        ("an empty path", [without(":path"), fields(&[(":path", b"")])].concat()),
        ("a name in capitals", of(&[("X-Upper", b"1")])),
        ("an empty name", of(&[("", b"1")])),
        ("a name with a space", of(&[("a b", b"1")])),
        ("a name with a line end", of(&[("a\r\nb", b"1")])),
        ("a value with a line end", of(&[("x", b"1\r\ny: 2")])),
        ("a value with a zero", of(&[("x", b"1\0")])),
        ("connection", of(&[("connection", b"close")])),
        ("transfer-encoding", of(&[("transfer-encoding", b"chunked")])),
        ("keep-alive", of(&[("keep-alive", b"1")])),
        ("proxy-connection", of(&[("proxy-connection", b"1")])),
        ("upgrade", of(&[("upgrade", b"h2c")])),
        ("te with more than trailers", of(&[("te", b"trailers, gzip")])),
        ("a length that is no number", of(&[("content-length", b"-1")])),
        ("a length that nothing follows", of(&[("content-length", b"5")])),
    ] {
        let end = end_of(&target, &frame(HEADERS, WHOLE, 1, &block)).await;
        // 0x8c is the status 400.
        let refused = [
            End::Stream(PROTOCOL_ERROR),
            End::Connection(PROTOCOL_ERROR),
            End::Connection(COMPRESSION_ERROR),
            End::Answer(0x8c),
        ];
        assert!(refused.contains(&end), "{name}: {end:?}");
    }
    let good = end_of(&target, &frame(HEADERS, WHOLE, 1, &of(&[("te", b"trailers"), ("x", b"\xff")]))).await;
    assert_eq!(good, End::Answer(0x88));
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_and_its_length_must_agree() {
    let mut target = Target::start().await;
    for (said, sent) in [(&b"3"[..], &b"12345"[..]), (b"7", b"12345")] {
        let head = [call(WHO_AM_I), fields(&[("content-length", said)])].concat();
        let bytes = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, sent)].concat();
        assert_eq!(end_of(&target, &bytes).await, End::Stream(PROTOCOL_ERROR), "{}", said.escape_ascii());
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bytes_than_the_window_allows_end_the_connection() {
    let mut target = Target::start().await;
    let mut attacker = target.http2().await;
    attacker.begin(&[]).await;
    attacker.send(&frame(HEADERS, END_HEADERS, 1, &call("/nothing/Here"))).await;
    let (goaway, ended) = attacker.flood(10_000, |_| frame(DATA, NONE, 1, &[0; 16_000])).await;
    let code = goaway.map(|frame| frame.code());
    assert!(ended, "160 MB were read that nobody wanted: {code:?}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_preface_is_not_http_2() {
    let mut target = Target::start().await;
    for preface in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n",
        &[0; 64],
        b"\x16\x03\x01\x02\x00",
    ] {
        let mut attacker = target.http2().await;
        attacker.send(preface).await;
        let _ = attacker.0.shutdown().await;
        let mut said = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut attacker.0, &mut said);
        let _ = timeout(super::target::PATIENCE, read).await.expect("the end of the connection");
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("200 OK"), "{said}");
    }
    target.is_unharmed().await;
}
