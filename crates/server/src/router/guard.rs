//! The body of an answer: it ends a stream whose caller is denied, and writes the request's line of the log when it
//! is over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use airunner_app::authn::{Caller, Standing};
use airunner_core::{Clock, Error, Label, Monotonic};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{
    RouterParts,
    deadline::{self, Timer},
    streams::OpenStream,
};
use crate::{
    error::{label, status},
    metrics::Metrics,
};

/// The end that a stream waits for while it runs.
type Watch = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Returns when the stream's caller is denied, its time is over, or this server can vouch for nobody any more.
pub(super) fn watch(
    standing: Option<Arc<Standing>>,
    mut stale: tokio::sync::watch::Receiver<bool>,
    deadline: Option<Timer>,
    id: Arc<str>,
) -> Watch {
    Box::pin(async move {
        let denied = async {
            match &standing {
                Some(standing) => standing.denied().await.error(),
                None => std::future::pending().await,
            }
        };
        let lost = async {
            if stale.wait_for(|stale| *stale).await.is_err() {
                std::future::pending::<()>().await;
            }
            Error::new(Label::FeedStale, "this server has lost touch with its store: go on with another")
        };
        let passed = async {
            match deadline {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
            deadline::passed()
        };
        tokio::select! {
            error = denied => status(&error, &id),
            error = passed => status(&error, &id),
            error = lost => status(&error, &id),
        }
    })
}

/// One request, from its head to the end of its answer.
pub(super) struct RequestLog {
    pub(super) id: Arc<str>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    began: Monotonic,
    verb: http::Method,
    path: String,
    /// The RPC's path, where the request's is another.
    rpc: Option<String>,
    address: String,
    principal: Option<Caller>,
    outcome: String,
}

impl RequestLog {
    pub(super) fn begin<B>(parts: &RouterParts, id: Arc<str>, address: &str, request: &Request<B>) -> Self {
        let clock = parts.app.clock().clone();
        let path: String = request.uri().path().chars().take(256).collect();
        Self {
            id,
            began: clock.monotonic(),
            clock,
            metrics: parts.metrics.clone(),
            verb: request.method().clone(),
            path,
            rpc: None,
            address: address.to_owned(),
            principal: None,
            outcome: String::new(),
        }
    }

    /// Notes the RPC that the request means, and who makes it.
    pub(super) fn admitted(&mut self, rpc: &str, caller: Option<&Caller>) {
        if rpc != self.path {
            self.rpc = Some(rpc.to_owned());
        }
        self.principal = caller.cloned();
    }

    fn note_headers(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status").and_then(|code| code.to_str().ok()) {
            code.clone_into(&mut self.outcome);
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let took = self.clock.monotonic().since(self.began);
        // A body that was dropped before its trailers: the client went away.
        let outcome = if self.outcome.is_empty() { "cut" } else { &self.outcome };
        self.metrics.request(self.rpc.as_ref().unwrap_or(&self.path), outcome, took);
        tracing::info!(
            target: "airunner::request",
            method = %self.verb,
            path = %self.path,
            status = outcome,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            peer = %self.address,
            principal = self.principal.as_ref().map_or("", |caller| caller.principal_id().as_str()),
            request_id = %self.id,
            "request"
        );
    }
}

/// A guarded body.
pub(super) struct Guarded {
    body: Body,
    watch: Option<Watch>,
    log: Option<RequestLog>,
    _stream: Option<OpenStream>,
}

impl Guarded {
    pub(super) fn answer(
        mut log: RequestLog,
        mut response: Response<axum::body::Body>,
        watch: Option<Watch>,
        stream: Option<OpenStream>,
    ) -> Response<Self> {
        label(response.headers_mut(), &log.id);
        log.note_headers(response.headers());
        if !response.status().is_success() {
            log.outcome = response.status().as_u16().to_string();
        }
        response.map(|body| Self { body: Body::new(body), watch, log: Some(log), _stream: stream })
    }

    /// An answer that comes from no handler.
    pub(super) fn without_call(mut log: RequestLog, response: Response<Body>) -> Response<Self> {
        log.outcome = response.status().as_u16().to_string();
        log.note_headers(response.headers());
        response.map(|body| Self { body, watch: None, log: Some(log), _stream: None })
    }

    /// Ends the body with the trailers of `status`.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.watch = None;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
        }
        if let Some(log) = &mut self.log {
            log.note_headers(&trailers);
        }
        self.log = None;
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(status) = watch.as_mut().poll(cx)
        {
            return Poll::Ready(Some(Ok(self.end(&status))));
        }
        let mut polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut polled
            && let (Some(trailers), Some(log)) = (frame.trailers_mut(), &mut self.log)
        {
            label(trailers, &log.id);
            log.note_headers(trailers);
        }
        if polled.is_none() {
            self.log = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
