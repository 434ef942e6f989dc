//! One definition, every door: Connect's unary JSON and REST answer as gRPC does, and say as much when they refuse.

use std::io::{Read as _, Write as _};

use airunner_core::{PrincipalType, Role};
use airunner_e2e::{RawClient, TestServer};
use airunner_proto::{DESCRIPTOR_SET, principal::v1::GetPrincipalRequest};
use bytes::Bytes;
use data_encoding::BASE64_NOPAD;
use http::Response;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    calls::*,
    matrix::{Row, TABLE, holds},
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// What a JSON door answered.
#[derive(Debug)]
struct Said {
    status: u16,
    body: Value,
}

impl Said {
    fn of(response: &Response<Bytes>) -> Self {
        let body = serde_json::from_slice(response.body()).unwrap_or_else(|_| {
            // A stream: its last line is what it says of itself.
            let text = String::from_utf8_lossy(response.body());
            serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap_or(Value::Null)
        });
        Self { status: response.status().as_u16(), body }
    }

    /// The label, the sentence and the field of a failure in our form.
    fn of_ours(&self) -> (String, String, Option<String>) {
        let error = &self.body["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (text("label").unwrap_or_default(), text("message").unwrap_or_default(), text("field"))
    }

    /// The same of one in Connect's form: the label and the field stand in its `google.rpc.ErrorInfo`.
    fn of_connect(&self) -> (String, String, Option<String>) {
        let details = self.body["details"].as_array().cloned().unwrap_or_default();
        let info = details.iter().find(|detail| detail["type"] == "google.rpc.ErrorInfo");
        let info = info.map(|detail| {
            let bytes = BASE64_NOPAD.decode(detail["value"].as_str().unwrap().as_bytes()).unwrap();
            tonic_types::pb::ErrorInfo::decode(&*bytes).unwrap()
        });
        let message = self.body["message"].as_str().unwrap_or_default().to_owned();
        let field = info.as_ref().and_then(|info| info.metadata.get("field").cloned());
        (info.map(|info| info.reason).unwrap_or_default(), message, field)
    }
}

async fn said(client: &RawClient, verb: &str, path: &str, body: &str) -> Said {
    let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
    Said::of(&client.http(verb, path, headers, body.as_bytes()).await.unwrap())
}

/// A binding of an RPC, with `nobody` for every variable.
struct Binding {
    rpc: String,
    verb: String,
    path: String,
    body: &'static str,
}

fn bindings() -> Vec<Binding> {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
    let extension = pool.get_extension_by_name("google.api.http").unwrap();
    let mut all = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let rule = method.options().get_extension(&extension).into_owned();
        let first = rule.as_message().unwrap().clone();
        let more = first.get_field_by_name("additional_bindings").unwrap().into_owned();
        let more = more.as_list().unwrap().iter().map(|rule| rule.as_message().unwrap().clone());
        for rule in std::iter::once(first.clone()).chain(more.collect::<Vec<_>>()) {
            let text = |name: &str| rule.get_field_by_name(name).map(|v| v.as_str().unwrap().to_owned());
            let found = ["get", "post", "put", "delete", "patch"].iter().find_map(|verb| {
                text(verb).filter(|path| !path.is_empty()).map(|path| (verb.to_uppercase(), path))
            });
            let Some((verb, path)) = found else { continue };
            let path: String = path
                .split('{')
                .enumerate()
                .map(|(n, part)| match (n, part.split_once('}')) {
                    (0, _) => part.to_owned(),
                    (_, Some((_, after))) => format!("nobody{after}"),
                    (_, None) => panic!("{path}"),
                })
                .collect();
            let rpc = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let body = if text("body").unwrap().is_empty() { "" } else { "{}" };
            all.push(Binding { rpc, verb, path, body });
        }
    }
    all
}

/// The rows that JSON reaches: one message up, and a service of ours.
fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.path.starts_with("/airunner.") && row.path != PUBLISH_STREAM)
}

const fn connect_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition => 400,
        Code::Unavailable => 503,
        _ => 0,
    }
}

