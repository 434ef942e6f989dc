//! `job start` and `job exec`: a job that runs when this returns, and one that is followed to its end.

use std::io::{self, IsTerminal as _};

use airunner_client::{Client, FollowFrom};
use airunner_proto::job::v1::{JobSpec, StartJobRequest, StartJobResponse};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    attach::{self, Outcome},
    input::{self, Writer},
    spec::SpecArgs,
    terminal,
};
use crate::{
    context::Context,
    failure::{Failure, Result},
    progress,
    report::{Format, Report},
    runtime::{Signals, wait_with_signals},
};

/// Start a job and print its id and its process id.
///
/// Returns when the job's process runs, or could not be run. It fails at once where no worker waits on the queue; to
/// wait for one, `job submit` it. The command is a program with its arguments, never a shell line: for one, start
/// `sh -c LINE`.
#[derive(Args, Debug)]
pub(super) struct StartArgs {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Start a job and follow it to its end; the exit code is the job's.
///
/// As `job start`, then `job attach`: what the job prints is written as it comes, stdout to stdout and stderr to stderr.
/// The exit code is the job's: 128 + n for signal n, 255 where airunner itself failed. Ctrl-C detaches and leaves the
/// job alone.
///
/// With --tty it is as `ssh -t`: the job has a terminal, every key goes to it, Ctrl-C too, and it follows the size of the
/// one here. ~. where a line begins detaches, ~? tells what else there is. Where standard input is no terminal it is
/// piped instead.
#[derive(Args, Debug)]
pub(super) struct ExecArgs {
    /// Send it what comes on standard input here, at most 1 MiB
    #[arg(long)]
    stdin: bool,
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Serialize)]
struct StartedView {
    job_id: String,
    process_id: u32,
}

impl StartArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let spec = self.spec.spec(&context.environment)?;
        let client = context.client()?;
        let started = wait_with_signals(async {
            let mut signals = Signals::listen()?;
            start(context, &client, spec, &mut signals).await
        })?;
        let view = StartedView { job_id: started.job_id, process_id: started.process_id };
        let fields = vec![("job id", view.job_id.clone()), ("process id", view.process_id.to_string())];
        let hint = format!("follow it with: airunner-cli job attach {}", view.job_id);
        Ok(Report::record(fields, &view)?.with_hint(hint))
    }
}

impl ExecArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let spec = JobSpec { stdin: self.stdin, ..self.spec.spec(&context.environment)? };
        let has_terminal = spec.terminal.is_some();
        if has_terminal && context.output.format != Format::Table {
            return Err(Failure::Usage(
                "--tty shows what the job prints, and goes with no --output".to_owned(),
            ));
        }
        let manner = match (has_terminal, io::stdin().is_terminal()) {
            (true, true) => Manner::Terminal,
            (true, false) => Manner::Piped,
            (false, _) if self.stdin => Manner::Piped,
            (false, _) => Manner::Watched,
        };
        let spec = match manner {
            Manner::Piped => JobSpec { terminal: None, stdin: true, ..spec },
            Manner::Terminal | Manner::Watched => spec,
        };
        if has_terminal && spec.terminal.is_none() {
            context
                .output
                .note("airunner: standard input is no terminal: the job gets none, and what comes there");
        }
        self.execute(context, spec, manner).map_err(attach::with_own_code)
    }

    fn execute(&self, context: &Context, spec: JobSpec, manner: Manner) -> Result<Report> {
        let client = context.client()?;
        let (job_id, outcome) = wait_with_signals(async {
            let mut signals = Signals::listen()?;
            let started = start(context, &client, spec, &mut signals).await?;
            let view = StartedView { job_id: started.job_id, process_id: started.process_id };
            match context.output.format {
                Format::Table => context.output.hint(&format!("airunner: job {} runs", view.job_id)),
                _ => context.output.item("", &view)?,
            }
            let outcome = follow(context, &client, &view.job_id, manner, &mut signals).await?;
            Ok((view.job_id, outcome))
        })?;
        attach::report(context.output, &job_id, outcome)
    }
}

/// How the job that was started is followed.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// From a terminal, at a terminal.
    Terminal,
    /// Standard input goes to it.
    Piped,
    /// Nothing goes to it.
    Watched,
}

/// Follows the job, and meanwhile sends it what it is to read.
async fn follow(
    context: &Context,
    client: &Client,
    job_id: &str,
    manner: Manner,
    signals: &mut Signals,
) -> Result<Outcome> {
    if let Manner::Terminal = manner {
        return terminal::sit_at(context, client, job_id, FollowFrom::Start, false, signals).await;
    }
    let watching = attach::watch(client, context.output, job_id, FollowFrom::Start, None, signals.next());
    if let Manner::Watched = manner {
        return watching.await;
    }
    let feeding = input::feed(Writer::new(context, client, job_id, false), false);
    attach::watch_and_feed(watching, feeding, async || input::stop(client, context.output, job_id).await)
        .await
}

/// Starts the job. Whoever does not want to wait any longer is told that it may still come.
async fn start(
    context: &Context,
    client: &Client,
    spec: JobSpec,
    signals: &mut Signals,
) -> Result<StartJobResponse> {
    let request_id = HEXLOWER.encode(&context.random.array::<16>());
    let request = StartJobRequest { job: Some(spec), request_id };
    let waiting = progress::spinner(context.output, "waiting until it runs");
    let mut jobs = client.jobs();
    let answer = tokio::select! {
        answer = jobs.start_job(request) => answer,
        failure = signals.next() => {
            drop(waiting);
            return Err(given_up(context, failure));
        }
    };
    Ok(answer?.into_inner())
}

fn given_up(context: &Context, failure: Failure) -> Failure {
    context.output.note("the job may still start: see airunner-cli job list --mine");
    failure
}
