//! What is served without TLS: health and readiness on the plain listener, metrics on the metrics listener. Nothing
//! here is secret, and nothing here changes anything.

use std::{convert::Infallible, sync::Arc};

use airunner_app::App;
use airunner_net::{Connection, ConnectionHandler, Limits, serve_http};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};

use crate::{
    error::codes,
    metrics::Metrics,
    router::{OwnNames, Rates, check_head},
};

/// The port of a request that names none.
const PORT: u16 = 80;

/// Which of the two listeners it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainDoor {
    /// `/health` and `/ready`.
    Plain,
    /// `/metrics` and `/ready?verbose`.
    Metrics,
}

/// Serves the connections of a plain listener.
#[derive(Clone)]
pub struct PlainConnections(pub Arc<PlainListener>);

/// What a plain listener works with.
pub struct PlainListener {
    /// The use cases.
    pub app: Arc<App>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// For the cross-site rules.
    pub names: OwnNames,
    /// Rate limits of the public listeners.
    pub rates: Arc<Rates>,
    /// The listener's limits.
    pub limits: Limits,
    /// Which one it is.
    pub door: PlainDoor,
}

#[async_trait]
impl ConnectionHandler for PlainConnections {
    async fn serve(&self, connection: Connection) {
        let Connection { stream, peer, handle } = connection;
        let this = self.0.clone();
        let service = service_fn(move |request| {
            let this = this.clone();
            async move { Ok::<_, Infallible>(this.answer(peer.address, &request).await) }
        });
        serve_http(stream, service, &self.0.limits, &handle).await;
    }
}

impl PlainListener {
    async fn answer(
        &self,
        address: std::net::SocketAddr,
        request: &Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let passes = check_head(request).and_then(|()| self.names.check_sender(request, PORT));
        if let Err(error) = passes {
            return text(codes(error.label()).1, error.message());
        }
        if self.door == PlainDoor::Plain && self.rates.check_public(address).is_err() {
            self.metrics.rate_limited();
            let mut response = text(StatusCode::TOO_MANY_REQUESTS, "too many requests: slow down");
            response.headers_mut().insert(header::RETRY_AFTER, 1.into());
            return response;
        }
        let known = match (self.door, request.uri().path()) {
            (PlainDoor::Plain, "/health") => Self::health(),
            (PlainDoor::Plain, "/ready") => self.ready(false),
            (PlainDoor::Metrics, "/metrics") => self.metrics().await,
            (PlainDoor::Metrics, "/ready") => self.ready(request.uri().query() == Some("verbose")),
            _ => return text(StatusCode::NOT_FOUND, "there is nothing here"),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return known;
        }
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this can only be read");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        response
    }

    /// That the process lives; whether it should get traffic is `/ready`.
    fn health() -> Response<Full<Bytes>> {
        let mut response = text(StatusCode::OK, r#"{"status":"ok"}"#);
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    fn ready(&self, verbose: bool) -> Response<Full<Bytes>> {
        let faults = self.app.fleet.unready();
        let (code, word) = match faults.first() {
            None => (StatusCode::OK, "ready"),
            Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, fault.label.as_str()),
        };
        let mut body = format!("{word}\n");
        if verbose {
            for fault in &faults {
                body.extend([fault.label.as_str(), ": ", &fault.message, "\n"]);
            }
        }
        text(code, &body)
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.render().await {
            Ok(body) => {
                let mut response = text(StatusCode::OK, &body);
                let form = header::HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                );
                response.headers_mut().insert(header::CONTENT_TYPE, form);
                response
            }
            Err(error) => {
                tracing::warn!(?error, "the metrics can't be read");
                text(StatusCode::SERVICE_UNAVAILABLE, error.message())
            }
        }
    }
}

fn text(code: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = code;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
