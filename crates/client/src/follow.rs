//! Following a job: one stream of events out of as many as it takes. Nothing is kept here but the place reached.

use std::{pin::Pin, time::Duration};

use airunner_core::Timestamp;
use airunner_proto::job::v1::{
    JobEnded, JobEvent, StreamEventsRequest, StreamEventsResponse, job_event::Kind,
    stream_events_request::From, stream_events_response::Message,
};
use futures_util::Stream;
use tokio::sync::watch;
use tonic::Streaming;

use crate::{Backoff, Client, Error, Result, enroll::incomplete};

/// From where a watcher starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowFrom {
    /// The first event.
    #[default]
    Start,
    /// After this sequence.
    After(u64),
    /// From this time on.
    Since(Timestamp),
    /// Only what happens from now on.
    Now,
}

/// What a watcher wants; the default is everything from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowOptions {
    /// From where.
    pub from: FollowFrom,
    /// Control events only.
    pub without_output: bool,
}

/// What a watcher gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// An event; each once, in order of their sequences (a gap stands before what is left).
    Event(JobEvent),
    /// The last message: the job has ended.
    Ended(JobEnded),
}

/// Follows a job to its end: every event once, in order, over lost connections and exchanged identities.
///
/// A stream that is lost is opened again from the place reached, after a while that grows. After
/// [`Client::replace_identity`] a new one is opened on the new connection before the old one is let go.
///
/// # Errors
/// Once, as the last item: what the first opening failed with, whatever it is; later only what no retry mends: a denial,
/// `not-found`, `not-owner`.
pub fn follow_job(
    client: &Client,
    job_id: &str,
    options: FollowOptions,
) -> impl Stream<Item = Result<Followed>> + Send + use<> {
    let mut follower = Follower::new(client.clone(), job_id.to_owned(), options);
    async_stream::try_stream! {
        while let Some(followed) = follower.next().await? {
            yield followed;
        }
    }
}

struct Follower {
    source: Source,
    changes: watch::Receiver<u64>,
    stream: Option<Opened>,
    /// The stream that is to replace the present one.
    next_stream: Option<Opening>,
    backoff: Backoff,
    was_attached: bool,
    ended: bool,
    last_gap: u64,
}

/// What streams are opened from.
#[derive(Clone)]
struct Source {
    client: Client,
    job_id: String,
    options: FollowOptions,
    /// The place reached; none before the first event.
    last: Option<u64>,
}

struct Opened {
    stream: Streaming<StreamEventsResponse>,
    after: u64,
    generation: u64,
}

type Opening = Pin<Box<dyn Future<Output = Result<Opened>> + Send>>;

/// What can happen to a follower.
enum Happened {
    Message(Message),
    /// The stream is over, with an error or, where the connection was cut, without.
    Lost(Option<Error>),
    Replaced(Opened),
    NotReplaced(Error),
    IdentityChanged,
}

