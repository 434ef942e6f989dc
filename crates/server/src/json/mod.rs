//! JSON and REST over the gRPC services: a request in Connect's unary form or of a `google.api.http` binding becomes
//! the gRPC call that it means, and that call's answer becomes JSON. It knows descriptors and nothing of what the
//! services do; who may call is decided before it, on the RPC that it finds.

mod body;
mod encoding;
mod example;
mod fault;
mod frames;
mod message;
mod once;
mod openapi;
mod reply;
mod route;
mod schema;
mod stream;
mod template;
mod wire;

use std::{collections::HashMap, sync::Arc};

use airunner_core::BoxError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode, Uri, header};
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, Value};
use tonic::{Status, body::Body};

pub use body::BodyLimits;
pub(crate) use body::WORTH_PACKING;
pub(crate) use body::read as read_body;
pub(crate) use encoding::{Codec, accepts};
pub use fault::Fault;
pub(crate) use frames::{Frames, Next};
pub(crate) use message::query;
pub use openapi::About;
pub use reply::{Reply, tell};
pub(crate) use reply::{broken, failure, mark, sent, told};

use reply::Shape;
use route::{Found, Routes, Rule};
use wire::{Shapes, Unusual};

/// The headers that a call gets from its request; everything else in it is the transcoder's business, or nobody's.
const PASSED_ON: [&str; 2] = ["grpc-timeout", "connect-timeout-ms"];

/// The HTTP status of a call's failure, outside Connect, which has a table of its own.
pub type StatusOf = fn(&Status) -> StatusCode;

/// Finds the RPC that a request means.
pub struct Transcoder {
    rpcs: HashMap<String, Arc<Rpc>>,
    routes: Routes,
    status_of: StatusOf,
    pool: DescriptorPool,
}

/// What is to be known of an RPC.
#[derive(Debug)]
struct Rpc {
    path: String,
    input: MessageDescriptor,
    output: MessageDescriptor,
    shapes: Arc<Shapes>,
    takes_stream: bool,
    gives_stream: bool,
    resume: Option<Resume>,
}

/// How a stream is taken up again: the number of a message, and the field of the request that it goes into.
#[derive(Debug)]
struct Resume {
    id: Vec<String>,
    after: String,
}

/// A request that is not gRPC, with the RPC that it means.
pub struct Call {
    rpc: Arc<Rpc>,
    form: Form,
    codec: Codec,
    status_of: StatusOf,
}

enum Form {
    /// `POST /package.Service/Method`.
    Connect,
    /// A binding, with what its template took from the path.
    Rest { rule: Arc<Rule>, variables: Vec<(String, String)> },
}

impl Transcoder {
    /// Reads the bindings of a descriptor set.
    ///
    /// # Errors
    /// A sentence about the binding that can't be served: a template that can't be read, a field that is not there,
    /// two bindings for the same requests.
    pub fn new(descriptor_set: &[u8], status_of: StatusOf) -> Result<Self, String> {
        let pool = DescriptorPool::decode(descriptor_set).map_err(|error| error.to_string())?;
        let shapes = Arc::new(Shapes::of_answers(&pool));
        let mut rpcs = HashMap::new();
        let mut routes = Routes::default();
        for service in pool.services() {
            for method in service.methods() {
                let rpc = Arc::new(Rpc::read(&pool, &method, &shapes)?);
                for rule in Rule::of(&pool, &method)? {
                    routes.add(rule, &rpc)?;
                }
                rpcs.insert(rpc.path.clone(), rpc);
            }
        }
        Ok(Self { rpcs, routes, status_of, pool })
    }

    /// The call that a request means, which is not gRPC's.
    ///
    /// # Errors
    /// What is wrong with it, and what is there.
    pub fn resolve(&self, verb: &Verb, uri: &Uri, headers: &HeaderMap) -> Result<Call, Unresolved> {
        let path = uri.path();
        if let Some(rpc) = self.rpcs.get(path) {
            let call = connect(rpc, verb, headers, self.status_of);
            let there = vec![rpc.path.clone()];
            return call.map_err(|fault| Unresolved { fault, telling: Telling::Connect, there });
        }
        let ours = |fault, there| Unresolved { fault, telling: Telling::Rest, there };
        match self.routes.find(verb, path) {
            Found::Route { rpc, rule, variables } => match rest_codec(&rule, verb, headers) {
                Ok(codec) => {
                    let form = Form::Rest { rule, variables };
                    Ok(Call { rpc, form, codec, status_of: self.status_of })
                }
                Err(fault) => Err(ours(fault, vec![rpc.path.clone()])),
            },
            Found::OtherVerb { allowed, there } => Err(ours(Fault::Verb(allowed), there)),
            Found::Garbled { field, there } => {
                Err(ours(Fault::field(&field, "its percent encoding is not of UTF-8"), there))
            }
            Found::Nothing => Err(ours(Fault::nothing(path), Vec::new())),
        }
    }
}

/// Why a request is no call.
#[derive(Debug)]
pub struct Unresolved {
    /// What is wrong with it.
    pub fault: Fault,
    /// In which form that is to be told.
    pub telling: Telling,
    /// The paths of the RPCs that its path stands for.
    pub there: Vec<String>,
}

fn rest_codec(rule: &Rule, verb: &Verb, headers: &HeaderMap) -> Result<Codec, Fault> {
    if rule.body.is_empty() {
        return no_body(verb, headers).map(|()| Codec::Json);
    }
    match Codec::of(headers)? {
        Codec::Json => Ok(Codec::Json),
        Codec::Proto => Err(Fault::media("a path of ours takes JSON: send application/json")),
    }
}

