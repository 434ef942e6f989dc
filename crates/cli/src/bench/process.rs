//! The scenarios in which a worker of the server's runs processes: how soon they run, and how soon what they print is seen.

use std::time::Duration;

use airunner_client::Result;
use airunner_core::{Clock as _, Error};
use airunner_net::system::SystemClock;
use airunner_proto::job::v1::{
    Isolation, JobSpec, StartJobRequest, StreamEventsRequest, StreamEventsResponse, WriteJobInputRequest,
    job_event::Kind, stream_events_response::Message,
};
use tokio::task::JoinSet;
use tonic::Streaming;

use super::{
    Measured,
    load::{Tally, one_by_one, process_cpu},
    scenario::Stage,
};

/// Lines that the watched job prints a second, and their bytes: 50 KB a second.
const LINES: usize = 10;
const LINE: usize = 5_000;

/// What came of watching.
pub(super) struct Watched {
    /// Of every event how long after it was printed it was there.
    pub(super) lag: Measured,
    /// How long the job took, from its first output to its last.
    pub(super) job_seconds: f64,
}

impl Stage {
    /// One job after another, each once the one before it is over: until the answer that its process runs.
    pub(super) async fn start(&self) -> Measured {
        let spec = JobSpec {
            command: "true".to_owned(),
            isolation: if self.args.sandbox { Isolation::Sandbox.into() } else { 0 },
            ..JobSpec::default()
        };
        one_by_one(&self.args, async || {
            let request = StartJobRequest { job: Some(spec.clone()), request_id: String::new() };
            let before = SystemClock.monotonic();
            let started = self.client.jobs().start_job(request).await?.into_inner();
            let took = SystemClock.monotonic().since(before);
            let mut events = self.events(&started.job_id, true).await?;
            while events.message().await?.is_some() {}
            Ok(took)
        })
        .await
    }

    /// As many watchers as there are callers see a job that prints 50 KB a second, from its first byte on.
    pub(super) async fn watch(&self) -> Result<Watched> {
        let lines = LINES * self.args.seconds.get();
        let script = format!(
            "line=$(head -c {LINE} /dev/zero | tr '\\0' x); read -r begin; n=0; \
             while [ $n -lt {lines} ]; do echo \"$line\"; n=$((n + 1)); sleep 0.{}; done",
            10 / LINES
        );
        let args = ["-c", &script].map(str::to_owned).into();
        let spec = JobSpec { command: "/bin/sh".to_owned(), args, stdin: true, ..JobSpec::default() };
        let request = StartJobRequest { job: Some(spec), request_id: String::new() };
        let job_id = self.client.jobs().start_job(request).await?.into_inner().job_id;
        let mut watchers = JoinSet::new();
        for _ in 0..self.args.callers.get() {
            watchers.spawn(lags(self.events(&job_id, false).await?));
        }
        let begin = WriteJobInputRequest {
            job_id: job_id.clone(),
            data: "begin\n".into(),
            end: true,
            ..WriteJobInputRequest::default()
        };
        self.args.began.notify_one();
        let (began, cpu) = (SystemClock.monotonic(), process_cpu());
        self.client.jobs().write_job_input(begin).await?;
        let mut all = Tally::default();
        let mut job = Duration::ZERO;
        while let Some(watched) = watchers.join_next().await {
            match watched.map_err(Error::internal)? {
                Ok((tally, printing)) => {
                    all.merge(tally);
                    job = job.max(printing);
                }
                Err(error) => all.failed(error.to_string()),
            }
        }
        let took = SystemClock.monotonic().since(began);
        let cpu = process_cpu().saturating_sub(cpu);
        Ok(Watched { lag: all.measured(took, cpu), job_seconds: job.as_secs_f64() })
    }

    /// The job's events from the first on: the stream is in force.
    async fn events(&self, job_id: &str, without_output: bool) -> Result<Streaming<StreamEventsResponse>> {
        let request = StreamEventsRequest {
            job_id: job_id.to_owned(),
            without_output,
            ..StreamEventsRequest::default()
        };
        let mut events = self.client.events().stream_events(request).await?.into_inner();
        // The first message says that it is.
        events.message().await?;
        Ok(events)
    }
}

/// How long after its reading by the worker each piece of output was here, and how long after the first the last was read.
async fn lags(mut events: Streaming<StreamEventsResponse>) -> Result<(Tally, Duration)> {
    let mut tally = Tally::default();
    let mut first = None;
    let mut printing = Duration::ZERO;
    while let Some(answer) = events.message().await? {
        let Some(Message::Event(event)) = answer.message else { continue };
        if let (Some(at), Some(Kind::Output(_))) = (event.at, &event.kind) {
            let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
            let at = since_epoch(at);
            tally.done(1, Duration::from_millis(now).saturating_sub(at));
            printing = at.saturating_sub(*first.get_or_insert(at));
        }
    }
    Ok((tally, printing))
}

fn since_epoch(at: prost_types::Timestamp) -> Duration {
    Duration::new(at.seconds.unsigned_abs(), at.nanos.unsigned_abs())
}