#[test]
fn every_rpc_with_one_message_up_has_a_path_of_its_own() {
    let bound = bindings();
    for row in rows() {
        assert!(bound.iter().any(|binding| binding.rpc == row.path), "{}", row.path);
    }
    assert!(!bound.iter().any(|binding| binding.rpc == PUBLISH_STREAM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_is_told_the_same_at_every_door() {
    let server = TestServer::start().await;
    let bindings = bindings();
    for role in Role::ALL {
        let who = server.principal_of_role(&format!("the-{role}"), *role).await;
        let client = server.connect(Some(&who)).await.unwrap();
        for row in rows() {
            let grpc = client.probe(row.path).await.unwrap();
            let connect = said(&client, "POST", row.path, "{}").await;
            let may = holds(*role, row.needs);
            if row.empty.0 == Code::Ok && may {
                assert_eq!(connect.status, 200, "{role} at {}: {connect:?}", row.path);
            } else {
                let (label, message, field) = connect.of_connect();
                assert_eq!((&label, &field), (&grpc.label, &grpc.field), "{role} at {}", row.path);
                assert_eq!(message, grpc.message, "{role} at {}", row.path);
                let status = if may { connect_status(row.empty.0) } else { 403 };
                assert_eq!(connect.status, status, "{role} at {}: {connect:?}", row.path);
            }
            for binding in bindings.iter().filter(|binding| binding.rpc == row.path) {
                let rest = said(&client, &binding.verb, &binding.path, binding.body).await;
                let (label, message, field) = rest.of_ours();
                if may {
                    assert_ne!(label, "permission-denied", "{role} at {} {}", binding.verb, binding.path);
                    assert_ne!(rest.status, 500, "{role} at {} {}", binding.verb, binding.path);
                } else {
                    let denied = (403, "permission-denied", Some(row.needs));
                    assert_eq!((rest.status, &*label, field.as_deref()), denied, "{}", binding.path);
                    assert_eq!(message, grpc.message);
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_over_json_what_is_not_public() {
    let server = TestServer::start().await;
    let anyone = server.connect_public().await;
    for row in rows() {
        let connect = said(&anyone, "POST", row.path, "{}").await;
        let is_public = row.needs == "anonymous";
        assert_eq!(connect.status == 501, !is_public, "{}: {connect:?}", row.path);
        for binding in bindings().iter().filter(|binding| binding.rpc == row.path) {
            let rest = said(&anyone, &binding.verb, &binding.path, binding.body).await;
            assert_eq!(rest.status == 404, !is_public, "{}: {rest:?}", binding.path);
            // Another verb, or another type, says no more than that there is nothing.
            for (verb, kind) in [("PUT", "application/json"), ("POST", "text/plain")] {
                let response =
                    anyone.http(verb, &binding.path, &[("content-type", kind)], b"x").await.unwrap();
                assert_eq!(response.status() == 404, !is_public, "{verb} {}", binding.path);
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_principal_is_told_so_at_every_door() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let who = server.principal("alice", PrincipalType::User).await;
    let suspended = said(&admin, "POST", "/v1/principals/alice:suspend", r#"{"reason": "on leave"}"#).await;
    assert_eq!(suspended.body["principal"]["suspendedReason"], "on leave");
    let alice = server.connect(Some(&who)).await.unwrap();
    let connect = said(&alice, "POST", WHO_AM_I, "{}").await;
    assert_eq!((connect.status, connect.of_connect().0.as_str()), (401, "principal-suspended"));
    let alice = server.connect(Some(&who)).await.unwrap();
    let rest = said(&alice, "GET", "/v1/whoami", "").await;
    assert_eq!((rest.status, rest.of_ours().0.as_str()), (401, "principal-suspended"));
    assert!(rest.of_ours().1.contains("on leave"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_the_same_in_json_and_in_protobuf() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let wanted = json!({
        "principalId": "w-1", "type": "PRINCIPAL_TYPE_SERVICE", "dns_names": ["w-1.example.com"],
        "maxCertificates": 7, "validity": "3600s", "metadata": {"rack": "7"},
    });
    let made = said(&admin, "POST", "/v1/principals", &wanted.to_string()).await;
    assert_eq!(made.status, 200, "{made:?}");
    let principal = &made.body["principal"];
    assert_eq!(principal["version"], "1", "64 bits are a string");
    assert_eq!((&principal["validity"], &principal["maxCertificates"]), (&json!("3600s"), &json!(7)));
    assert!(principal["createdAt"].as_str().unwrap().ends_with('Z'));

    let request = GetPrincipalRequest { principal_id: "w-1".to_owned() };
    let binary = [("content-type", "application/proto")];
    let response = admin.http("POST", GET_PRINCIPAL, &binary, &request.encode_to_vec()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/proto");
    let over_proto =
        airunner_proto::principal::v1::GetPrincipalResponse::decode(response.into_body()).unwrap();
    let over_grpc: airunner_proto::principal::v1::GetPrincipalResponse =
        admin.ask(GET_PRINCIPAL, &request).await;
    assert_eq!(over_proto, over_grpc);

    let masked = json!({"version": "1", "principal": {"description": "new"}, "updateMask": "description"});
    let updated = said(&admin, "PATCH", "/v1/principals/w-1", &masked.to_string()).await;
    assert_eq!(updated.body["principal"]["description"], "new", "{updated:?}");
    assert_eq!(updated.body["principal"]["maxCertificates"], 7);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_meant_is_refused_by_name() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let worker = r#"{"principalId": "w", "type": "PRINCIPAL_TYPE_WORKER"}"#;
    assert_eq!(said(&admin, "POST", "/v1/principals", worker).await.status, 200);
    for (verb, path, body, named) in [
        ("POST", "/v1/principals", r#"{"principalId": "x", "colour": "red"}"#, "colour"),
        ("POST", "/v1/principals", r#"{"principalId": "x", "type": "KING"}"#, "KING"),
        ("POST", "/v1/principals", "[]", "map"),
        ("POST", "/v1/principals", "{", "EOF"),
        ("POST", "/v1/principals?principal_id=x", "{}", "query"),
        ("POST", "/v1/principals/w:suspend", r#"{"principal_id": "other"}"#, "principal_id"),
        ("POST", "/v1/principals/w:suspend", r#"{"principalId": "other"}"#, "principal_id"),
        ("GET", "/v1/principals?colour=red", "", "colour"),
        ("GET", "/v1/principals?page_size=many", "", "page_size"),
        ("GET", "/v1/principals?page_size=-1", "", "page_size"),
        ("GET", "/v1/principals?page_size=1&page_size=2", "", "page_size"),
        ("GET", "/v1/principals?type=KING", "", "PRINCIPAL_TYPE_WORKER"),
        ("GET", "/v1/certificates?revoked=perhaps", "", "revoked"),
        ("GET", "/v1/principals/w?principal_id=v", "", "principal_id"),
        ("GET", "/v1/principals/%ff", "", "principal_id"),
        ("GET", "/v1/principals?id_prefix=%ff", "", "UTF-8"),
    ] {
        let refused = said(&admin, verb, path, body).await;
        let (label, message, _) = refused.of_ours();
        assert_eq!((refused.status, label.as_str()), (400, "invalid-argument"), "{verb} {path} {body}");
        assert!(message.contains(named), "{verb} {path} {body}: {message}");
    }
    let body = r#"{"principal_id": "w"}"#;
    assert_eq!(said(&admin, "POST", "/v1/principals/w:suspend", body).await.status, 200, "twice the same");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_verbs_types_and_sizes_are_refused_as_http_has_it() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let sent = async |verb: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        admin.http(verb, path, headers, body).await.unwrap()
    };
    let other = sent("PUT", "/v1/principals/w", &[JSON], b"{}").await;
    assert_eq!(other.status(), 405);
    assert_eq!(other.headers()["allow"], "GET, PATCH, DELETE, HEAD");
    assert_eq!(sent("GET", WHO_AM_I, &[], b"").await.headers()["allow"], "POST");
    assert_eq!(sent("GET", "/v1/nothing", &[], b"").await.status(), 404);
    assert_eq!(sent("POST", "/v1/principals", &[("content-type", "text/plain")], b"{}").await.status(), 415);
    let packed = [JSON, ("content-encoding", "br")];
    assert_eq!(sent("POST", "/v1/principals", &packed, b"{}").await.status(), 415);
    let stream = sent("POST", PUBLISH_STREAM, &[JSON], b"{}").await;
    assert_eq!(stream.status(), 415);
    let large = vec![b' '; 4 * 1024 * 1024 + 1];
    assert_eq!(sent("POST", "/v1/principals", &[JSON], &large).await.status(), 413);
    let deep = "[".repeat(100_000);
    assert_eq!(sent("POST", "/v1/principals", &[JSON], deep.as_bytes()).await.status(), 400);
    let head = sent("HEAD", "/v1/whoami", &[], b"").await;
    assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
    for path in ["/v1/nothing", "/v1/principals/nobody", "/jobs/status/nonsense"] {
        let refused = sent("HEAD", path, &[], b"").await;
        assert!(refused.status().is_client_error() && refused.body().is_empty(), "{path}: {refused:?}");
    }
    for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
        assert_eq!(head.headers()[name], value);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anyone_may_read_how_the_server_is_and_what_it_offers() {
    let server = TestServer::start().await;
    for client in [admin(&server).await, server.connect_public().await] {
        assert_eq!(said(&client, "GET", "/v1/health", "").await.body, json!({"status": "ok"}));
        let described = said(&client, "GET", "/openapi.json", "").await.body;
        assert_eq!(described["openapi"], "3.1.0");
        for binding in bindings() {
            let verb = binding.verb.to_lowercase();
            let paths = described["paths"].as_object().unwrap();
            let is_there = paths.iter().any(|(path, operations)| {
                let path: String = path
                    .split('{')
                    .enumerate()
                    .map(|(n, part)| match n {
                        0 => part.to_owned(),
                        _ => format!("nobody{}", part.split_once('}').unwrap().1),
                    })
                    .collect();
                path == binding.path && operations.get(&verb).is_some()
            });
            assert!(is_there, "{} {}", binding.verb, binding.path);
        }
        let refused = client.http("POST", "/openapi.json", &[JSON], b"{}").await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
        let head = client.http("HEAD", "/openapi.json", &[], b"").await.unwrap();
        assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_packed_in_both_directions() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    for n in 0..20 {
        let body = json!({"principalId": format!("w-{n}"), "type": "PRINCIPAL_TYPE_WORKER"}).to_string();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(body.as_bytes()).unwrap();
        let packed = packer.finish().unwrap();
        let headers = [JSON, ("content-encoding", "gzip")];
        assert_eq!(admin.http("POST", "/v1/principals", &headers, &packed).await.unwrap().status(), 200);
    }
    let headers = [("accept-encoding", "br;q=1, gzip;q=0.8")];
    let listed = admin.http("GET", "/v1/principals", &headers, b"").await.unwrap();
    assert_eq!(listed.headers()["content-encoding"], "gzip");
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&**listed.body()).read_to_string(&mut unpacked).unwrap();
    let listed: Value = serde_json::from_str(&unpacked).unwrap();
    assert!(listed["principals"].as_array().unwrap().len() > 20);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_when_its_caller_has_no_more_time() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    // A follower of the audit log waits for ever.
    for (name, value) in [("connect-timeout-ms", "50"), ("grpc-timeout", "50m")] {
        let response = admin.http("GET", "/v1/audit?follow=true", &[(name, value)], b"").await.unwrap();
        let last = Said::of(&response);
        assert_eq!(last.of_ours().0, "deadline-exceeded", "{name}: {response:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_lines_or_events_and_says_how_it_ended() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let lines = admin.http("GET", "/v1/audit?count=2", &[], b"").await.unwrap();
    assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
    let text = String::from_utf8(lines.into_body().to_vec()).unwrap();
    let parsed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(parsed.len() > 1 && parsed[0]["entry"]["number"].is_string(), "{text}");
    assert_eq!(parsed.last(), Some(&json!({"end": {}})));

    let accept = [("accept", "text/event-stream")];
    let events = admin.http("GET", "/v1/audit?count=1", &accept, b"").await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let text = String::from_utf8(events.into_body().to_vec()).unwrap();
    assert!(text.starts_with("data: {\"entry\"") && text.ends_with("\n\nevent: end\ndata: {}\n\n"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_go_on_after_the_last_that_was_seen() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let job = enqueue(&admin, job("true")).await;
    let state = said(&admin, "POST", &format!("/v1/jobs/{job}:cancel"), "{}").await;
    assert_eq!(state.body["job"]["state"], "JOB_STATE_CANCELLED", "{state:?}");
    let accept = ("accept", "text/event-stream");
    let path = format!("/v1/jobs/{job}/events");
    let all = admin.http("GET", &path, &[accept], b"").await.unwrap().into_body();
    let all = String::from_utf8(all.to_vec()).unwrap();
    assert!(all.contains("\"ended\""), "{all}");
    let resumed = admin.http("GET", &path, &[accept, ("last-event-id", "9")], b"").await.unwrap().into_body();
    let resumed = String::from_utf8(resumed.to_vec()).unwrap();
    assert!(resumed.contains("\"afterSequence\":\"9\"") || !resumed.contains("id: "), "{resumed}");
    let nonsense = admin.http("GET", &path, &[accept, ("last-event-id", "x")], b"").await.unwrap();
    assert_eq!(Said::of(&nonsense).of_ours().2.as_deref(), Some("after_sequence"));
    server.stop().await;
}
