//! gRPC: frames that lie, messages that are none, and few bytes that would become many.

use std::io::Write as _;

use airunner_proto::{ca::v1::EnrollRequest, principal::v1::GetPrincipalRequest};
use flate2::{Compression, write::GzEncoder};
use http::Response;
use prost::Message as _;

use super::target::Target;
use crate::calls::*;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn frame(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes(), message].concat()
}

fn whole(message: &[u8]) -> Vec<u8> {
    frame(0, message.len(), message)
}

/// The code and the label of an answer that is a refusal from its head on.
fn refusal<B: std::fmt::Debug>(answer: &Response<B>) -> (i32, String) {
    use tonic_types::StatusExt as _;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let status = tonic::Status::from_header_map(answer.headers()).unwrap_or_else(|| panic!("{answer:?}"));
    let details = status.get_error_details();
    (status.code() as i32, details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_lies_is_refused_with_a_label() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let message = GetPrincipalRequest { principal_id: "admin".to_owned() }.encode_to_vec();
    let good = admin.http("POST", GET_PRINCIPAL, &[GRPC], &whole(&message)).await.unwrap();
    assert_eq!(&good.body()[..1], [0]);
    let invalid = (3, "invalid-argument".to_owned());
    for (name, body) in [
        ("nothing", Vec::new()),
        ("half a head", vec![0, 0, 0]),
        ("a head alone", frame(0, 7, b"")),
        ("a length too short", frame(0, message.len() - 1, &message)),
        ("a length too long", frame(0, message.len() + 1, &message)),
        ("bytes after the message", [whole(&message), vec![0, 0]].concat()),
        ("another flag", frame(2, message.len(), &message)),
        ("the highest flag", frame(255, message.len(), &message)),
        ("a packed message that nobody announced", frame(1, message.len(), &message)),
        ("no message", whole(&[0xff; 9])),
    ] {
        let refused = admin.http("POST", GET_PRINCIPAL, &[GRPC], &body).await.unwrap();
        assert_eq!(refusal(&refused), invalid, "{name}");
    }
    for length in [4 * 1024 * 1024 + 1, 0x7fff_ffff, u32::MAX as usize] {
        let refused = admin.http("POST", GET_PRINCIPAL, &[GRPC], &frame(0, length, &message)).await.unwrap();
        assert_eq!(refusal(&refused), (8, "too-large".to_owned()), "{length}");
    }
    target.is_unharmed().await;
}

fn packed(pieces: usize, piece: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..pieces {
        packer.write_all(piece).unwrap();
    }
    packer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_message_is_unpacked_no_further_than_the_limit() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let gzip = [GRPC, ("grpc-encoding", "gzip")];
    let bomb = packed(512, &vec![0; 1 << 20]);
    assert!(bomb.len() < 1 << 20);
    let bomb = frame(1, bomb.len(), &bomb);
    // One call that wants one message, one that takes a stream of them; many at once.
    for path in [GET_PRINCIPAL, PUBLISH] {
        let calls = (0..32).map(|_| admin.http("POST", path, &gzip, &bomb));
        for refused in futures_util::future::join_all(calls).await {
            assert_eq!(refusal(&refused.unwrap()), (8, "too-large".to_owned()), "{path}");
        }
    }
    // Two bytes of a message are hundreds in memory, packed or not.
    let empties = packed(1, &[0x0a, 0].repeat(2_000_000));
    let refused = admin.http("POST", ENQUEUE, &gzip, &frame(1, empties.len(), &empties)).await.unwrap();
    assert_eq!(refusal(&refused), (8, "too-large".to_owned()));
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_packed_badly_or_says_nothing_of_it_is_refused() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let message = GetPrincipalRequest { principal_id: "admin".to_owned() }.encode_to_vec();
    let good = packed(1, &message);
    let gzip = [GRPC, ("grpc-encoding", "gzip")];
    let served = admin.http("POST", GET_PRINCIPAL, &gzip, &frame(1, good.len(), &good)).await.unwrap();
    assert!(served.headers().get("grpc-status").is_none(), "{served:?}");
    let served = admin.http("POST", GET_PRINCIPAL, &gzip, &whole(&message)).await.unwrap();
    assert!(served.headers().get("grpc-status").is_none(), "a flag of 0 is a message as it is: {served:?}");

    let at = good.len() - 8;
    let mut wrong_sum = good.clone();
    wrong_sum[at] ^= 1;
    for (name, body) in [
        ("half of it", good[..good.len() / 2].to_vec()),
        ("without its sum", good[..at].to_vec()),
        ("with another sum", wrong_sum),
        ("packed twice", packed(1, &good)),
        ("not packed", message.clone()),
        ("nothing", Vec::new()),
    ] {
        let refused = admin.http("POST", GET_PRINCIPAL, &gzip, &frame(1, body.len(), &body)).await.unwrap();
        assert_eq!(refusal(&refused), (3, "invalid-argument".to_owned()), "{name}");
    }
    for headers in [&[GRPC][..], &[GRPC, ("grpc-encoding", "identity")]] {
        let refused = admin.http("POST", GET_PRINCIPAL, headers, &frame(1, good.len(), &good)).await.unwrap();
        assert_eq!(refusal(&refused), (3, "invalid-argument".to_owned()), "{headers:?}");
    }
    for encoding in ["deflate", "zstd", "br", "snappy", "identity, gzip"] {
        let headers = [GRPC, ("grpc-encoding", encoding)];
        let refused =
            admin.http("POST", GET_PRINCIPAL, &headers, &frame(1, good.len(), &good)).await.unwrap();
        assert_eq!(refusal(&refused), (12, "media-type".to_owned()), "{encoding}");
        assert_eq!(refused.headers()["grpc-accept-encoding"], "gzip,identity", "{encoding}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_none_are_refused_with_a_label() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    // A group within a group, and so on: 3 is the wire type that opens one, 4 the one that closes it.
    let groups = [vec![0x7b; 50_000], vec![0x7c; 50_000]].concat();
    for (name, message) in [
        ("field number 0", vec![0x02, 0x00]),
        ("wire type 6", vec![0x0e, 0x00]),
        ("wire type 7", vec![0x0f, 0x00]),
        (
            "a number without end",
            vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        ("a text longer than the message", vec![0x0a, 0x7f, b'x']),
        ("a text of 2^64 bytes", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("a text that is no UTF-8", vec![0x0a, 0x02, 0xc3, 0x28]),
        ("a surrogate in a text", vec![0x0a, 0x03, 0xed, 0xa0, 0x80]),
        ("a number where a text is", vec![0x08, 0x01]),
        ("the end of a group that was not opened", vec![0x0c]),
        ("a group without end", vec![0x7b; 50]),
        ("groups in groups", groups),
    ] {
        let refused = admin.http("POST", GET_PRINCIPAL, &[GRPC], &whole(&message)).await.unwrap();
        assert_eq!(refusal(&refused), (3, "invalid-argument".to_owned()), "{name}");
    }
    target.is_unharmed().await;
}

/// Two bytes on the wire are a message of some hundred in memory, so four megabytes of them would be a gigabyte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_empty_messages_are_not_made_of_few_bytes() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for (path, tag) in [(ENQUEUE, 0x0a), (PUBLISH, 0x12), (COMPLETE, 0x0a), (EXTEND, 0x0a)] {
        let message = [tag, 0].repeat(2_000_000);
        let refused = admin.call_bytes(path, &message).await.unwrap();
        assert_ne!(refused.code, tonic::Code::Ok, "{path}");
        target.is_unharmed().await;
    }
    let json = format!(r#"{{"jobs":[{}{{}}]}}"#, "{},".repeat(1_300_000));
    let refused =
        admin.http("POST", ENQUEUE, &[("content-type", "application/json")], json.as_bytes()).await.unwrap();
    assert!(refused.status().is_client_error(), "{}", refused.status());
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_like_grpc_gets_no_further_than_grpc() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let body = whole(b"");
    for content_type in
        ["application/grpc-web", "application/grpc-web-text", "application/grpc+json", "application/grpcx"]
    {
        let stranger = target.stranger().await;
        let refused =
            stranger.http("POST", WHO_AM_I, &[("content-type", content_type)], &body).await.unwrap();
        assert_eq!(refusal(&refused), (12, "unknown-method".to_owned()), "{content_type}");
    }
    for verb in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let refused = admin.http(verb, WHO_AM_I, &[GRPC], &body).await.unwrap();
        assert_eq!(refusal(&refused), (3, "method-not-allowed".to_owned()), "{verb}");
    }
    for path in
        ["/", "/x", "/x/y/z", "//", "/airunner.principal.v1.PrincipalService/", "/grpc.health.v1.Health/x"]
    {
        let refused = admin.http("POST", path, &[GRPC], &body).await.unwrap();
        assert_eq!(refusal(&refused), (12, "unknown-method".to_owned()), "{path}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_none_tell_nothing() {
    let mut target = Target::start().await;
    let stranger = target.stranger().await;
    let (_, csr) = key_and_csr();
    let mut told = Vec::new();
    for token in
        ["", "aet1_", "aet1_AAAA", "bearer", &format!("aet1_{}", "A".repeat(400)), &"x".repeat(100_000)]
    {
        let request = EnrollRequest { token: token.to_owned(), csr: csr.clone() };
        let answer = stranger.call(ENROLL, &request).await.unwrap();
        assert_eq!(answer.label, "token-invalid", "{}", &token[..token.len().min(20)]);
        told.push(answer.message);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    target.is_unharmed().await;
}
