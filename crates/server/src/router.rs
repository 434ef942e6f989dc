//! The way of every request: log, cross-site rules, authenticate, rate limit, authorize, and only then the handler.
//! The same for every listener; what differs is the door.

mod context;
mod cross_site;
mod deadline;
mod document;
mod guard;
mod head;
mod meaning;
mod patience;
mod rate;
mod streams;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_app::{
    App,
    authn::{Caller, LoopbackListener, Standing},
};
use airunner_core::{BoxError, Error, Label, Result};
use bytes::Bytes;
use http::{Method as Verb, Request, Response};
use tonic::body::Body;
use tower::ServiceExt as _;

pub use context::RequestContext;
pub use cross_site::OwnNames;
pub(crate) use head::check as check_head;
pub use rate::{RateLimits, Rates};
pub use streams::Streams;

use crate::{
    error::status,
    grpc::ACCEPTED_ENCODINGS,
    json::{BodyLimits, Transcode as _, Transcoder, Translate},
    method::{Method, Methods},
    metrics::Metrics,
};
use document::Document;
use guard::{Guarded, RequestLog};
use meaning::{Meaning, refuse};
use patience::Patient;
use streams::OpenStream;

/// Bytes of a message at most, by whichever door it comes.
pub(crate) const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// By which door a request comes in, and so who may stand behind it.
#[derive(Clone, Debug)]
pub enum Door {
    /// The API listener, on a connection of this standing.
    Api(Arc<Standing>),
    /// The API listener, on a connection that can't be served, and why.
    Closed(Label, String),
    /// The public listener: nobody is known, and only what is public is there.
    Public,
    /// The loopback listener of `--no-auth`: everyone is `local`, an admin.
    Loopback(LoopbackListener),
    /// No listener's: whoever a test says.
    #[cfg(feature = "test-callers")]
    Test(Caller),
}

impl Door {
    /// The port of a request that names none: that of its scheme.
    const fn port(&self) -> u16 {
        if matches!(self, Self::Loopback(_)) { 80 } else { 443 }
    }
}

/// What the router is made of.
pub struct RouterParts {
    /// The use cases.
    pub app: Arc<App>,
    /// What each RPC declares.
    pub methods: Arc<Methods>,
    /// The gRPC services.
    pub routes: axum::Router,
    /// The same over JSON and REST.
    pub json: Transcoder,
    /// The description of the API.
    pub openapi: Bytes,
    /// The names that a request may be addressed to.
    pub names: OwnNames,
    /// Rate limits of the API listener and of the public one.
    pub rates: Arc<Rates>,
    /// How long a message may take to arrive, where a call has one.
    pub body_timeout: Duration,
    /// The open streams of every principal.
    pub streams: Streams,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Turns true when the change feed has been silent for too long: open streams end.
    pub stale: tokio::sync::watch::Receiver<bool>,
}

/// Routes requests.
pub struct Router {
    parts: RouterParts,
    prefix: String,
    next: AtomicU64,
}

impl Router {
    /// A router; its request ids start with a prefix of this process.
    pub fn new(parts: RouterParts) -> Self {
        let prefix = data_encoding::HEXLOWER.encode(&parts.app.random().array::<4>());
        Self { parts, prefix, next: AtomicU64::new(0) }
    }

