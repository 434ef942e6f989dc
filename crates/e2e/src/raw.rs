//! A client without manners: it sends any bytes to any path over one connection, and tells what came back.

use std::sync::Arc;

use airunner_core::Result;
use airunner_net::{ClientStream, FailureSlot, connect};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Body = BoxBody<Bytes, std::convert::Infallible>;

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
            field: info.and_then(|info| info.metadata.get("field").cloned()),
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
        Ok(Self::over(stream, failure, address).await)
    }

    #[expect(clippy::expect_used, reason = "the preface is written into a buffer")]
    async fn over(stream: ClientStream, failure: FailureSlot, address: &str) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("the HTTP/2 preface is sent");
        tokio::spawn(connection);
        Self { sender, failure, authority: address.to_owned() }
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
        Ok(AnswerStream { response, buffer: BytesMut::new(), ended: None })
    }

    /// Opens a call whose messages are sent one by one.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn open_two_way(&self, path: &str) -> Result<(mpsc::Sender<Bytes>, AnswerStream)> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(8);
        let frames = futures(move |cx| {
            receiver.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(frame(&message)))))
        });
        let response = self.send(self.request(path, StreamBody::new(frames).boxed())).await?;
        Ok((sender, AnswerStream { response, buffer: BytesMut::new(), ended: None }))
    }

    /// Sends any request.
    ///
    /// # Errors
    /// The label of what TLS said, where the connection was refused.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        let failed = |error: hyper::Error| {
            self.failure.get().map(airunner_core::Error::from).unwrap_or_else(|| {
                airunner_net::tls_failure(&error).unwrap_or_else(|| {
                    airunner_core::Error::new(
                        airunner_core::Label::Unreachable,
                        format!("the connection ended: {error:?}"),
                    )
                })
            })
        };
        sender.ready().await.map_err(failed)?;
        sender.send_request(request).await.map_err(failed)
    }

    /// A gRPC request.
    ///
    /// # Panics
    /// For a path that is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn request(&self, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method("POST")
            .uri(format!("https://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(body)
            .expect("a request")
    }
}

/// The answers of a stream.
pub struct AnswerStream {
    response: Response<Incoming>,
    buffer: BytesMut,
    ended: Option<Status>,
}

impl AnswerStream {
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

async fn collect(response: Response<Incoming>) -> Answer {
    let mut stream = AnswerStream { response, buffer: BytesMut::new(), ended: None };
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
