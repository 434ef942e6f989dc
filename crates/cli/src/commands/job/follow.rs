//! `job logs` and `job attach`: a job's bytes, as they are, to the streams that they came from.

use std::{io::Read as _, pin::pin, str::FromStr};

use airunner_client::{Client, FollowFrom, FollowOptions, Followed, follow_job};
use airunner_core::{JobState, Label};
use airunner_proto::job::v1::{self as pb, OutputStream, job_event::Kind};
use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::ended_badly;
use crate::{
    Result,
    context::Context,
    failure::Failure,
    report::{Console, Report},
    value::JobArg,
    view::job::{ExitView, state_name},
};

/// Bytes of standard input in one message, as the API has it.
const INPUT: usize = 64 * 1024;
/// What attach exits with where the job has no exit of its own.
const NO_EXIT: u8 = 255;

/// Print what a job has printed.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    job: JobArg,
    /// Go on until the job ends
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only this stream
    #[arg(long, value_enum, value_name = "STREAM")]
    stream: Option<Stream>,
    /// Only what comes after this sequence
    #[arg(long, value_name = "SEQUENCE", default_value = "0", hide_default_value = true)]
    from: u64,
}

/// Follow a job live.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    job: JobArg,
    /// start, now, or the sequence after which to go on
    #[arg(long, value_name = "WHERE", default_value = "start")]
    from: From,
    /// Send this standard input to the job, which must have been submitted with --stdin
    #[arg(long)]
    stdin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// From where a watcher starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct From(FollowFrom);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self(FollowFrom::Start)),
            "now" => Ok(Self(FollowFrom::Now)),
            number => number
                .parse()
                .map(|sequence| Self(FollowFrom::After(sequence)))
                .map_err(|_| "it is start, now, or a sequence, as an earlier attach told it".to_owned()),
        }
    }
}

impl LogsArgs {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let stream = match self.stream {
            None => OutputStream::Unspecified,
            Some(Stream::Stdout) => OutputStream::Stdout,
            Some(Stream::Stderr) => OutputStream::Stderr,
        };
        let request = pb::GetJobOutputRequest {
            job_id: self.job.get(),
            stream: stream.into(),
            follow: self.follow,
            after_sequence: self.from,
        };
        print_output(context, request)
    }
}

/// Prints what a job has printed until now.
pub(super) fn print_logs(context: &Context, job_id: &str) -> Result<Report> {
    let job_id = job_id.to_owned();
    print_output(context, pb::GetJobOutputRequest { job_id, ..pb::GetJobOutputRequest::default() })
}

fn print_output(context: &Context, request: pb::GetJobOutputRequest) -> Result<Report> {
    context.call(async |client| {
        let mut stream = client.events().get_job_output(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            write(context.console(), message.stream, &message.data)?;
        }
        Ok(Report::nothing())
    })
}

impl AttachArgs {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let job_id = self.job.get();
        let code = context.call(async |client| {
            let input = async {
                if self.stdin {
                    send_input(&client, &job_id).await?;
                }
                std::future::pending::<Result<u8>>().await
            };
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut place = Place::of(self.from.0);
            let followed = follow(context.console(), &client, &job_id, self.from.0, &mut place);
            tokio::select! {
                code = followed => code,
                Err(failure) = input => Err(failure),
                _ = interrupt.recv() => Err(Failure::Interrupted(String::new())),
            }
            .map_err(|failure| match failure {
                Failure::Interrupted(_) => Failure::Interrupted(place.goes_on(&job_id)),
                other => other,
            })
        })?;
        Ok(Report::nothing().with_code(code))
    }
}

/// How far a watcher has come.
struct Place(Option<u64>);

impl Place {
    fn of(from: FollowFrom) -> Self {
        match from {
            FollowFrom::After(sequence) => Self(Some(sequence)),
            _ => Self(None),
        }
    }

    /// What to say on leaving.
    fn goes_on(&self, job_id: &str) -> String {
        let from = self.0.map_or_else(|| "start".to_owned(), |sequence| sequence.to_string());
        format!("\ndetached; the job goes on: airunner-cli job attach {job_id} --from {from}")
    }
}

async fn follow(
    console: &Console,
    client: &Client,
    job_id: &str,
    from: FollowFrom,
    place: &mut Place,
) -> Result<u8> {
    let options = FollowOptions { from, without_output: false };
    let mut events = pin!(follow_job(client, job_id, options));
    while let Some(followed) = events.next().await {
        match followed? {
            Followed::Event(event) => {
                show(console, &event)?;
                // Only once it is written: whoever goes on from here has seen it.
                place.0 = Some(place.0.unwrap_or(0).max(event.sequence));
            }
            Followed::Ended(ended) => return end(console, &ended),
        }
    }
    Err(Failure::new(Label::Unreachable, "the stream ended before the job did: attach again"))
}

fn show(console: &Console, event: &pb::JobEvent) -> Result<()> {
    match &event.kind {
        Some(Kind::Output(output)) => write(console, output.stream, &output.data)?,
        Some(Kind::Note(note)) => console.note(&format!("[{}]", note.message)),
        Some(Kind::AttemptEnded(ended)) if !ended.last => {
            let because = if ended.reason.is_empty() { String::new() } else { format!(": {}", ended.reason) };
            console.note(&format!("[attempt {} {}{because}]", event.sequence >> 40, ended.outcome));
        }
        Some(Kind::Gap(gap)) => {
            console.note(&format!("[output up to {} is gone: the job's limit was reached]", gap.lost_until));
        }
        Some(Kind::Started(_) | Kind::AttemptEnded(_)) | None => {}
    }
    Ok(())
}

/// The exit code that says how the job ended.
fn end(console: &Console, ended: &pb::JobEnded) -> Result<u8> {
    if let Some(exit) = ExitView::of(ended.exit) {
        if let ExitView::Signal(signal) = exit {
            console.note(&format!("[the job was ended by signal {signal}]"));
        }
        return Ok(exit.shell_code());
    }
    let state = state_name(ended.state);
    if state == JobState::Completed.as_str() {
        return Ok(0);
    }
    console.print_failure(&ended_badly(state, &ended.reason));
    Ok(NO_EXIT)
}

fn write(console: &Console, stream: i32, bytes: &[u8]) -> Result<()> {
    if stream == i32::from(OutputStream::Stderr) { console.write_error(bytes) } else { console.write(bytes) }
}

/// Sends standard input to its end.
async fn send_input(client: &Client, job_id: &str) -> Result<()> {
    loop {
        // A thread that waits for input can't be called off; the process ends without it.
        let read = tokio::task::spawn_blocking(|| {
            let mut buffer = vec![0; INPUT];
            let length = std::io::stdin().lock().read(&mut buffer)?;
            buffer.truncate(length);
            Ok::<_, std::io::Error>(buffer)
        });
        let data = read.await.map_err(airunner_core::Error::internal)??;
        let end = data.is_empty();
        client
            .jobs()
            .write_job_input(pb::WriteJobInputRequest { job_id: job_id.to_owned(), data, end })
            .await?;
        if end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_starts_where_it_says() {
        assert_eq!("start".parse(), Ok(From(FollowFrom::Start)));
        assert_eq!("now".parse(), Ok(From(FollowFrom::Now)));
        assert_eq!("42".parse(), Ok(From(FollowFrom::After(42))));
        assert!("then".parse::<From>().is_err());
    }

    #[test]
    fn on_leaving_it_says_where_to_go_on() {
        assert!(Place(Some(7)).goes_on("J").ends_with("job attach J --from 7"));
        assert!(Place(None).goes_on("J").ends_with("job attach J --from start"));
    }
}
