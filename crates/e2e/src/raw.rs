//! A client without manners: it sends any bytes to any path over one connection, and tells what came back.

use std::sync::Arc;

use airunner_core::{Label, Result};
use airunner_net::{FailureSlot, connect};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Within which nearly every answer comes.
const SOON: std::time::Duration = std::time::Duration::from_secs(5);
/// How long an answer is waited for, so that a call that is lost fails its test by name.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct RawClient {
    sender: SendRequest<Body>,
    failure: FailureSlot,
    authority: String,
}

/// How a call ended.
#[derive(Debug)]
pub struct Answer {
    /// The gRPC code.
    pub code: Code,
    /// The label, where there is one.
    pub label: String,
    /// The sentence.
    pub message: String,
    /// The field at fault.
    pub field: Option<String>,
    /// The request's id, by which the server's log has it.
    pub request_id: String,
    /// When to try again.
    pub retry_after: Option<std::time::Duration>,
    /// The messages that came.
    pub messages: Vec<Bytes>,
}

impl Answer {
    /// The first message, decoded.
    ///
    /// # Panics
    /// Where the call failed or the message is another.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn decode<M: prost::Message + Default>(&self) -> M {
        assert_eq!(self.code, Code::Ok, "{self:?}");
        M::decode(self.messages.first().expect("a message").clone()).expect("a message of this type")
    }

    fn of(status: &Status, messages: Vec<Bytes>) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().cloned();
        Self {
            code: status.code(),
            label: info.as_ref().map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            field: info.as_ref().and_then(|info| info.metadata.get("field").cloned()),
            request_id: info.and_then(|info| info.metadata.get("request_id").cloned()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            messages,
        }
    }
}

impl RawClient {
    /// Connects.
    ///
    /// # Errors
    /// What the handshake says. A refused client certificate shows at the first call.
    pub async fn connect(config: Arc<rustls::ClientConfig>, address: &str) -> Result<Self> {
        let stream = connect(config, "localhost", address).await?;
        let failure = stream.failure();
        Self::over(stream, failure, address).await
    }

