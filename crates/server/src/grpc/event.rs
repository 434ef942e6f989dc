//! JobEventsService over the use cases of events and output.

use airunner_app::{
    authn::Caller,
    event::PublishedEvent,
    watch::{WatchFilter, WatchFrom, WatchMessage},
};
use airunner_core::{
    AttemptOutcome, ControlEvent, Error, EventKind, Exit, Job, OutputChunk, OutputStream, Result, Sequence,
};
use airunner_proto::job::v1::{self as pb, job_events_service_server::JobEventsService};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Api, BoxStream, call, convert, job};
use crate::error::status;

/// Batches of a stream that are published together at most: 4 MiB of output.
const GROUP: usize = 16;
/// Bytes of output from which on it is not copied.
const WHOLE: usize = 16 * 1024;

/// JobEventsService.
pub struct EventsApi(pub Api);

#[async_trait]
impl JobEventsService for EventsApi {
    type PublishEventsStream = BoxStream<pb::PublishEventsResponse>;
    type StreamEventsStream = BoxStream<pb::StreamEventsResponse>;
    type GetJobOutputStream = BoxStream<pb::GetJobOutputResponse>;

    async fn publish_events(
        &self,
        request: Request<Streaming<pb::PublishEventsRequest>>,
    ) -> Result<Response<Self::PublishEventsStream>, Status> {
        let call = call(request)?;
        let (caller, batches) = (call.caller, call.message);
        let api = self.0.clone();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut coming = Coming { batches, group: Vec::new(), end: None };
            while let Some(mut group) = coming.next().await? {
                while !group.is_empty() {
                    let publishing = publish_first(&api, &caller, &mut group);
                    for answer in coming.beside(publishing).await? {
                        yield answer;
                    }
                }
            }
        })))
    }

    async fn publish_event_batch(
        &self,
        request: Request<pb::PublishEventBatchRequest>,
    ) -> Result<Response<pb::PublishEventBatchResponse>, Status> {
        let mut call = call(request)?;
        let events = std::mem::take(&mut call.message.events);
        let published = async {
            let events = events.into_iter().map(published).collect::<Result<Vec<_>>>()?;
            self.0.app.events.publish(&call.caller, &call.message.task_token, vec![events]).await
        };
        let last = |places: Vec<Sequence>| places.last().copied().unwrap_or_default().as_u64();
        call.answer(
            published.await.map(|(_, places)| pb::PublishEventBatchResponse { sequence: last(places) }),
        )
    }

    async fn stream_events(
        &self,
        request: Request<pb::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let call = call(request)?;
        let output = (!call.message.without_output).then_some(None);
        let filter = WatchFilter { control: true, output, follow: !call.message.so_far };
        let opened = async {
            let id = call.message.job_id.parse()?;
            self.0.app.events.watch(&call.caller, &id, from(call.message.from)?, filter).await
        };
        let mut watcher = call.opened(opened.await)?;
        let request_id = call.caller.request_id().to_owned();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(message) = watcher.next().await.map_err(|error| status(&error, &request_id))? {
                yield pb::StreamEventsResponse { message: Some(watch_message(message)) };
            }
        })))
    }

    async fn get_job_output(
        &self,
        request: Request<pb::GetJobOutputRequest>,
    ) -> Result<Response<Self::GetJobOutputStream>, Status> {
        let call = call(request)?;
        let opened = async {
            let id = call.message.job_id.parse()?;
            let stream = output_stream(call.message.stream)?;
            let filter = WatchFilter { control: false, output: Some(stream), follow: call.message.follow };
            let from = WatchFrom::After(Sequence::from_u64(call.message.after_sequence));
            self.0.app.events.watch(&call.caller, &id, from, filter).await
        };
        let mut watcher = call.opened(opened.await)?;
        let request_id = call.caller.request_id().to_owned();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(message) = watcher.next().await.map_err(|error| status(&error, &request_id))? {
                if let Some(part) = output_part(message) {
                    yield part;
                }
            }
        })))
    }
}

