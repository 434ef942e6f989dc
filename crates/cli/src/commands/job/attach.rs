//! `job attach`: follows a job to its end, and ends as it did.

use std::{
    io::{self, IsTerminal as _},
    str::FromStr,
};

use airunner_client::{Client, FollowFrom, FollowOptions, Followed, follow_job};
use airunner_core::{Error, Sequence};
use airunner_proto::job::v1::{GetJobRequest, JobEvent, job_event::Kind};
use clap::Args;
use futures_util::StreamExt as _;

use super::{
    super::present,
    JobName,
    input::{self, Writer},
    logs,
    terminal::{self, Raw},
};
use crate::{
    context::Context,
    failure::{Failure, Result},
    near::{Named, or_near},
    progress,
    report::{Format, Output, Report},
    runtime::{Signals, wait_with_signals},
    view::job::{EndedView, EventView, ExitView},
};

/// The exit code when the job has none to give.
const NO_CODE: u8 = 255;

/// Follow a job to its end.
///
/// What the job prints is written as it comes, stdout to stdout and stderr to stderr; a lost connection is opened again
/// where it was. Ctrl-C detaches and leaves the job alone; the place reached is told, for --from. With --input at a job
/// that has a terminal, from a terminal, every key goes to the job, Ctrl-C too; ~. where a line begins detaches. The exit
/// code is the job's: 128 + n for signal n, 255 where the job has none, after ~., or where airunner failed.
#[derive(Args, Debug)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    name: JobName,
    /// From where: start, now, or after the sequence that was told on detaching
    #[arg(long, value_name = "PLACE", default_value = "start")]
    from: Place,
    /// Write to it too: what is typed, or comes on standard input here
    #[arg(long, short)]
    input: bool,
    /// Write to it though someone else does, who then no longer can
    #[arg(long, requires = "input")]
    take: bool,
}

/// From where a job is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(FollowFrom);

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "start" => Ok(Self(FollowFrom::Start)),
            "now" => Ok(Self(FollowFrom::Now)),
            sequence => sequence.parse().map(|sequence| Self(FollowFrom::After(sequence))).map_err(|_| {
                Error::invalid("from", format!("{text:?} is neither start, now nor a sequence"))
            }),
        }
    }
}

/// How following ended.
pub(super) enum Outcome {
    /// With the job.
    Ended(EndedView),
    /// By a signal; the last place that was seen.
    Detached { sequence: u64, failure: Failure },
}

impl AttachArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let job_id = self.name.get()?.to_string();
        let client = context.client()?;
        let watched = wait_with_signals(async {
            let mut signals = Signals::listen()?;
            or_near(&client, Named::Job(&job_id), self.follow(context, &client, &job_id, &mut signals)).await
        });
        watched.and_then(|outcome| report(context.output, &job_id, outcome)).map_err(with_own_code)
    }
}

impl AttachArgs {
    async fn follow(
        &self,
        context: &Context,
        client: &Client,
        job_id: &str,
        signals: &mut Signals,
    ) -> Result<Outcome> {
        if !self.input {
            return watch(client, context.output, job_id, self.from.0, None, signals.next()).await;
        }
        let request = GetJobRequest { job_id: job_id.to_owned() };
        let job = present(client.jobs().get_job(request).await?.into_inner().job, "job")?;
        let has_terminal = job.terminal.is_some();
        if has_terminal && context.output.format == Format::Table && io::stdin().is_terminal() {
            return terminal::sit_at(context, client, job_id, self.from.0, self.take, signals).await;
        }
        let watching = watch(client, context.output, job_id, self.from.0, None, signals.next());
        let writer = Writer::new(context, client, job_id, self.take);
        // What this one does not send another may.
        watch_and_feed(watching, input::feed(writer, has_terminal), async || {}).await
    }
}

/// Follows a job while it is fed. `unfed` is what becomes of it where that fails, or is left in the middle.
pub(super) async fn watch_and_feed(
    watching: impl Future<Output = Result<Outcome>>,
    feeding: impl Future<Output = Result<()>>,
    unfed: impl AsyncFnOnce(),
) -> Result<Outcome> {
    let (mut watching, mut feeding) = (std::pin::pin!(watching), std::pin::pin!(feeding));
    let outcome = tokio::select! {
        outcome = &mut watching => outcome?,
        fed = &mut feeding => {
            if let Err(failure) = fed {
                unfed().await;
                return Err(failure);
            }
            return watching.await;
        }
    };
    if matches!(outcome, Outcome::Detached { .. }) {
        unfed().await;
    }
    Ok(outcome)
}

