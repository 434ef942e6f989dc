//! gzip over gRPC: each message that is worth it is packed, in both directions, where both sides want it. What is packed
//! badly, or would be too much, is the business of `hostile::grpc`; JSON's packing that of `json`.

use std::io::{Read as _, Write as _};

use airunner_core::PrincipalType;
use airunner_e2e::{RawClient, TestServer};
use airunner_proto::{
    audit::v1::TailAuditRequest,
    principal::v1::{CreatePrincipalRequest, ListPrincipalsResponse, WhoAmIResponse},
};
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::Response;
use prost::Message;

use crate::calls::*;

const GRPC: (&str, &str) = ("content-type", "application/grpc");
const SENDS: (&str, &str) = ("grpc-encoding", "gzip");
const TAKES: (&str, &str) = ("grpc-accept-encoding", "identity, deflate, gzip");

/// The messages of a body: whether each was packed, and what it is.
fn messages(response: &Response<Bytes>) -> Vec<(bool, Vec<u8>)> {
    let (mut rest, mut messages) = (&response.body()[..], Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, after) = after.split_at(length);
        let mut whole = Vec::new();
        match head[0] {
            0 => whole.extend_from_slice(message),
            _ => drop(GzDecoder::new(message).read_to_end(&mut whole).unwrap()),
        }
        messages.push((head[0] == 1, whole));
        rest = after;
    }
    messages
}

fn packed(message: &impl Message) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&message.encode_to_vec()).unwrap();
    let packed = packer.finish().unwrap();
    [&[1][..], &u32::try_from(packed.len()).unwrap().to_be_bytes(), &packed].concat()
}

async fn call(admin: &RawClient, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Bytes> {
    let answer = admin.http("POST", path, &[&[GRPC], headers].concat(), body).await.unwrap();
    assert!(answer.headers().get("grpc-status").is_none(), "{path} was refused: {answer:?}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_message_is_read_and_a_large_answer_is_packed_for_who_takes_it() {
    let server = TestServer::start().await;
    let admin = server.connect(Some(&server.admin)).await.unwrap();
    for n in 0..20 {
        let request = CreatePrincipalRequest {
            principal_id: format!("w-{n}"),
            r#type: airunner_proto::principal::v1::PrincipalType::Worker as i32,
            description: "the build machine in the cellar; ".repeat(20).trim().to_owned(),
            ..Default::default()
        };
        call(&admin, CREATE_PRINCIPAL, &[SENDS], &packed(&request)).await;
    }
    let nothing = [0; 5];
    let plain = call(&admin, LIST_PRINCIPALS, &[], &nothing).await;
    assert!(plain.headers().get("grpc-encoding").is_none());
    let [(false, plain)] = &messages(&plain)[..] else { panic!("packed for who did not ask") };
    let answer = call(&admin, LIST_PRINCIPALS, &[TAKES], &nothing).await;
    assert_eq!(answer.headers()["grpc-encoding"], "gzip");
    assert!(answer.body().len() < plain.len() / 4, "{} of {}", answer.body().len(), plain.len());
    let [(true, unpacked)] = &messages(&answer)[..] else { panic!("not packed") };
    assert_eq!(unpacked, plain);
    let listed = ListPrincipalsResponse::decode(&**unpacked).unwrap().principals;
    assert!(listed.len() > 20 && listed.iter().any(|one| one.description.ends_with("in the cellar;")));

    // A small one is not worth it.
    let me = call(&admin, WHO_AM_I, &[TAKES], &nothing).await;
    let [(false, me)] = &messages(&me)[..] else { panic!("packed though it is small") };
    assert_eq!(WhoAmIResponse::decode(&**me).unwrap().principal.unwrap().principal_id, "admin");
    server.stop().await;
}

/// Packing a stream piece by piece would copy it and gain little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_sent_as_it_is() {
    let server = TestServer::start().await;
    let admin = server.connect(Some(&server.admin)).await.unwrap();
    for n in 0..20 {
        server.principal(&format!("w-{n}"), PrincipalType::Worker).await;
    }
    let request = TailAuditRequest { count: 20, follow: false }.encode_to_vec();
    let body = [&[0, 0, 0, 0, u8::try_from(request.len()).unwrap()][..], &request].concat();
    let tail = call(&admin, TAIL_AUDIT, &[TAKES], &body).await;
    assert!(tail.headers().get("grpc-encoding").is_none());
    let messages = messages(&tail);
    assert!(messages.len() > 10 && messages.iter().all(|(packed, _)| !packed), "{}", messages.len());
    server.stop().await;
}

/// What a client of gRPC says of itself means nothing on another door.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_json_the_headers_of_grpc_pack_nothing() {
    let server = TestServer::start().await;
    let admin = server.connect(Some(&server.admin)).await.unwrap();
    for n in 0..20 {
        server.principal(&format!("w-{n}"), PrincipalType::Worker).await;
    }
    let listed = admin.http("GET", "/v1/principals", &[TAKES, SENDS], b"").await.unwrap();
    assert_eq!(listed.status(), 200);
    assert!(listed.headers().get("grpc-encoding").is_none());
    let listed: serde_json::Value = serde_json::from_slice(listed.body()).unwrap();
    assert!(listed["principals"].as_array().unwrap().len() > 20);
    server.stop().await;
}