/// What of a watch is output, or says that some is gone.
fn output_part(message: WatchMessage) -> Option<pb::GetJobOutputResponse> {
    match message {
        WatchMessage::Output(chunk) => Some(pb::GetJobOutputResponse {
            stream: stream(chunk.stream) as i32,
            data: chunk.bytes,
            sequence: chunk.sequence.as_u64(),
            lost_until: 0,
        }),
        // Who goes on from here misses nothing that there is.
        WatchMessage::Gap(until) => Some(pb::GetJobOutputResponse {
            sequence: until.as_u64(),
            lost_until: until.as_u64(),
            ..pb::GetJobOutputResponse::default()
        }),
        WatchMessage::Attached(_) | WatchMessage::Control(_) | WatchMessage::Ended(_) => None,
    }
}

/// Batches of a stream as they come: what comes while the disk is waited for waits for it together.
struct Coming {
    batches: Streaming<pb::PublishEventsRequest>,
    group: Vec<pb::PublishEventsRequest>,
    /// How the stream ended, once it has.
    end: Option<Result<(), Status>>,
}

impl Coming {
    /// The batches that are there; waits for the first. None at the end.
    async fn next(&mut self) -> Result<Option<Vec<pb::PublishEventsRequest>>, Status> {
        if self.group.is_empty() {
            self.read().await;
        }
        while self.has_room() && self.read().now_or_never().is_some() {}
        if self.group.is_empty() {
            return self.end.take().unwrap_or(Ok(())).map(|()| None);
        }
        Ok(Some(std::mem::take(&mut self.group)))
    }

    /// Does `work`, and takes in meanwhile what comes.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.read(), if self.has_room() => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        self.end.is_none() && self.group.len() < GROUP
    }

    /// Takes the next one in. Nothing is lost where it is given up before one has come.
    async fn read(&mut self) {
        if self.end.is_some() {
            return;
        }
        match self.batches.message().await {
            Ok(Some(batch)) => self.group.push(batch),
            Ok(None) => self.end = Some(Ok(())),
            Err(status) => self.end = Some(Err(status)),
        }
    }
}

/// Publishes the batches of the first's job that stand at the beginning. A lease that is lost ends that job's events,
/// not the stream: it carries others'.
async fn publish_first(
    api: &Api,
    caller: &Caller,
    group: &mut Vec<pb::PublishEventsRequest>,
) -> Result<Vec<pb::PublishEventsResponse>, Status> {
    let token = group.first().map(|first| first.task_token.clone()).unwrap_or_default();
    let count = group.iter().take_while(|batch| batch.task_token == token).count();
    let batches: Vec<_> = group.drain(..count).collect();
    let publish = async {
        caller.check(api.app.clock().now())?;
        let read = |batch: pb::PublishEventsRequest| batch.events.into_iter().map(published).collect();
        let batches = batches.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        api.app.events.publish(caller, &token, batches).await
    };
    match publish.await {
        Ok((job_id, places)) => Ok(places
            .into_iter()
            .map(|sequence| pb::PublishEventsResponse {
                sequence: sequence.as_u64(),
                job_id: job_id.to_string(),
                error_label: String::new(),
            })
            .collect()),
        Err(error) if error.label() == airunner_core::Label::LeaseLost => {
            let error_label = error.label().as_str().to_owned();
            Ok(vec![pb::PublishEventsResponse { error_label, ..pb::PublishEventsResponse::default() }; count])
        }
        Err(error) => Err(status(&error, caller.request_id())),
    }
}

fn from(from: Option<pb::stream_events_request::From>) -> Result<WatchFrom> {
    use pb::stream_events_request::From;
    Ok(match from {
        Some(From::AfterSequence(sequence)) => WatchFrom::After(Sequence::from_u64(sequence)),
        Some(From::Since(at)) => WatchFrom::Since(convert::from_time("since", &at)?),
        Some(From::Now(true)) => WatchFrom::Now,
        None | Some(From::Now(false)) => WatchFrom::After(Sequence::default()),
    })
}

/// Small output by itself: it may be kept in memory for long, and a part of a batch keeps all of it there.
fn owned(data: Bytes) -> Bytes {
    if data.len() < WHOLE { Bytes::copy_from_slice(&data) } else { data }
}