/// Where a path takes no body, one that is there all the same is not read. But a call that changes something is not made
/// by what a browser's forms send, who knows whose: their types are refused, unless nothing comes under them.
pub(crate) fn no_body(verb: &Verb, headers: &HeaderMap) -> Result<(), Fault> {
    let is_empty = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0");
    if is_empty || matches!(*verb, Verb::GET | Verb::HEAD) {
        return Ok(());
    }
    Codec::of(headers).map(drop)
}

/// A request that becomes a gRPC call.
pub trait Translate: Send {
    /// What the call's answer goes through on its way to the client.
    type Reply: Transcode;

    /// The RPC's path, `/package.Service/Method`.
    fn path(&self) -> &str;

    /// In which form a failure is told.
    fn telling(&self) -> Telling;

    /// Reads the body and makes the gRPC request; its answer goes through the reply.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn translate<B>(
        self,
        request: Request<B>,
        limits: BodyLimits,
    ) -> impl Future<Output = Result<(Request<Body>, Self::Reply), Fault>> + Send
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>;
}

/// The way of an answer to the client.
pub trait Transcode: Send {
    /// Turns the gRPC answer into the client's form.
    fn transcode<B>(self, response: Response<B>) -> impl Future<Output = Response<Body>> + Send
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send;
}

/// The gRPC request to `path` with this message, and of its origin's headers those that a call has.
pub(crate) fn grpc_request(path: &str, message: &[u8], origin: &HeaderMap) -> Result<Request<Body>, Fault> {
    let mut call = Request::new(Body::new(http_body_util::Full::new(body::frame(message))));
    *call.method_mut() = Verb::POST;
    *call.version_mut() = http::Version::HTTP_2;
    *call.uri_mut() = path.parse().map_err(|_| Fault::nothing(path))?;
    let headers = call.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in PASSED_ON {
        if let Some(value) = origin.get(name) {
            headers.insert(name, value.clone());
        }
    }
    Ok(call)
}

/// In which form a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Connect's error JSON and its table of statuses.
    Connect,
    /// Ours.
    Rest,
}

fn connect(rpc: &Arc<Rpc>, verb: &Verb, headers: &HeaderMap, status_of: StatusOf) -> Result<Call, Fault> {
    if verb != Verb::POST {
        return Err(Fault::Verb(vec![Verb::POST]));
    }
    let codec = Codec::of(headers)?;
    if rpc.takes_stream {
        return Err(Fault::media("this method takes a stream of messages: call it by gRPC"));
    }
    Ok(Call { rpc: rpc.clone(), form: Form::Connect, codec, status_of })
}

impl Translate for Call {
    type Reply = Reply;

    fn path(&self) -> &str {
        &self.rpc.path
    }

    fn telling(&self) -> Telling {
        match self.form {
            Form::Connect => Telling::Connect,
            Form::Rest { .. } => Telling::Rest,
        }
    }

    async fn translate<B>(
        self,
        request: Request<B>,
        limits: BodyLimits,
    ) -> Result<(Request<Body>, Reply), Fault>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let content = body::read(&parts, body, limits).await?;
        let message = self.message(&parts, &content)?;
        if message.len() > limits.bytes {
            return Err(Fault::too_large(limits.bytes));
        }
        let shape = Shape::of(&parts, &self)?;
        let call = grpc_request(&self.rpc.path, &message, &parts.headers)?;
        Ok((call, Reply::new(self.rpc, shape, self.status_of)))
    }
}

impl Call {
    fn message(&self, parts: &http::request::Parts, content: &Bytes) -> Result<Bytes, Fault> {
        let input = &self.rpc.input;
        let mut extra = match &self.form {
            Form::Connect if self.codec == Codec::Proto => return Ok(content.clone()),
            Form::Connect => return message::from_json(input, content).map(Into::into),
            Form::Rest { rule, variables } => message::Parts {
                rule,
                variables,
                query: message::query(parts.uri.query().unwrap_or_default())?,
            },
        };
        if let (Some(resume), Some(last)) = (&self.rpc.resume, parts.headers.get("last-event-id")) {
            let last = last.to_str().map_err(|_| Fault::field("last-event-id", "it is no text"))?;
            extra.query.retain(|(name, _)| name != &resume.after);
            extra.query.push((resume.after.clone(), last.to_owned()));
        }
        extra.message(input, content).map(Into::into)
    }
}

impl Rpc {
    fn read(pool: &DescriptorPool, method: &MethodDescriptor, shapes: &Arc<Shapes>) -> Result<Self, String> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Ok(Self {
            input: method.input(),
            output: method.output(),
            shapes: shapes.clone(),
            takes_stream: method.is_client_streaming(),
            gives_stream: method.is_server_streaming(),
            resume: resume(pool, method).map_err(|fault| format!("{path}: {fault}"))?,
            path,
        })
    }

    /// An answer in JSON.
    fn json(&self, answer: &[u8]) -> Result<Vec<u8>, String> {
        self.shapes.json(&self.output, answer).or_else(|Unusual| message::to_json(&self.output, answer))
    }
}

fn resume(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Option<Resume>, String> {
    let Some(extension) = pool.get_extension_by_name("airunner.http.v1.resume") else { return Ok(None) };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(None);
    }
    let value = options.get_extension(&extension).into_owned();
    let Some(declared) = value.as_message() else { return Ok(None) };
    let text = |name| {
        let value = declared.get_field_by_name(name).map(std::borrow::Cow::into_owned);
        value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (id, after) = (text("id"), text("after"));
    message::field_at(&method.output(), &id)?;
    message::field_at(&method.input(), &after)?;
    Ok(Some(Resume { id: id.split('.').map(str::to_owned).collect(), after }))
}
