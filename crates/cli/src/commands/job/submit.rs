//! `job submit`.

use std::{io::Read, time::Duration};

use airunner_client::Client;
use airunner_core::{Error, Label, QueueName};
use airunner_proto::job::v1::{
    CancelJobRequest, EnqueueJobsRequest, JobSpec, Repository, WriteJobInputRequest,
};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    commands::present,
    context::{Context, Environment},
    failure::{Failure, Result},
    report::{Format, Output, Report},
    runtime::wait,
    values::{self, Pair, Variable},
};

/// Bytes of standard input in one call at most.
const PIECE: usize = 64 * 1024;

/// Put a command into a queue and print the job's id.
///
/// The command is a program with its arguments, never a shell line: for one, submit `sh -c LINE`. Follow the job with
/// `airunner-cli job attach ID`.
#[derive(Args, Debug)]
pub(super) struct SubmitArgs {
    /// A git repository that the worker clones first, and runs the command in; after #, a commit, branch or tag
    #[arg(long, value_name = "URL[#REV]")]
    repo: Option<String>,
    /// Where it waits [default: default]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// How long it may run, as 30m
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// A variable of its environment; without =VALUE, with the value that it has here. May be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Refuse it while one of yours with the same command and arguments waits or runs
    #[arg(long)]
    unique: bool,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    /// How often it is tried when a worker is lost, 1 to 100 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// Take an exit code other than 0 for a failed attempt, and try again
    #[arg(long)]
    retry_on_exit: bool,
    /// Wait this long before it may be taken
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    delay: Option<Duration>,
    /// Send it what comes on standard input here, at most 1 MiB
    #[arg(long)]
    stdin: bool,
    /// Where it runs, relative to its workspace
    #[arg(long, value_name = "DIR")]
    working_dir: Option<String>,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

#[derive(Serialize)]
struct SubmittedView {
    job_id: String,
}

impl SubmitArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = EnqueueJobsRequest {
            jobs: vec![self.spec(&context.environment)?],
            request_id: HEXLOWER.encode(&context.random.array::<16>()),
        };
        let client = context.client()?;
        wait(async {
            let answer = client.jobs().enqueue_jobs(request).await?.into_inner();
            let view = SubmittedView { job_id: present(answer.job_ids.into_iter().next(), "job id")? };
            let report = Report::text(view.job_id.clone(), &view)?;
            if !self.stdin {
                let hint = format!("follow it with: airunner-cli job attach {}", view.job_id);
                return Ok(report.with_hint(hint));
            }
            // Whoever feeds it may want to know its id before the input ends.
            match context.output.format {
                Format::Table => context.output.write(format!("{}\n", view.job_id).as_bytes())?,
                _ => context.output.item("", &view)?,
            }
            if let Err(failure) = feed(&client, &view.job_id).await {
                // It would wait for the rest for ever, or take a part for the whole.
                stop(&client, context.output, view.job_id).await;
                return Err(failure);
            }
            Ok(Report::nothing())
        })
    }

    fn spec(&self, environment: &Environment) -> Result<JobSpec> {
        let Some((command, args)) = self.command.split_first() else {
            return Err(Failure::Usage("there is no command".to_owned()));
        };
        let variable = |variable: &Variable| {
            let value = variable.value.clone().or_else(|| environment.variable(&variable.name));
            let value = value.ok_or_else(|| Failure::Usage(format!("{} is not set here", variable.name)))?;
            Ok((variable.name.clone(), value))
        };
        Ok(JobSpec {
            queue: self.queue.as_ref().map(ToString::to_string).unwrap_or_default(),
            command: command.clone(),
            args: args.to_vec(),
            environment: self.env.iter().map(variable).collect::<Result<_>>()?,
            working_dir: self.working_dir.clone().unwrap_or_default(),
            repository: self.repo.as_deref().map(repository),
            timeout: self.timeout.map(values::wire),
            max_attempts: self.max_attempts.unwrap_or_default(),
            retry_on_exit: self.retry_on_exit,
            unique: self.unique,
            labels: self.label.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
            delay: self.delay.map(values::wire),
            stdin: self.stdin,
        })
    }
}

fn repository(text: &str) -> Repository {
    let (url, revision) = text.split_once('#').unwrap_or((text, ""));
    Repository { url: url.to_owned(), revision: revision.to_owned() }
}

/// Sends standard input to the job, piece by piece. A piece is sent once: twice is worse than not at all.
async fn feed(client: &Client, job_id: &str) -> Result<()> {
    let (sender, mut pieces) = mpsc::channel::<std::io::Result<Vec<u8>>>(4);
    let reading = spawn_blocking(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut piece = vec![0; PIECE];
            let read = input.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            let is_last = !matches!(&read, Ok(piece) if !piece.is_empty());
            if sender.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    let unreadable = |error| Error::new(Label::File, format!("standard input can't be read: {error}"));
    while let Some(piece) = pieces.recv().await {
        let data = piece.map_err(unreadable)?;
        let end = data.is_empty();
        let request = WriteJobInputRequest { job_id: job_id.to_owned(), data, end };
        match client.jobs().write_job_input(request).await.map_err(airunner_client::Error::from) {
            Ok(_) => {}
            // It has had enough: what it did not read it did not want.
            Err(error) if error.is(Label::JobEnded) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reading.await.map_err(Error::internal)?)
}

async fn stop(client: &Client, output: Output, job_id: String) {
    let request = CancelJobRequest { job_id: job_id.clone(), ..CancelJobRequest::default() };
    match client.jobs().cancel_job(request).await.map_err(airunner_client::Error::from) {
        Ok(_) => output.note(&format!("{job_id} did not get all of its input: it is stopped")),
        // It has had enough: what it did not read it did not want.
        Err(error) if error.is(Label::JobEnded) => {}
        Err(error) => {
            output.note(&format!("{job_id} did not get all of its input, and can't be stopped: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_cut_at_its_revision() {
        let found = repository("https://example.com/a.git#v1.0");
        assert_eq!((found.url.as_str(), found.revision.as_str()), ("https://example.com/a.git", "v1.0"));
        assert_eq!(repository("https://example.com/a.git").revision, "");
    }
}
