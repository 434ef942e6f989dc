//! `/jobs/…`: paths and bodies that are fixed for those who know no more of airunner than how to send JSON. Each is one
//! RPC; nothing is decided here that the RPC does not decide.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use airunner_core::BoxError;
use airunner_proto::job::v1::{
    CancelJobRequest, CancelJobResponse, Exit, GetJobOutputRequest, GetJobOutputResponse,
    GetJobStatusRequest, GetJobStatusResponse, JobSpec, JobState, OutputStream, StartJobRequest,
    StartJobResponse, exit::How,
};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode, Uri, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tonic::{Code, Status, body::Body};

use crate::{
    error::http_status,
    json::{
        BodyLimits, Codec, Fault, Frames, Next, Telling, Transcode, Translate, Unresolved, accepts, broken,
        failure, grpc_request, mark, no_body, query, read_body, sent, tell,
    },
};

const START: &str = "/airunner.job.v1.JobService/StartJob";
const STOP: &str = "/airunner.job.v1.JobService/CancelJob";
const STATUS: &str = "/airunner.job.v1.JobService/GetJobStatus";
const OUTPUT: &str = "/airunner.job.v1.JobEventsService/GetJobOutput";
/// Bytes of output that one JSON document holds.
const DOCUMENT: usize = 16 * 1024 * 1024;

/// A request to one of the paths.
#[derive(Debug)]
pub struct JobCall {
    act: Act,
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Start,
    Stop,
    Status,
    /// The output's bytes, or both streams in a JSON document.
    Output {
        as_document: bool,
    },
}

impl Act {
    const fn rpc(self) -> &'static str {
        match self {
            Self::Start => START,
            Self::Stop => STOP,
            Self::Status => STATUS,
            Self::Output { .. } => OUTPUT,
        }
    }

    fn takes(self, verb: &Verb) -> bool {
        match self {
            Self::Start | Self::Stop => verb == Verb::POST,
            Self::Status | Self::Output { .. } => matches!(*verb, Verb::GET | Verb::HEAD),
        }
    }

    fn verbs(self) -> Vec<Verb> {
        [Verb::GET, Verb::HEAD, Verb::POST].into_iter().filter(|verb| self.takes(verb)).collect()
    }
}

impl JobCall {
    /// The call that a request to one of the paths means; nothing where it goes elsewhere.
    pub fn resolve(verb: &Verb, uri: &Uri, headers: &HeaderMap) -> Option<Result<Self, Unresolved>> {
        let rest = uri.path().strip_prefix("/jobs/")?;
        let (act, id) = match rest.split_once('/').map_or((rest, None), |(act, id)| (act, Some(id))) {
            ("start", None) => (Act::Start, ""),
            ("stop", Some(id)) => (Act::Stop, id),
            ("status", Some(id)) => (Act::Status, id),
            ("output", Some(id)) => {
                (Act::Output { as_document: accepts(headers, header::ACCEPT, "application/json") }, id)
            }
            _ => return None,
        };
        let refused = |fault| {
            Some(Err(Unresolved { fault, telling: Telling::Rest, there: vec![act.rpc().to_owned()] }))
        };
        if !act.takes(verb) {
            return refused(Fault::Verb(act.verbs()));
        }
        if act == Act::Start
            && let Err(fault) = json_alone(headers)
        {
            return refused(fault);
        }
        if act != Act::Start
            && let Err(fault) = no_body(verb, headers)
        {
            return refused(fault);
        }
        if act != Act::Start && id.is_empty() {
            return refused(Fault::field("id", "name the job: its id is the last part of the path"));
        }
        match percent_decode_str(id).decode_utf8() {
            Ok(id) => Some(Ok(Self { act, id: id.into_owned() })),
            Err(_) => refused(Fault::field("id", "its percent encoding is not of UTF-8")),
        }
    }

    /// What is asked, and whether the answer lasts as long as the job.
    fn message(&self, uri: &Uri, content: &[u8]) -> Result<(Vec<u8>, bool), Fault> {
        let job_id = self.id.clone();
        let message = match self.act {
            Act::Start => start(content)?.encode_to_vec(),
            Act::Stop => CancelJobRequest { job_id, ..CancelJobRequest::default() }.encode_to_vec(),
            Act::Status => GetJobStatusRequest { job_id }.encode_to_vec(),
            Act::Output { .. } => {
                let request = output(job_id, uri)?;
                return Ok((request.encode_to_vec(), request.follow));
            }
        };
        Ok((message, false))
    }
}