    /// Connects without TLS, as one may to a server that asks for no authentication.
    ///
    /// # Errors
    /// `unreachable`.
    pub async fn connect_plain(address: &str) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await;
        let stream =
            stream.map_err(|error| airunner_core::Error::new(Label::Unreachable, error.to_string()))?;
        Self::over(stream, FailureSlot::default(), address).await
    }

    async fn over<S>(stream: S, failure: FailureSlot, address: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| said_by(&failure, &error))?;
        tokio::spawn(connection);
        Ok(Self { sender, failure, authority: address.to_owned() })
    }

    /// Calls a method that must succeed, and decodes its answer.
    ///
    /// # Panics
    /// Where it fails.
    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn ask<M: prost::Message + Default>(&self, path: &str, message: &impl prost::Message) -> M {
        self.call(path, message).await.unwrap().decode()
    }

    /// Calls a method that must be refused: the code and the label.
    ///
    /// # Panics
    /// Where it succeeds, or the connection does not last.
    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub async fn refusal(&self, path: &str, message: &impl prost::Message) -> (Code, String) {
        let answer = self.call(path, message).await.unwrap();
        assert_ne!(answer.code, Code::Ok, "{path} was to be refused");
        (answer.code, answer.label)
    }

    /// Calls a method with an empty message, and waits for the first answer or the end: a stream that goes on for
    /// ever counts as one that succeeded.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn probe(&self, path: &str) -> Result<Answer> {
        let body = Full::new(frame(&[])).boxed();
        let response = self.send(self.request(path, body)).await?;
        Ok(AnswerStream::of(response).first().await)
    }

    /// Calls a method with these headers beside the usual ones. Returns the HTTP response as it is.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    ///
    /// # Panics
    /// For a verb, a path or a header that is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn send_with(
        &self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        message: &impl prost::Message,
    ) -> Result<Response<Incoming>> {
        let mut request = self.request(path, Full::new(frame(&message.encode_to_vec())).boxed());
        *request.method_mut() = verb.parse().expect("a verb");
        for (name, value) in headers {
            if *name == ":authority" {
                *request.uri_mut() = format!("https://{value}{path}").parse().expect("a URI");
                continue;
            }
            let name: header::HeaderName = name.parse().expect("a header's name");
            request.headers_mut().insert(name, value.parse().expect("a header's value"));
        }
        self.send(request).await
    }

    /// Sends a request that is not gRPC, and reads its answer to the end.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    ///
    /// # Panics
    /// For a verb, a path or a header that is none, and where the answer breaks off.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn http(
        &self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Bytes>> {
        let named = headers.iter().find(|(name, _)| *name == ":authority").map(|(_, value)| *value);
        let authority = named.unwrap_or(&self.authority);
        let mut request = Request::builder().method(verb).uri(format!("https://{authority}{path}"));
        for (name, value) in headers.iter().filter(|(name, _)| *name != ":authority") {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body)).boxed();
        let (parts, body) = self.send(request.body(body).expect("a request")).await?.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    /// Returns when the connection takes no more requests.
    pub async fn closed(&self) {
        let mut sender = self.sender.clone();
        while !sender.is_closed() && sender.ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Calls a method with one message.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn call(&self, path: &str, message: &impl prost::Message) -> Result<Answer> {
        self.call_bytes(path, &message.encode_to_vec()).await
    }

    /// Calls a method with these bytes as its message.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn call_bytes(&self, path: &str, message: &[u8]) -> Result<Answer> {
        let body = Full::new(frame(message)).boxed();
        let response = self.send(self.request(path, body)).await?;
        Ok(collect(response).await)
    }

    /// Opens a stream of answers to one message.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn open(&self, path: &str, message: &impl prost::Message) -> Result<AnswerStream> {
        let body = Full::new(frame(&message.encode_to_vec())).boxed();
        let response = self.send(self.request(path, body)).await?;
        Ok(AnswerStream::of(response))
    }

    /// Opens a call whose messages are sent one by one. The answer's head is waited for, so a method that says nothing
    /// before it has heard something must be sent its first message from another task.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn open_two_way(&self, path: &str) -> Result<(mpsc::Sender<Bytes>, AnswerStream)> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(8);
        let frames = futures(move |cx| {
            receiver.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(frame(&message)))))
        });
        let response = self.send(self.request(path, StreamBody::new(frames).boxed())).await?;
        Ok((sender, AnswerStream::of(response)))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        let failed = |error: hyper::Error| said_by(&self.failure, &error);
        sender.ready().await.map_err(failed)?;
        let path = request.uri().path().to_owned();
        let mut answer = std::pin::pin!(sender.send_request(request));
        if let Ok(answer) = tokio::time::timeout(SOON, answer.as_mut()).await {
            return answer.map_err(failed);
        }
        // Under load, a request has been seen to wait for ever on a connection that TLS had refused while it was
        // written: what TLS said is kept all the same.
        if let Some(failure) = self.failure.get() {
            return Err(failure.into());
        }
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.unwrap_or_else(|_| panic!("nobody answers {path}")).map_err(failed)
    }

    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    fn request(&self, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method("POST")
            .uri(format!("https://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(body)
            .expect("a request")
    }
}

/// Sends one message to whatever answers requests, without a connection, and waits for the first answer or the end.
///
/// # Panics
/// For a path that is none.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub async fn over_body<B, F>(path: &str, message: &[u8], answer: F) -> Answer
where
    F: AsyncFnOnce(Request<Full<Bytes>>) -> Response<B>,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<airunner_core::BoxError>,
{
    let request = Request::builder()
        .method("POST")
        .uri(format!("https://localhost{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(frame(message)))
        .expect("a request");
    AnswerStream::of(answer(request).await).first().await
}

type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, airunner_core::BoxError>;

/// The answers of a stream.
pub struct AnswerStream {
    response: Response<AnyBody>,
    buffer: BytesMut,
    ended: Option<Status>,
}

impl AnswerStream {
    fn of<B>(response: Response<B>) -> Self
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<airunner_core::BoxError>,
    {
        let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
        Self { response, buffer: BytesMut::new(), ended: None }
    }

    /// The first message, or the end where there is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    async fn first(mut self) -> Answer {
        match tokio::time::timeout(PATIENCE, self.next()).await.expect("a message or an end") {
            Ok(message) => Answer::of(&Status::ok(""), vec![message]),
            Err(end) => end,
        }
    }

    /// The next message; the end's status when there is no more.
    ///
    /// # Errors
    /// How the stream ended.
    pub async fn next(&mut self) -> std::result::Result<Bytes, Answer> {
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return Ok(message);
            }
            if let Some(status) = &self.ended {
                return Err(Answer::of(status, Vec::new()));
            }
            match self.response.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.ended = frame.trailers_ref().and_then(Status::from_header_map),
                },
                Some(Err(error)) => self.ended = Some(Status::unavailable(format!("cut: {error}"))),
                None => {
                    let status = Status::from_header_map(self.response.headers());
                    self.ended = Some(status.unwrap_or_else(|| Status::unavailable("cut without a status")));
                }
            }
        }
    }

    /// The next message, decoded.
    ///
    /// # Panics
    /// Where the stream ends.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn message<M: prost::Message + Default>(&mut self) -> M {
        M::decode(self.next().await.expect("the stream goes on")).expect("a message of this type")
    }

    /// Reads to the end.
    pub async fn end(&mut self) -> Answer {
        loop {
            if let Err(answer) = self.next().await {
                return answer;
            }
        }
    }
}

/// What ended a connection, as far as TLS knows.
fn said_by(failure: &FailureSlot, error: &hyper::Error) -> airunner_core::Error {
    let kept = failure.get().map(airunner_core::Error::from);
    kept.or_else(|| airunner_net::tls_failure(error)).unwrap_or_else(|| {
        airunner_core::Error::new(Label::Unreachable, format!("the connection ended: {error:?}"))
    })
}

async fn collect(response: Response<Incoming>) -> Answer {
    let mut stream = AnswerStream::of(response);
    let mut messages = Vec::new();
    loop {
        match stream.next().await {
            Ok(message) => messages.push(message),
            Err(answer) => return Answer { messages, ..answer },
        }
    }
}

/// A length-prefixed message (gRPC over HTTP/2).
#[expect(clippy::cast_possible_truncation, reason = "no test sends 4 GiB")]
fn frame(message: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let header: [u8; 5] = buffer.get(..5)?.try_into().ok()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    (buffer.len() >= 5 + length).then(|| buffer.split_to(5 + length).freeze().slice(5..))
}

fn futures<T, F>(poll: F) -> impl futures_core::Stream<Item = T> + Send + Sync
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Sync,
{
    futures_util::stream::poll_fn(poll)
}
