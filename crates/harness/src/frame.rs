//! gRPC bodies: length-prefixed messages, whole, cut, lying and packed, through the router to the handlers.

use std::{
    borrow::Cow,
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use airunner_app::authn::LoopbackListener;
use airunner_core::Label;
use airunner_e2e::TestServer;
use airunner_proto::DESCRIPTOR_SET;
use airunner_server::{
    grpc::{self, Api},
    json::Transcoder,
    method::Methods,
    metrics::Metrics,
    router::{Door, OwnNames, RateLimits, Rates, Router, RouterParts, Streams},
};
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::transcoded::{POOL, RUNTIME};

/// Methods that leave nothing behind, whatever they are sent.
const METHODS: [(&str, &str); 6] = [
    ("airunner.principal.v1.PrincipalService", "GetPrincipal"),
    ("airunner.principal.v1.PrincipalService", "ListPrincipals"),
    ("airunner.principal.v1.PrincipalService", "ExplainAccess"),
    ("airunner.job.v1.JobService", "GetJob"),
    ("airunner.job.v1.JobService", "ListJobs"),
    ("airunner.job.v1.JobEventsService", "PublishEvents"),
];
const ENCODINGS: [Option<&str>; 4] = [None, Some("identity"), Some("gzip"), Some("no-such")];
/// Bytes of a message at most.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes of a refusal's headers at most, as HTTP/2 counts them; what the strictest clients take is 8 KiB.
const MOST: usize = 8 * 1024;

struct World {
    /// It lives as long as the process.
    _server: TestServer,
    router: Router,
    door: Door,
}

static WORLD: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(World::new()));

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let app = server.app.clone();
        let methods = Arc::new(Methods::load(DESCRIPTOR_SET).expect("our descriptors"));
        let routes = grpc::services(&Api { app: app.clone(), methods: methods.clone() });
        let parts = RouterParts {
            app: app.clone(),
            metrics: Arc::new(Metrics::new(app, methods.iter().map(|(path, _)| path.to_owned()))),
            methods,
            routes: routes.prepare().into_axum_router(),
            json: Transcoder::new(DESCRIPTOR_SET, |_| StatusCode::OK).expect("our bindings"),
            openapi: Bytes::new(),
            names: OwnNames::new([]),
            rates: Arc::new(Rates::new(RateLimits::default())),
            body_timeout: Duration::from_secs(30),
            streams: Streams::new(16),
            stale: tokio::sync::watch::channel(false).1,
        };
        let loopback = LoopbackListener::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let door = Door::Loopback(loopback.expect("a loopback address"));
        Self { _server: server, router: Router::new(parts), door }
    }
}

/// A byte for the method, one for the encoding that the header names, one for the size of the pieces in which the body
/// arrives, and the body. Every call ends with one status, and soon; a refusal has a label and fits into headers; what
/// is no message is never taken, and what is one is never refused for its form.
pub fn run(input: &[u8]) {
    let [which, encoding, piece, body @ ..] = input else { return };
    let (service, name) = METHODS[usize::from(*which) % METHODS.len()];
    let encoding = ENCODINGS[usize::from(*encoding) % ENCODINGS.len()];
    let world = LazyLock::force(&WORLD);
    let status = RUNTIME.block_on(call(world, &format!("/{service}/{name}"), encoding, *piece, body));
    let label = label(&status);
    assert!(!matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss), "{status:?}");
    let method = POOL.get_service_by_name(service).and_then(|it| it.methods().find(|it| it.name() == name));
    let method = method.expect("a method of ours");
    match Form::of(body, encoding, &method.input()) {
        Form::Message => match label {
            Some(Label::MediaType) => assert_eq!(encoding, Some("no-such"), "{status:?}"),
            // Few bytes may be packed of a message of too many fields.
            Some(Label::TooLarge) => assert_eq!((body[0], encoding), (1, Some("gzip")), "{status:?}"),
            _ => {}
        },
        // Nothing is a good stream; to the library so is a head that nothing follows.
        Form::Broken if method.is_client_streaming() && matches!(body.len(), 0 | 5) => {}
        Form::Broken => assert_ne!(status.code(), Code::Ok, "what is no message was taken"),
        Form::Several => {}
    }
}