fn json_alone(headers: &HeaderMap) -> Result<(), Fault> {
    match Codec::of(headers)? {
        Codec::Json => Ok(()),
        Codec::Proto => Err(Fault::media("this path takes JSON: send application/json")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
}

fn start(content: &[u8]) -> Result<StartJobRequest, Fault> {
    let refused = |why: &str| Fault::content(format!(r#"send {{"cmd": …, "args": […]}}: {why}"#));
    // The library would take an array of the values for the object.
    if content.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused("the body is no JSON object"));
    }
    let body: StartBody = serde_json::from_slice(content).map_err(|error| refused(&error.to_string()))?;
    if body.cmd.is_empty() {
        return Err(Fault::field("cmd", "name the command to run"));
    }
    let job = JobSpec { command: body.cmd, args: body.args, ..JobSpec::default() };
    Ok(StartJobRequest { job: Some(job), request_id: String::new() })
}

fn output(job_id: String, uri: &Uri) -> Result<GetJobOutputRequest, Fault> {
    let mut request = GetJobOutputRequest { job_id, ..GetJobOutputRequest::default() };
    for (name, value) in query(uri.query().unwrap_or_default())? {
        match (name.as_str(), value.as_str()) {
            ("stream", "stdout") => request.stream = OutputStream::Stdout.into(),
            ("stream", "stderr") => request.stream = OutputStream::Stderr.into(),
            ("stream", _) => return Err(Fault::field("stream", "say stdout or stderr, or nothing for both")),
            ("follow", "true" | "false") => request.follow = value == "true",
            ("follow", _) => return Err(Fault::field("follow", "say true or false")),
            _ => return Err(Fault::field(&name, "there is no such parameter here")),
        }
    }
    Ok(request)
}

/// What an OpenAPI document says of the paths, each of which may also end with one of `failures`.
///
/// # Errors
/// `internal` where what is written beside this file is no JSON object.
pub(crate) fn paths(failures: &[(u16, &str)]) -> airunner_core::Result<Map<String, Value>> {
    let written = include_str!("job_rest/openapi.json");
    let mut paths: Map<String, Value> =
        serde_json::from_str(written).map_err(airunner_core::Error::internal)?;
    let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for operation in operations {
        for (status, _) in failures {
            let name = status.to_string();
            operation["responses"][&name] = json!({ "$ref": format!("#/components/responses/{name}") });
        }
    }
    Ok(paths)
}

impl Translate for JobCall {
    type Reply = JobReply;

    fn path(&self) -> &str {
        self.act.rpc()
    }

    fn telling(&self) -> Telling {
        Telling::Rest
    }

    async fn translate<B>(
        self,
        request: Request<B>,
        limits: BodyLimits,
    ) -> Result<(Request<Body>, JobReply), Fault>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let content = read_body(&parts, body, limits).await?;
        let (message, follows) = self.message(&parts.uri, &content)?;
        let call = grpc_request(self.act.rpc(), &message, &parts.headers)?;
        Ok((call, JobReply { act: self.act, follows }))
    }
}

/// How the answer is sent.
pub struct JobReply {
    act: Act,
    /// Whether the answer lasts as long as the job, which may print nothing for long.
    follows: bool,
}

impl Transcode for JobReply {
    async fn transcode<B>(self, response: Response<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let (parts, body) = response.into_parts();
        let answered = match failure(&parts.headers) {
            Some(status) => Err(status),
            None => self.answer(Frames::new(body)).await,
        };
        answered.unwrap_or_else(|status| tell(&status, Telling::Rest, http_status))
    }
}

impl JobReply {
    async fn answer<B>(&self, mut frames: Frames<B>) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let (code, document) = match self.act {
            Act::Output { as_document: false } if self.follows => return Ok(raw(None, frames)),
            Act::Output { as_document: false } => return so_far(frames).await,
            Act::Output { as_document: true } => (StatusCode::OK, both(frames).await?),
            Act::Start => {
                let started: StartJobResponse = only(&mut frames).await?;
                (StatusCode::CREATED, json!({ "job_id": started.job_id }))
            }
            Act::Stop => {
                let job = only::<_, CancelJobResponse>(&mut frames).await?.job.unwrap_or_default();
                (StatusCode::OK, json!({ "job_id": job.job_id, "status": word(job.state) }))
            }
            Act::Status => (StatusCode::OK, status_document(&only(&mut frames).await?)),
        };
        Ok(sent(code, "application/json", document.to_string().into_bytes()))
    }
}

fn status_document(status: &GetJobStatusResponse) -> Value {
    json!({
        "job_id": status.job_id,
        "status": word(status.state),
        "process_id": (status.process_id != 0).then_some(status.process_id),
        "exit_code": status.exit.and_then(exit_code),
    })
}

