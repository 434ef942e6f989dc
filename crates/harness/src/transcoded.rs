//! Requests over JSON, taken to the gRPC call that they mean and read back from its bytes by descriptors alone.

use std::sync::LazyLock;

use airunner_proto::DESCRIPTOR_SET;
use airunner_server::json::{Fault, Transcoder, Translate};
use bytes::Bytes;
use http::{HeaderMap, Method as Verb, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tokio::runtime::{Builder, Runtime};

/// Bytes of a body at most.
pub(crate) const LIMIT: usize = 64 * 1024;

pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).expect("our descriptors"));

pub(crate) static TRANSCODER: LazyLock<Transcoder> =
    LazyLock::new(|| Transcoder::new(DESCRIPTOR_SET, |_| StatusCode::OK).expect("our bindings"));

/// Every method that takes one message.
pub(crate) static METHODS: LazyLock<Vec<MethodDescriptor>> = LazyLock::new(|| {
    let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter(|method| !method.is_client_streaming()).collect()
});

/// One for all threads.
pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

pub(crate) fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The method at a path.
pub(crate) fn method_at(path: &str) -> Option<&'static MethodDescriptor> {
    METHODS.iter().find(|method| self::path(method) == path)
}

/// The message of the call that a request means, as its method's descriptor reads it.
pub(crate) fn message(
    call: impl Translate,
    verb: Verb,
    uri: &Uri,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<DynamicMessage, Fault> {
    let rpc = call.path().to_owned();
    let mut request = Request::new(Full::new(Bytes::from(body)));
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (verb, uri.clone(), headers);
    let (request, _) = RUNTIME.block_on(call.translate(request, LIMIT))?;
    assert_eq!((request.method(), request.uri().path()), (&Verb::POST, rpc.as_str()));
    let framed = RUNTIME.block_on(request.into_body().collect()).expect("a body of ours").to_bytes();
    let (head, message) = framed.split_at(5);
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    assert_eq!((head[0], &head[1..]), (0, &length[..]), "a frame that says something else");
    let input = method_at(&rpc).expect("an RPC of ours").input();
    Ok(DynamicMessage::decode(input, message).expect("a message of the method's type"))
}

/// What holds of a fault.
pub(crate) fn is_told(fault: &Fault) {
    match fault {
        Fault::Nothing(sentence)
        | Fault::Media(sentence)
        | Fault::TooLarge(sentence)
        | Fault::Content(_, sentence) => assert!(!sentence.is_empty()),
        Fault::Verb(allowed) => assert!(!allowed.is_empty()),
        Fault::Slow(_) => panic!("a body that was there came late"),
    }
}