fn published(event: pb::JobEvent) -> Result<PublishedEvent> {
    use pb::job_event::Kind;
    let sequence = Sequence::from_u64(event.sequence);
    let at = event.at.as_ref().ok_or_else(|| Error::invalid("events.at", "say when it happened"))?;
    let at = convert::from_time("events.at", at)?;
    let kind = match event.kind {
        Some(Kind::Started(started)) => EventKind::Started { process_id: started.process_id },
        Some(Kind::Note(note)) => EventKind::Note { message: note.message },
        Some(Kind::Output(output)) => {
            let stream = output_stream(output.stream)?
                .ok_or_else(|| Error::invalid("events.output.stream", "say which stream it came from"))?;
            return Ok(PublishedEvent::Output(OutputChunk {
                sequence,
                at,
                stream,
                bytes: owned(output.data),
            }));
        }
        Some(Kind::AttemptEnded(_) | Kind::Gap(_)) | None => {
            return Err(Error::invalid("events.kind", "a worker publishes started, output and note"));
        }
    };
    Ok(PublishedEvent::Control(ControlEvent { sequence, at, kind }))
}

fn output_stream(number: i32) -> Result<Option<OutputStream>> {
    let stream = pb::OutputStream::try_from(number).map_err(|_| convert::unknown("stream", number))?;
    Ok(match stream {
        pb::OutputStream::Unspecified => None,
        pb::OutputStream::Stdout => Some(OutputStream::Stdout),
        pb::OutputStream::Stderr => Some(OutputStream::Stderr),
    })
}

const fn stream(stream: OutputStream) -> pb::OutputStream {
    match stream {
        OutputStream::Stdout => pb::OutputStream::Stdout,
        OutputStream::Stderr => pb::OutputStream::Stderr,
    }
}

fn watch_message(message: WatchMessage) -> pb::stream_events_response::Message {
    use pb::{job_event::Kind, stream_events_response::Message};
    let event = |sequence: Sequence, at, kind| {
        Message::Event(pb::JobEvent { sequence: sequence.as_u64(), at, kind: Some(kind) })
    };
    match message {
        WatchMessage::Attached(after) => Message::Attached(pb::Attached { after_sequence: after.as_u64() }),
        WatchMessage::Output(chunk) => {
            let output = pb::Output { stream: stream(chunk.stream) as i32, data: chunk.bytes };
            event(chunk.sequence, Some(convert::time(chunk.at)), Kind::Output(output))
        }
        WatchMessage::Control(control) => {
            event(control.sequence, Some(convert::time(control.at)), control_kind(control.kind))
        }
        WatchMessage::Gap(until) => event(until, None, Kind::Gap(pb::Gap { lost_until: until.as_u64() })),
        WatchMessage::Ended(job) => Message::Ended(ended(&job)),
    }
}

fn control_kind(kind: EventKind) -> pb::job_event::Kind {
    use pb::job_event::Kind;
    match kind {
        EventKind::Started { process_id } => Kind::Started(pb::Started { process_id }),
        EventKind::Note { message } => Kind::Note(pb::Note { message }),
        EventKind::AttemptEnded { outcome, last } => Kind::AttemptEnded(attempt_ended(outcome, last)),
    }
}

fn attempt_ended(outcome: AttemptOutcome, last: bool) -> pb::AttemptEnded {
    let (outcome, exit, reason): (_, Option<Exit>, _) = match outcome {
        AttemptOutcome::Exited(exit) => ("exited", Some(exit), String::new()),
        AttemptOutcome::Failed(reason) => ("failed", None, reason),
        AttemptOutcome::Cancelled(exit) => ("cancelled", exit, String::new()),
        AttemptOutcome::TimedOut(exit) => ("timed-out", exit, String::new()),
        AttemptOutcome::HandedBack => ("handed-back", None, String::new()),
        AttemptOutcome::LeaseExpired => ("lease-expired", None, "the lease ran out".to_owned()),
        AttemptOutcome::HolderDenied => ("holder-denied", None, "the worker was denied".to_owned()),
    };
    pb::AttemptEnded { outcome: outcome.to_owned(), exit: exit.map(job::exit), reason, last }
}

fn ended(job: &Job) -> pb::JobEnded {
    pb::JobEnded {
        state: job::job_state(job.state) as i32,
        exit: job.exit.map(job::exit),
        reason: job.reason.clone(),
    }
}
