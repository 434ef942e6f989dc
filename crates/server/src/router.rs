//! The way of every request: log, cross-site rules, authenticate, rate limit, authorize, and only then the handler.
//! The same for every listener; what differs is the door.

mod context;
mod cross_site;
mod guard;
mod rate;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use airunner_app::{
    App,
    authn::{Caller, LoopbackListener, Standing},
};
use airunner_core::{Error, Label, Result};
use http::{Method as Verb, Request, Response, StatusCode, header};
use tonic::body::Body;
use tower::ServiceExt as _;

pub use context::RequestContext;
pub use cross_site::OwnNames;
pub use rate::{RateLimits, Rates};

use crate::{
    error::{codes, status},
    method::{Method, Methods},
    metrics::Metrics,
};
use guard::{Guarded, RequestLog};

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

/// What the router is made of.
pub struct RouterParts {
    /// The use cases.
    pub app: Arc<App>,
    /// What each RPC declares.
    pub methods: Arc<Methods>,
    /// The gRPC services.
    pub routes: axum::Router,
    /// The names that a request may be addressed to.
    pub names: OwnNames,
    /// Rate limits of the API listener and of the public one.
    pub rates: Arc<Rates>,
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
    ) -> Result<Response<Guarded>, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<airunner_core::BoxError>,
    {
        let log = RequestLog::begin(&self.parts, self.request_id(), address, &request);
        let is_grpc = is_grpc(&request);
        match self.admit(door, address, &log.id, &request) {
            Ok((method, caller)) => Ok(self.pass(method, caller, log, address, request).await),
            Err(error) if is_grpc && error.label() != Label::CrossSite => {
                let refusal = status(&error, &log.id).into_http();
                Ok(Guarded::refusal(log, refusal))
            }
            Err(error) => Ok(Guarded::refusal(log, http_refusal(&error))),
        }
    }

    fn request_id(&self) -> Arc<str> {
        format!("{}-{:x}", self.prefix, self.next.fetch_add(1, Relaxed)).into()
    }

    /// Everything that stands before the handler. Returns who may pass.
    fn admit<B>(
        &self,
        door: &Door,
        address: &str,
        id: &Arc<str>,
        request: &Request<B>,
    ) -> Result<(Method, Option<Caller>)> {
        self.parts.names.check(request)?;
        let caller = self.authenticate(door, id)?;
        let rate = self.parts.rates.check(door, address, caller.as_ref());
        rate.inspect_err(|_| self.parts.metrics.rate_limited())?;
        let path = request.uri().path();
        let method =
            self.parts.methods.get(path).filter(|method| method.public || !matches!(door, Door::Public));
        let method = method.ok_or_else(|| {
            Error::new(Label::UnknownMethod, format!("there is nothing at {path} on this listener"))
        })?;
        if !method.public {
            let caller = caller
                .as_ref()
                .ok_or_else(|| Error::new(Label::NoCertificate, "this call needs a certificate"))?;
            caller.require(method.permission)?;
        }
        check_form(request)?;
        Ok((method, caller))
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

    async fn pass<B>(
        &self,
        method: Method,
        caller: Option<Caller>,
        mut log: RequestLog,
        address: &str,
        mut request: Request<B>,
    ) -> Response<Guarded>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<airunner_core::BoxError>,
    {
        log.caller(caller.as_ref());
        let standing = caller.as_ref().and_then(|caller| caller.standing().cloned());
        let context = RequestContext { request_id: log.id.clone(), address: address.to_owned(), caller };
        request.extensions_mut().insert(context);
        let routes = self.parts.routes.clone();
        let answer = routes.oneshot(request.map(axum::body::Body::new)).await;
        let response = answer.unwrap_or_else(|never| match never {});
        let watch =
            method.streaming.then(|| guard::watch(standing, self.parts.stale.clone(), log.id.clone()));
        Guarded::answer(log, response, watch)
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A call is a POST of gRPC; JSON is another door.
fn check_form<B>(request: &Request<B>) -> Result<()> {
    if request.method() != Verb::POST {
        return Err(Error::invalid("method", "a call is a POST"));
    }
    if is_grpc(request) {
        return Ok(());
    }
    Err(Error::invalid("content-type", "this server speaks gRPC: send application/grpc"))
}

fn http_refusal(error: &Error) -> Response<Body> {
    let (_, mut code) = codes(error.label());
    match error.field() {
        Some("method") => code = StatusCode::METHOD_NOT_ALLOWED,
        Some("content-type") => code = StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => {}
    }
    let body =
        serde_json::json!({ "error": { "label": error.label().as_str(), "message": error.message() } });
    let mut response =
        Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from(body.to_string()))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    }
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    response
}