/// The code as a shell has it: 128 and the number of the signal for a process that a signal ended.
fn exit_code(exit: Exit) -> Option<i32> {
    exit.how.map(|how| match how {
        How::Code(code) => code,
        How::Signal(signal) => 128 + signal,
    })
}

/// A state in one word.
fn word(state: i32) -> String {
    let name = JobState::try_from(state).unwrap_or_default().as_str_name();
    name.trim_start_matches("JOB_STATE_").to_ascii_lowercase()
}

async fn next<B>(frames: &mut Frames<B>) -> Result<Next, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| frames.poll_next(cx)).await.map_err(broken)
}

/// The message of an RPC that answers with one.
async fn only<B, M>(frames: &mut Frames<B>) -> Result<M, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    M: Message + Default,
{
    match next(frames).await? {
        Next::Message(message) => M::decode(message).map_err(broken),
        Next::End(status) if status.code() == Code::Ok => Err(broken("the answer has no message")),
        Next::End(status) => Err(status),
    }
}

/// Both streams, whole.
async fn both<B>(mut frames: Frames<B>) -> Result<Value, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut is_whole = true;
    while let Some(chunk) = chunk(&mut frames).await? {
        let of = if chunk.stream() == OutputStream::Stderr { &mut stderr } else { &mut stdout };
        of.extend_from_slice(&chunk.data);
        is_whole &= chunk.lost_until == 0;
        if stdout.len() + stderr.len() > DOCUMENT {
            return Err(too_much());
        }
    }
    let mut document = json!({ "stdout": BASE64.encode(&stdout), "stderr": BASE64.encode(&stderr) });
    if !is_whole {
        document["incomplete"] = true.into();
    }
    Ok(document)
}

fn too_much() -> Status {
    let error = airunner_core::Error::new(
        airunner_core::Label::TooLarge,
        "the output is more than a document holds: leave out Accept, and its bytes are streamed",
    );
    crate::error::status(&error, "")
}

/// The bytes that there are. A header says so where the first of them are gone; where all are, there is nothing to send.
async fn so_far<B>(mut frames: Frames<B>) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError> + Send,
{
    let mut first = chunk(&mut frames).await?;
    let is_whole = first.as_ref().is_none_or(|chunk| chunk.lost_until == 0);
    if !is_whole {
        first = chunk(&mut frames).await?;
        if first.is_none() {
            return Err(all_gone());
        }
    }
    let mut response = raw(first.map(|chunk| chunk.data), frames);
    if !is_whole {
        response.headers_mut().insert("airunner-output-incomplete", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The bytes as they come, after those of `first`.
fn raw<B>(first: Option<Bytes>, frames: Frames<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError> + Send,
{
    let body = Raw { is_empty: first.is_none(), has_gap: false, first, frames };
    let mut response = Response::new(Body::new(body.boxed_unsync()));
    mark(response.headers_mut(), "application/octet-stream");
    response
}

/// The next message of output; none at its end.
async fn chunk<B>(frames: &mut Frames<B>) -> Result<Option<GetJobOutputResponse>, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    match next(frames).await? {
        Next::Message(message) => GetJobOutputResponse::decode(message).map(Some).map_err(broken),
        Next::End(status) if status.code() == Code::Ok => Ok(None),
        Next::End(status) => Err(status),
    }
}

fn all_gone() -> Status {
    let error = airunner_core::Error::new(
        airunner_core::Label::NotFound,
        "what the job printed is no longer kept: its status tells how it ended",
    );
    crate::error::status(&error, "")
}

/// The data of output messages, without a copy. Where the stream fails, or all that it had is gone, the body breaks off.
struct Raw<B> {
    /// What was read to know how the answer begins.
    first: Option<Bytes>,
    is_empty: bool,
    has_gap: bool,
    frames: Frames<B>,
}

impl<B> HttpBody for Raw<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Poll::Ready(match ready!(self.frames.poll_next(cx)) {
            Ok(Next::Message(message)) => match GetJobOutputResponse::decode(message) {
                Ok(chunk) => {
                    self.has_gap |= chunk.lost_until != 0;
                    self.is_empty &= chunk.data.is_empty();
                    Some(Ok(Frame::data(chunk.data)))
                }
                Err(error) => Some(Err(error.into())),
            },
            Ok(Next::End(status)) if status.code() == Code::Ok => {
                (self.is_empty && std::mem::take(&mut self.has_gap)).then(|| Err(all_gone().into()))
            }
            Ok(Next::End(status)) => Some(Err(status.into())),
            Err(error) => Some(Err(error)),
        })
    }
}
