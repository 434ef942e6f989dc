//! What a unary call costs more over JSON than over gRPC: the same tonic method, called by frame, in Connect's spelling
//! and by its REST binding, in one run.
//!
//! `cargo bench -p airunner-proofs --bench transcoding`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{future::Ready, hint::black_box, time::Duration};

use airunner_proto::{
    DESCRIPTOR_SET,
    principal::v1::{
        GetPrincipalRequest, GetPrincipalResponse, Principal, PrincipalStatus, PrincipalType, Role,
    },
};
use airunner_server::json::{BodyLimits, Transcode as _, Transcoder, Translate as _};
use bytes::{BufMut as _, Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{Status, body::Body, server::UnaryService};
use tonic_prost::ProstCodec;

criterion_group!(transcoding, unary);
criterion_main!(transcoding);

const METHOD: &str = "/airunner.principal.v1.PrincipalService/GetPrincipal";
const LIMITS: BodyLimits = BodyLimits { bytes: 4 * 1024 * 1024, time: Duration::from_secs(30) };

/// A handler that has its answer ready.
struct Registry;

impl UnaryService<GetPrincipalRequest> for Registry {
    type Response = GetPrincipalResponse;
    type Future = Ready<Result<tonic::Response<GetPrincipalResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<GetPrincipalRequest>) -> Self::Future {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 3_000_000 });
        let principal = Principal {
            principal_id: request.into_inner().principal_id,
            r#type: PrincipalType::Worker.into(),
            status: PrincipalStatus::Active.into(),
            roles: vec![Role::Worker.into()],
            created_at: at(1_795_000_000),
            created_by: "admin".to_owned(),
            description: "the build machine in the cellar".to_owned(),
            max_certificates: 3,
            validity: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
            metadata: [("site".to_owned(), "cellar".to_owned())].into(),
            version: 16,
            ..Default::default()
        };
        std::future::ready(Ok(tonic::Response::new(GetPrincipalResponse { principal: Some(principal) })))
    }
}

/// What tonic does of a call, as its generated code has it.
async fn call(request: Request<Body>) -> Response<Body> {
    let codec: ProstCodec<GetPrincipalResponse, GetPrincipalRequest> = ProstCodec::default();
    tonic::server::Grpc::new(codec).unary(Registry, request).await
}

async fn over_grpc(frame: Bytes) -> Bytes {
    let request = Request::post(METHOD).header(CONTENT_TYPE, "application/grpc");
    let response = call(request.body(Body::new(Full::new(frame))).unwrap()).await;
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn over_json(transcoder: &Transcoder, request: Request<Full<Bytes>>) -> Bytes {
    let meant = transcoder.resolve(request.method(), request.uri(), request.headers());
    let (request, reply) = meant.unwrap().translate(request, LIMITS).await.unwrap();
    let response = reply.transcode(call(request).await).await;
    response.into_body().collect().await.unwrap().to_bytes()
}

fn connect() -> Request<Full<Bytes>> {
    let request = Request::post(METHOD).header(CONTENT_TYPE, "application/json");
    request.body(Full::new(Bytes::from_static(b"{\"principalId\":\"builder-7\"}"))).unwrap()
}

fn rest() -> Request<Full<Bytes>> {
    Request::builder().method(Method::GET).uri("/v1/principals/builder-7").body(Full::default()).unwrap()
}

fn unary(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let transcoder = Transcoder::new(DESCRIPTOR_SET, |_| http::StatusCode::INTERNAL_SERVER_ERROR).unwrap();
    let message = GetPrincipalRequest { principal_id: "builder-7".to_owned() }.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(&message);
    let frame = frame.freeze();

    let answer = runtime.block_on(over_json(&transcoder, rest()));
    assert_eq!(answer, runtime.block_on(over_json(&transcoder, connect())), "both say the same");
    assert!(answer.starts_with(b"{\"principal\":{\"principalId\":\"builder-7\""), "{answer:?}");

    let mut group = criterion.benchmark_group("unary");
    group.bench_function("grpc", |bencher| {
        bencher.to_async(&runtime).iter(|| over_grpc(black_box(frame.clone())));
    });
    group.bench_function("connect", |bencher| {
        bencher.to_async(&runtime).iter(|| over_json(&transcoder, black_box(connect())));
    });
    group.bench_function("rest", |bencher| {
        bencher.to_async(&runtime).iter(|| over_json(&transcoder, black_box(rest())));
    });
    group.finish();
}