    /// Answers one request. It never fails: what goes wrong is an answer too.
    ///
    /// # Errors
    /// None.
    pub async fn handle<B>(
        &self,
        door: &Door,
        address: &str,
        request: Request<B>,
    ) -> Result<Response<Body>, Infallible>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let is_head = request.method() == Verb::HEAD;
        let response = self.answer(door, address, request).await;
        // The answer to HEAD has the head of that to GET and no body (RFC 9110 section 9.3.2), a refusal too.
        Ok(if is_head { response.map(|_| Body::empty()) } else { response })
    }

    async fn answer<B>(&self, door: &Door, address: &str, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut log = RequestLog::begin(&self.parts, self.request_id(), address, &request);
        let meaning = Meaning::of(&self.parts.json, &request);
        let entered = self.enter(door, address, &log.id, &request);
        if let (Meaning::Document(document), Ok(_)) = (&meaning, &entered)
            && Document::is_read_by(request.method())
        {
            return Guarded::without_call(log, document.answer(&self.parts.openapi)).map(Body::new);
        }
        let admitted = match entered.and_then(|caller| self.authorize(door, caller, &request, &meaning)) {
            Ok(admitted) => admitted,
            Err(error) => return refuse(log, meaning.telling(), meaning.allowed(), &error),
        };
        if let Ok(rpc) = meaning.path(&request) {
            log.admitted(rpc, admitted.caller.as_ref());
        }
        match meaning {
            Meaning::Call(call) => self.transcode(admitted, log, address, call, request).await,
            Meaning::Job(call) => self.transcode(admitted, log, address, call, request).await,
            Meaning::Grpc | Meaning::Document(_) | Meaning::Nothing(_) => {
                self.call(admitted, log, address, request).await.map(Body::new)
            }
        }
    }

    fn request_id(&self) -> Arc<str> {
        format!("{}-{:x}", self.prefix, self.next.fetch_add(1, Relaxed)).into()
    }

    /// Everything that stands before it matters what is asked. Returns who asks.
    fn enter<B>(
        &self,
        door: &Door,
        address: &str,
        id: &Arc<str>,
        request: &Request<B>,
    ) -> Result<Option<Caller>> {
        check_head(request)?;
        self.parts.names.check(request, door.port())?;
        let caller = self.authenticate(door, id);
        // Who is refused counts too, by the address.
        let known = caller.as_ref().ok().and_then(Option::as_ref);
        let rate = self.parts.rates.check(door, address, known);
        rate.inspect_err(|_| self.parts.metrics.rate_limited())?;
        caller
    }

    /// Whether the caller may have what it asks for.
    fn authorize<B>(
        &self,
        door: &Door,
        caller: Option<Caller>,
        request: &Request<B>,
        meaning: &Meaning,
    ) -> Result<Admitted> {
        let methods = &self.parts.methods;
        let is_seen = |path: &str| methods.get(path).filter(|it| it.public || !matches!(door, Door::Public));
        let nothing = || {
            let path = request.uri().path();
            Error::new(Label::UnknownMethod, format!("there is nothing at {path} on this listener"))
        };
        if meaning.is_hidden(|path| is_seen(path).is_some()) {
            return Err(nothing());
        }
        let method = is_seen(meaning.path(request)?).ok_or_else(nothing)?;
        if !method.public {
            let caller = caller
                .as_ref()
                .ok_or_else(|| Error::new(Label::NoCertificate, "this call needs a certificate"))?;
            caller.require(method.permission)?;
        }
        let counted = caller.as_ref().filter(|_| method.is_stream());
        let stream = counted.map(|caller| self.parts.streams.begin(caller.principal_id())).transpose()?;
        Ok(Admitted { method, caller, stream })
    }

    fn authenticate(&self, door: &Door, id: &Arc<str>) -> Result<Option<Caller>> {
        match door {
            Door::Public => Ok(None),
            Door::Closed(label, message) => Err(Error::new(*label, message.clone())),
            Door::Loopback(listener) => Ok(Some(self.parts.app.authenticator.loopback(*listener, id))),
            #[cfg(feature = "test-callers")]
            Door::Test(caller) => Ok(Some(caller.clone())),
            Door::Api(standing) => {
                let app = &self.parts.app;
                let caller = standing.caller(app.clock().now(), id)?;
                app.fleet.admit_request()?;
                self.parts.metrics.cache_hit(caller.principal().principal_type);
                Ok(Some(caller))
            }
        }
    }

    async fn transcode<B>(
        &self,
        admitted: Admitted,
        log: RequestLog,
        address: &str,
        call: impl Translate,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let telling = call.telling();
        let limits = BodyLimits { bytes: MAX_MESSAGE, time: self.parts.body_timeout };
        match call.translate(request, limits).await {
            Ok((request, reply)) => reply.transcode(self.call(admitted, log, address, request).await).await,
            Err(fault) => refuse(log, Some(telling), &[], &meaning::error(&fault)),
        }
    }

    async fn call<B>(
        &self,
        admitted: Admitted,
        log: RequestLog,
        address: &str,
        mut request: Request<B>,
    ) -> Response<Guarded>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Admitted { method, caller, stream } = admitted;
        let standing = caller.as_ref().and_then(|caller| caller.standing().cloned());
        let context = RequestContext { request_id: log.id.clone(), address: address.to_owned(), caller };
        let deadline = deadline::of(request.headers());
        if method.streaming {
            // What is sent as it comes is not worth packing piece by piece, and would be copied for it.
            request.headers_mut().remove(ACCEPTED_ENCODINGS);
        }
        request.extensions_mut().insert(context);
        let routes = self.parts.routes.clone();
        let patience = (!method.takes_stream).then_some(self.parts.body_timeout);
        let patient = |body| Patient::new(Box::pin(body), patience, &log.id);
        let answer = routes.oneshot(request.map(|body| axum::body::Body::new(patient(body))));
        let (answer, deadline) = deadline::within(deadline, answer).await;
        let response = match answer {
            Some(answer) => answer.unwrap_or_else(|never| match never {}),
            None => status(&deadline::passed(), &log.id).into_http(),
        };
        let watch = method
            .streaming
            .then(|| guard::watch(standing, self.parts.stale.clone(), deadline, log.id.clone()));
        Guarded::answer(log, response, watch, stream)
    }
}

/// Who may pass, and what to.
struct Admitted {
    method: Method,
    caller: Option<Caller>,
    stream: Option<OpenStream>,
}