/// The failure, with the code that tells it from the job's own.
pub(super) fn with_own_code(failure: Failure) -> Failure {
    match failure {
        Failure::Failed(_) | Failure::Near(..) => Failure::WithCode(NO_CODE, Box::new(failure)),
        failure => failure,
    }
}

/// What following came to.
///
/// # Errors
/// Where it was given up: the signal.
pub(super) fn report(output: Output, job_id: &str, outcome: Outcome) -> Result<Report> {
    let ended = match outcome {
        Outcome::Ended(ended) => ended,
        Outcome::Detached { sequence, failure } => {
            output.note(&format!(
                "detached at sequence {sequence}; the job goes on. To go on watching: airunner-cli job attach \
                 {job_id} --from {sequence}"
            ));
            return Err(failure);
        }
    };
    let code = ended.exit.map_or(NO_CODE, ExitView::shell_code);
    if output.format != Format::Table {
        output.item("", &ended)?;
    } else if ended.state != "completed" {
        let reason = ended.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        output.note(&format!("airunner: the job {}{reason}", sentence(&ended.state)));
    }
    Ok(Report::nothing().with_code(code))
}

/// Writes what happens to the job until it ends or `stop` says why no longer; to a terminal that may be raw.
pub(super) async fn watch(
    client: &Client,
    output: Output,
    job_id: &str,
    from: FollowFrom,
    raw: Option<&Raw>,
    stop: impl Future<Output = Failure>,
) -> Result<Outcome> {
    let mut stop = std::pin::pin!(stop);
    let options = FollowOptions { from, without_output: false };
    let mut events = Box::pin(follow_job(client, job_id, options));
    let mut waiting = raw.is_none().then(|| progress::spinner(output, "waiting until it runs"));
    let mut sequence = match from {
        FollowFrom::After(sequence) => sequence,
        _ => 0,
    };
    loop {
        let followed = tokio::select! {
            followed = events.next() => followed,
            failure = &mut stop => return Ok(Outcome::Detached { sequence, failure }),
        };
        // It must be gone before anything is written.
        drop(waiting.take());
        match followed.transpose()? {
            Some(Followed::Event(event)) => {
                sequence = sequence.max(event.sequence);
                show(output, raw, event)?;
            }
            Some(Followed::Ended(ended)) => return Ok(Outcome::Ended(ended.into())),
            None => return Err(Error::internal("the events ended before the job").into()),
        }
    }
}

fn show(output: Output, raw: Option<&Raw>, event: JobEvent) -> Result<()> {
    let aside = |work: &dyn Fn()| match raw {
        Some(raw) => raw.aside(work),
        None => work(),
    };
    if output.format != Format::Table {
        return output.item("", &EventView::from(event));
    }
    match event.kind {
        Some(Kind::Output(part)) => return logs::bytes(output, part.stream, &part.data),
        Some(Kind::Note(note)) => aside(&|| output.hint(&format!("airunner: {}", note.message))),
        Some(Kind::AttemptEnded(ended)) if !ended.last => {
            let attempt = Sequence::from_u64(event.sequence).attempt();
            let said =
                format!("airunner: attempt {attempt} is over ({}), the job waits again", ended.outcome);
            aside(&|| output.note(&said));
        }
        Some(Kind::Gap(_)) => {
            aside(&|| output.note(&format!("airunner: {}", logs::GONE)));
        }
        Some(Kind::AttemptEnded(_) | Kind::Started(_)) | None => {}
    }
    Ok(())
}

fn sentence(state: &str) -> String {
    match state {
        "failed" => "failed".to_owned(),
        "cancelled" => "was stopped".to_owned(),
        "timed_out" => "ran longer than it may".to_owned(),
        other => format!("is {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_or_a_sequence() {
        for (text, place) in
            [("start", FollowFrom::Start), ("now", FollowFrom::Now), ("42", FollowFrom::After(42))]
        {
            assert_eq!(text.parse::<Place>().unwrap(), Place(place), "{text}");
        }
        for wrong in ["", "end", "-1", "1h"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
