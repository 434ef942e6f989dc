//! One HTTP/2 connection: opened, sent on, and asked why it failed.

use std::{sync::Arc, time::Duration};

use airunner_core::Label;
use airunner_net::{FailureSlot, StreamEnd, connect, tls_failure};
use http::{Request, Response};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::sleep;
use tonic::body::Body;

use super::{Tls, body::ResponseBody};
use crate::{Endpoint, Error};

/// How long after the end of a connection what came over it may take to be told. HTTP/2 tells each request of the end;
/// one that it forgot, as it may where TLS refuses the connection while the request is written, would wait for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that one answer, and all of a connection, may be ahead of their reader.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A connection. It ends when it is lost, or when the last of its handles and answers is dropped.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    context: Arc<Origin>,
    generation: u64,
}

/// What an error of this connection is told with.
pub(super) struct Origin {
    endpoint: Endpoint,
    failure: FailureSlot,
    end: StreamEnd,
}

/// A request that brought no answer.
pub(super) struct Refused {
    pub(super) error: Error,
    /// The request itself, where the server can't have seen anything of it.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, tls: &Tls, silence: Duration) -> Result<Self, Error> {
        let stream = connect(Arc::clone(&tls.config), endpoint.host(), endpoint.address()).await?;
        let (failure, end) = (stream.failure(), stream.end());
        let context = Arc::new(Origin { endpoint: endpoint.clone(), failure, end });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(silence / 2)
            .keep_alive_timeout(silence / 2)
            .keep_alive_while_idle(true);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| context.explain(error))?;
        let origin = Arc::clone(&context);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, endpoint = %origin.endpoint, "connection lost");
            }
        });
        Ok(Self { sender, context, generation: tls.generation })
    }

    pub(super) fn is_usable(&self, generation: u64) -> bool {
        self.generation == generation && !self.sender.is_closed()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<ResponseBody>, Refused> {
        let mut sender = self.sender.clone();
        let answer = self.context.answered(sender.try_send_request(request)).await;
        match answer.map_err(|error| Refused { error, unsent: None })? {
            Ok(response) => Ok(response.map(|body| ResponseBody::new(body, Arc::clone(&self.context)))),
            Err(mut refused) => {
                // A server that refuses our certificate does so again.
                let again = self.context.failure.get().is_none();
                let unsent = refused.take_message().filter(|_| again).map(Box::new);
                Err(Refused { error: self.context.explain(refused.into_error()), unsent })
            }
        }
    }
}

impl Origin {
    /// What the loss of an answer means. A refused certificate is known by its alert, whatever HTTP/2 made of it.
    pub(super) fn explain(&self, error: hyper::Error) -> Error {
        let refused = self.failure.get().map(airunner_core::Error::from).or_else(|| tls_failure(&error));
        let explained = refused.map_or_else(|| self.lost(&error.to_string()), Error::from);
        explained.with_cause(error)
    }

    /// What comes of a request, or what became of its connection.
    async fn answered<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            error = self.over() => Err(error),
        }
    }

    /// Returns when nothing more can come over this connection and all that came was told: what became of those who
    /// still wait then.
    pub(super) async fn over(&self) -> Error {
        self.end.clone().reached().await;
        sleep(LAST_WORDS).await;
        self.failure.get().map_or_else(
            || self.lost("it ended without an answer"),
            |failure| airunner_core::Error::from(failure).into(),
        )
    }

    fn lost(&self, why: &str) -> Error {
        Error::new(
            Label::Unreachable,
            format!(
                "the connection to {} was lost ({why}); whether it did what was asked is not known: look before you \
                 repeat it",
                self.endpoint
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use airunner_e2e::TestServer;
    use airunner_net::ClientStream;
    use tokio::{io::AsyncReadExt as _, time::timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn stream_of_a_stranger(server: &TestServer) -> (ClientStream, Origin) {
        let address = server.addresses.api.to_string();
        let stream = connect(server.tls(None), "localhost", &address).await.unwrap();
        let (failure, end) = (stream.failure(), stream.end());
        (stream, Origin { endpoint: address.parse().unwrap(), failure, end })
    }

    #[tokio::test]
    async fn a_request_that_was_forgotten_ends_with_its_connection() {
        let server = TestServer::start().await;
        let (stream, origin) = stream_of_a_stranger(&server).await;
        let mut answer = Box::pin(origin.answered(pending::<()>()));
        assert!(futures_util::poll!(answer.as_mut()).is_pending());
        drop(stream);
        let error = timeout(PATIENCE, answer).await.unwrap().unwrap_err();
        assert!(error.is(Label::Unreachable) && error.message().contains("is not known"), "{error:?}");
        server.stop().await;
    }

    #[tokio::test]
    async fn what_tls_said_is_told_for_it() {
        let server = TestServer::start().await;
        let (mut stream, origin) = stream_of_a_stranger(&server).await;
        stream.read_u8().await.unwrap_err();
        drop(stream);
        let error = timeout(PATIENCE, origin.answered(pending::<()>())).await.unwrap().unwrap_err();
        assert!(error.is(Label::NoCertificate), "{error:?}");
        server.stop().await;
    }
}