impl Follower {
    fn new(client: Client, job_id: String, options: FollowOptions) -> Self {
        let last = match options.from {
            FollowFrom::After(sequence) => Some(sequence),
            _ => None,
        };
        Self {
            changes: client.identity_changes(),
            source: Source { client, job_id, options, last },
            stream: None,
            next_stream: None,
            backoff: Backoff::default(),
            was_attached: false,
            ended: false,
            last_gap: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Followed>> {
        while !self.ended {
            if self.stream.is_none() && self.next_stream.is_none() {
                self.next_stream = Some(self.source.clone().open(Duration::ZERO));
            }
            match self.happened().await {
                Happened::Message(message) => {
                    self.backoff.reset();
                    if let Some(followed) = self.take(message) {
                        return Ok(Some(followed));
                    }
                }
                Happened::Lost(error) => {
                    self.lost(error)?;
                    if self.next_stream.is_none() {
                        self.try_again(None);
                    }
                }
                Happened::Replaced(opened) => self.replace(opened),
                Happened::NotReplaced(error) => {
                    if !self.was_attached || (self.stream.is_none() && !error.is_transient()) {
                        return Err(error);
                    }
                    self.try_again(error.retry_after());
                }
                Happened::IdentityChanged => {
                    self.next_stream = Some(self.source.clone().open(Duration::ZERO));
                }
            }
        }
        Ok(None)
    }

    /// Waits for the first thing that happens.
    async fn happened(&mut self) -> Happened {
        let (stream, next_stream) = (&mut self.stream, &mut self.next_stream);
        let message = async {
            match stream {
                Some(opened) => opened.stream.message().await,
                None => std::future::pending().await,
            }
        };
        let opened = async {
            match next_stream {
                Some(opening) => opening.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            opened = opened => {
                self.next_stream = None;
                match opened {
                    Ok(opened) => Happened::Replaced(opened),
                    Err(error) => Happened::NotReplaced(error),
                }
            }
            message = message => match message {
                Ok(Some(StreamEventsResponse { message: Some(message) })) => Happened::Message(message),
                Ok(Some(_)) => Happened::Lost(Some(incomplete("message"))),
                Ok(None) => Happened::Lost(None),
                Err(status) => Happened::Lost(Some(status.into())),
            },
            // The client lives as long as this does, so its identity can change until then.
            Ok(()) = self.changes.changed() => Happened::IdentityChanged,
        }
    }

    fn replace(&mut self, opened: Opened) {
        self.was_attached = true;
        if self.source.options.from == FollowFrom::Now && self.source.last.is_none() {
            self.source.last = Some(opened.after);
        }
        self.stream = Some(opened);
    }

    /// Fails where no retry helps. A stream of an exchanged identity may be denied: the next one is not.
    fn lost(&mut self, error: Option<Error>) -> Result<()> {
        let of_present = self.stream.take().is_none_or(|opened| opened.generation == *self.changes.borrow());
        match error {
            Some(error) if of_present && !error.is_transient() => Err(error),
            Some(error) => {
                tracing::debug!(%error, job = self.source.job_id, "the job's events are asked for again");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn try_again(&mut self, at_least: Option<Duration>) {
        let pause = self.backoff.next(&**self.source.client.random());
        self.next_stream = Some(self.source.clone().open(pause.max(at_least.unwrap_or_default())));
    }

    /// What of a message is new.
    fn take(&mut self, message: Message) -> Option<Followed> {
        match message {
            Message::Event(event) => {
                if let Some(Kind::Gap(gap)) = &event.kind {
                    let is_new = gap.lost_until > self.last_gap;
                    self.last_gap = self.last_gap.max(gap.lost_until);
                    return is_new.then_some(Followed::Event(event));
                }
                if self.source.last.is_some_and(|last| event.sequence <= last) {
                    return None;
                }
                self.source.last = Some(event.sequence);
                Some(Followed::Event(event))
            }
            Message::Ended(ended) => {
                self.ended = true;
                Some(Followed::Ended(ended))
            }
            Message::Attached(_) => None,
        }
    }
}

impl Source {
    /// Opens a stream after `pause`. Its result is in force: the server has said so.
    fn open(self, pause: Duration) -> Opening {
        Box::pin(async move {
            if !pause.is_zero() {
                self.client.clock().sleep(pause).await;
            }
            let generation = *self.client.identity_changes().borrow();
            let answer = self.client.events().stream_events(self.request()).await?;
            let mut stream = answer.into_inner();
            match stream.message().await?.and_then(|first| first.message) {
                Some(Message::Attached(attached)) => {
                    Ok(Opened { stream, after: attached.after_sequence, generation })
                }
                _ => Err(incomplete("beginning")),
            }
        })
    }

    fn request(&self) -> StreamEventsRequest {
        let from = match (self.last, self.options.from) {
            (Some(last), _) => From::AfterSequence(last),
            (None, FollowFrom::Since(at)) => From::Since(prost_types::Timestamp {
                seconds: at.as_secs(),
                nanos: i32::try_from(at.as_millis().rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
            }),
            (None, FollowFrom::Now) => From::Now(true),
            (None, FollowFrom::Start | FollowFrom::After(_)) => From::AfterSequence(0),
        };
        let without_output = self.options.without_output;
        StreamEventsRequest { job_id: self.job_id.clone(), from: Some(from), without_output, so_far: false }
    }
}
