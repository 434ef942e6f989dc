//! `job logs`: what a job printed, as it printed it.

use std::collections::BTreeMap;

use airunner_client::{Client, FollowOptions, Followed, follow_job};
use airunner_core::{Error, Label};
use airunner_proto::job::v1::{GetJobOutputRequest, OutputStream, job_event::Kind};
use clap::{Args, ValueEnum};
use data_encoding::BASE64;
use futures_util::StreamExt as _;
use serde::Serialize;

use super::JobName;
use crate::{
    context::Context,
    failure::Result,
    near::{Named, or_near},
    progress::{self, Progress},
    report::{Format, Output, Report},
    runtime::wait,
};

#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    name: JobName,
    /// Go on until the job ends
    #[arg(long, short)]
    follow: bool,
    /// Only this of the two
    #[arg(long, value_enum, value_name = "STREAM")]
    stream: Option<StreamName>,
}

/// One of a job's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamName {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

impl LogsArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let job_id = self.name.get()?.to_string();
        let client = context.client()?;
        wait(or_near(&client, Named::Job(&job_id), async {
            if context.output.format != Format::Table && !self.follow {
                let mut output = collect(&client, &job_id).await?;
                output.keep(self.stream);
                return Report::text(String::new(), &output);
            }
            if self.follow {
                follow(&client, context.output, &job_id, self.stream).await?;
            } else {
                write(&client, context.output, &job_id, self.stream).await?;
            }
            Ok(Report::nothing())
        }))
    }
}

/// What is said where output was.
pub(super) const GONE: &str = "the output that was here is no longer kept";

/// Writes what a job printed so far.
pub(super) async fn write(
    client: &Client,
    output: Output,
    job_id: &str,
    stream: Option<StreamName>,
) -> Result<()> {
    let request = GetJobOutputRequest {
        job_id: job_id.to_owned(),
        stream: stream.map_or(0, |stream| wire(stream) as i32),
        follow: false,
        after_sequence: 0,
    };
    let mut chunks = client.events().get_job_output(request).await?.into_inner();
    let mut delivery = Delivery::new(output);
    while let Some(chunk) = chunks.message().await? {
        if chunk.lost_until == 0 {
            delivery.write(chunk.stream, &chunk.data)?;
        } else {
            delivery.gap();
        }
    }
    delivery.end(job_id)
}

/// Writes what a job prints until it ends, over lost connections.
async fn follow(client: &Client, output: Output, job_id: &str, stream: Option<StreamName>) -> Result<()> {
    let mut events = Box::pin(follow_job(client, job_id, FollowOptions::default()));
    let mut delivery = Delivery::new(output);
    while let Some(followed) = events.next().await {
        let Followed::Event(event) = followed? else { break };
        match &event.kind {
            Some(Kind::Output(part)) if stream.is_none_or(|stream| wire(stream) as i32 == part.stream) => {
                delivery.write(part.stream, &part.data)?;
            }
            Some(Kind::Gap(_)) => {
                delivery.gap();
            }
            _ => {}
        }
    }
    delivery.end(job_id)
}

/// A job's output on its way to a file or another program. Whoever watches sees how much has come; how much there is
/// nobody knows, since the job may go on.
struct Delivery {
    output: Output,
    so_far: u64,
    has_gap: bool,
    progress: Option<Progress>,
}

impl Delivery {
    fn new(output: Output) -> Self {
        let progress = output.is_watched_alone().then(|| progress::spinner(output, "waiting for output"));
        Self { output, so_far: 0, has_gap: false, progress }
    }

    fn write(&mut self, stream: i32, data: &[u8]) -> Result<()> {
        if stream == OutputStream::Stderr as i32 {
            self.aside(|| self.output.write_stderr(data))?;
        } else {
            self.output.write(data)?;
        }
        self.so_far += data.len() as u64;
        if let Some(progress) = &self.progress {
            progress.say(format!("{} so far", progress::bytes(self.so_far)));
        }
        Ok(())
    }

    /// Output that was here is gone.
    fn gap(&mut self) {
        self.has_gap = true;
        self.aside(|| self.output.note(&format!("[{GONE}]")));
    }

    /// What is all gone was not delivered.
    fn end(&self, job_id: &str) -> Result<()> {
        if self.has_gap && self.so_far == 0 {
            let message =
                format!("what job {job_id} printed is no longer kept: `job show` tells how it ended");
            return Err(Error::new(Label::NotFound, message).into());
        }
        Ok(())
    }

    /// Does what writes to the terminal.
    fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.progress {
            Some(progress) => progress.aside(work),
            None => work(),
        }
    }
}

/// Writes bytes where they belong.
pub(super) fn bytes(output: Output, stream: i32, bytes: &[u8]) -> Result<()> {
    if stream == OutputStream::Stderr as i32 { output.write_stderr(bytes) } else { output.write(bytes) }
}

/// What a job printed, for programs: in base64, since it need not be text.
#[derive(Debug, Serialize)]
pub(super) struct CollectedOutput {
    /// Whether some of it is no longer kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
    #[serde(flatten)]
    streams: BTreeMap<&'static str, String>,
}

impl CollectedOutput {
    fn keep(&mut self, stream: Option<StreamName>) {
        match stream {
            Some(StreamName::Stdout) => drop(self.streams.remove("stderr_base64")),
            Some(StreamName::Stderr) => drop(self.streams.remove("stdout_base64")),
            None => {}
        }
    }
}

/// What a job printed so far.
pub(super) async fn collect(client: &Client, job_id: &str) -> Result<CollectedOutput> {
    let request = GetJobOutputRequest { job_id: job_id.to_owned(), ..GetJobOutputRequest::default() };
    let mut chunks = client.events().get_job_output(request).await?.into_inner();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut incomplete = false;
    while let Some(chunk) = chunks.message().await? {
        let bytes = if chunk.stream == OutputStream::Stderr as i32 { &mut stderr } else { &mut stdout };
        bytes.extend_from_slice(&chunk.data);
        incomplete |= chunk.lost_until != 0;
    }
    let streams = [("stderr_base64", BASE64.encode(&stderr)), ("stdout_base64", BASE64.encode(&stdout))];
    Ok(CollectedOutput { incomplete, streams: streams.into() })
}

const fn wire(stream: StreamName) -> OutputStream {
    match stream {
        StreamName::Stdout => OutputStream::Stdout,
        StreamName::Stderr => OutputStream::Stderr,
    }
}