/// Good messages, and each way in which a frame can lie.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = b"\x0a\x05admin";
    let frame =
        |flag: u8, length: u32, message: &[u8]| [&[flag][..], &length.to_be_bytes(), message].concat();
    let whole = |flag: u8, message: &[u8]| {
        frame(flag, u32::try_from(message.len()).expect("less than 4 GiB"), message)
    };
    let good = packed(id);
    let bodies = [
        whole(1, &good),
        whole(1, &good[..good.len() / 2]),
        whole(1, &[&good[..], &good].concat()),
        whole(1, &packed(&good)),
        whole(1, &packed(&vec![0; MAX_MESSAGE + 1])),
        frame(0, 7, id),
        frame(0, 0, b""),
        Vec::new(),
        frame(0, 6, id),
        frame(0, 8, id),
        frame(0, u32::MAX, id),
        frame(0, 4 * 1024 * 1024 + 1, id),
        frame(1, 7, id),
        frame(2, 7, id),
        frame(255, 7, id),
        [frame(0, 7, id), frame(0, 7, id)].concat(),
        [frame(0, 7, id), vec![0, 0, 0]].concat(),
        frame(0, 3, b"\xff\xff\xff"),
        frame(0, 4, b"\x0a\x02\xff\xfe"),
    ];
    let heads = (0..6u8).flat_map(|method| (0..4u8).map(move |encoding| [method, encoding, method]));
    let heads: Vec<[u8; 3]> = heads.collect();
    bodies.iter().flat_map(|body| heads.iter().map(move |head| [&head[..], body].concat())).collect()
}

async fn call(world: &World, path: &str, encoding: Option<&str>, piece: u8, body: &[u8]) -> Status {
    let pieces = body.chunks(usize::from(piece).max(1) * 4).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let pieces = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(StreamBody::new(futures_util::stream::iter(pieces))).expect("a request");
    let answer = async {
        let response = world.router.handle(&world.door, "127.0.0.1:1", request).await;
        let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
        assert_eq!(head.status, StatusCode::OK);
        let body = body.collect().await.expect("an answer that is not cut");
        let trailers = body.trailers().cloned().unwrap_or_default();
        let told = [&head.headers, &trailers].map(|headers| headers.get_all("grpc-status").iter().count());
        assert_eq!(told.iter().sum::<usize>(), 1, "one status");
        let told = if told[0] == 1 { head.headers } else { trailers };
        let length: usize = told.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(length <= MOST, "{length} bytes of headers");
        Status::from_header_map(&told).expect("a status")
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.expect("an answer")
}

fn label(status: &Status) -> Option<Label> {
    let details = status.get_error_details();
    let label = details.error_info().and_then(|info| Label::of(&info.reason));
    assert!(status.code() == Code::Ok || label.is_some(), "a refusal without a label: {status:?}");
    label
}

enum Form {
    /// One message of the method's type.
    Message,
    /// A head that is not whole or not true, or no such message.
    Broken,
    /// More than one.
    Several,
}

impl Form {
    fn of(body: &[u8], encoding: Option<&str>, input: &MessageDescriptor) -> Self {
        let Some((head, rest)) = body.split_first_chunk::<5>() else { return Self::Broken };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > rest.len() {
            return Self::Broken;
        }
        let (message, rest) = rest.split_at(length);
        let message = match (head[0], encoding) {
            (0, _) => Some(Cow::Borrowed(message)),
            (1, Some("gzip")) => unpacked(message).map(Cow::Owned),
            _ => None,
        };
        match message.map(|message| DynamicMessage::decode(input.clone(), &*message)) {
            Some(Ok(_)) if rest.is_empty() => Self::Message,
            Some(Ok(_)) => Self::Several,
            Some(Err(_)) | None => Self::Broken,
        }
    }
}

/// What was packed, where it is no more than a message may be. What follows the gzip the library passes over.
fn unpacked(message: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    let most = MAX_MESSAGE as u64 + 1;
    GzDecoder::new(message).take(most).read_to_end(&mut whole).ok()?;
    (whole.len() <= MAX_MESSAGE).then_some(whole)
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(message).expect("memory takes what is written");
    packer.finish().expect("memory takes what is written")
}
