//! `job`: look up, stop, and list what runs. Submitting and following are in `job/`.

mod follow;
mod submit;

use std::time::Duration;

use airunner_core::{JobState, Label, PrincipalId, QueueName};
use airunner_proto::{job::v1 as pb, principal::v1::WhoAmIRequest};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::paging::PageArgs;
use crate::{
    Result,
    context::Context,
    failure::Failure,
    report::{Human, Report},
    value::{JobArg, duration, wire},
    view::{
        job::{ExitView, JobView, state_name, state_number},
        text,
    },
};

/// Jobs; without a command: those of yours that run, one a line.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: Option<JobCommand>,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Add a job and print its id: submit [OPTIONS] -- COMMAND [ARGS]
    Submit(Box<submit::SubmitArgs>),
    /// List jobs, newest first
    List(ListArgs),
    /// Show all there is to know of a job
    Get(JobArg),
    /// Print where a job is, in one word
    Status(StatusArgs),
    /// Print what a job has printed
    #[command(visible_alias = "output")]
    Logs(follow::LogsArgs),
    /// Follow a job live; the exit code is the job's
    #[command(visible_alias = "monitor")]
    Attach(follow::AttachArgs),
    /// Stop a job
    #[command(visible_alias = "terminate")]
    Stop(StopArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those in this state
    #[arg(long)]
    state: Option<JobState>,
    /// Only this principal's
    #[arg(long, visible_alias = "account", value_name = "PRINCIPAL")]
    owner: Option<PrincipalId>,
    /// Only those of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    job: JobArg,
    /// What it has printed, too
    #[arg(long)]
    logs: bool,
}

#[derive(Debug, Args)]
struct StopArgs {
    #[command(flatten)]
    job: JobArg,
    /// The signal to send first, by name or number
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    signal: i32,
    /// How long to wait before everything of it is killed; 0 kills at once
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = grace)]
    grace: Duration,
}

#[derive(Serialize)]
struct StatusView {
    job_id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<ExitView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl JobArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            None => running(context),
            Some(JobCommand::Submit(args)) => args.run(context),
            Some(JobCommand::List(args)) => args.run(context),
            Some(JobCommand::Get(job)) => {
                let request = pb::GetJobRequest { job_id: job.get() };
                let answer =
                    context.call(async |client| Ok(client.jobs().get_job(request).await?.into_inner()));
                Ok(shown(answer?.job))
            }
            Some(JobCommand::Status(args)) => args.run(context),
            Some(JobCommand::Logs(args)) => args.run(context),
            Some(JobCommand::Attach(args)) => args.run(context),
            Some(JobCommand::Stop(args)) => args.run(context),
        }
    }
}

/// The caller's jobs that run, one a line: id and command.
fn running(context: &Context) -> Result<Report> {
    let everything = PageArgs::everything();
    let listed = context.call(async |client| {
        let me = client.principals().who_am_i(WhoAmIRequest {}).await?.into_inner();
        let owner = me.principal.unwrap_or_default().principal_id;
        let fetch = |page_size, page_token| {
            let state = state_number(JobState::Running);
            let (owner, queue) = (owner.clone(), String::new());
            let request = pb::ListJobsRequest { page_size, page_token, state, owner, queue };
            page(client.jobs(), request)
        };
        everything.collect(fetch).await
    })?;
    listed.note(context);
    let lines = listed.items.iter().map(|job| format!("{}  {}\n", job.job_id, job.command_line())).collect();
    Ok(Report::new(listed.document("jobs"), Human::Text(lines)))
}

async fn page(
    mut jobs: pb::job_service_client::JobServiceClient<airunner_client::Channel>,
    request: pb::ListJobsRequest,
) -> Result<(Vec<JobView>, String)> {
    let answer = jobs.list_jobs(request).await?.into_inner();
    Ok((answer.jobs.into_iter().map(JobView::from).collect(), answer.next_page_token))
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let listed = context.call(async |client| {
            let fetch = |page_size, page_token| {
                let request = pb::ListJobsRequest {
                    page_size,
                    page_token,
                    state: self.state.map(state_number).unwrap_or_default(),
                    owner: self.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
                    queue: self.queue.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                page(client.jobs(), request)
            };
            self.page.collect(fetch).await
        })?;
        listed.note(context);
        let rows = listed.items.iter().map(JobView::row).collect();
        let human = Human::Table { head: JobView::HEAD, rows, empty: "There is no such job." };
        Ok(Report::new(listed.document("jobs"), human))
    }
}

impl StatusArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let job_id = self.job.get();
        let request = pb::GetJobStatusRequest { job_id: job_id.clone() };
        let answer =
            context.call(async |client| Ok(client.jobs().get_job_status(request).await?.into_inner()))?;
        let view = StatusView {
            job_id,
            state: state_name(answer.state),
            process_id: Some(answer.process_id).filter(|id| *id != 0),
            exit: ExitView::of(answer.exit),
            reason: text(answer.reason),
        };
        let word = view.state.to_owned();
        if self.logs {
            context.console().print(&Report::new(view, Human::Text(word)))?;
            return follow::print_logs(context, &self.job.get());
        }
        Ok(Report::new(view, Human::Text(word)))
    }
}

impl StopArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::CancelJobRequest {
            job_id: self.job.get(),
            signal: self.signal,
            grace: Some(wire(self.grace)),
        };
        let answer =
            context.call(async |client| Ok(client.jobs().cancel_job(request).await?.into_inner()))?;
        Ok(shown(answer.job))
    }
}

fn shown(job: Option<pb::Job>) -> Report {
    let view = JobView::from(job.unwrap_or_default());
    let human = view.fields();
    Report::new(view, human)
}

/// A duration; a bare 0 is one too.
fn grace(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// A signal by its name, with or without SIG, or by its number.
fn signal(text: &str) -> Result<i32, String> {
    const NAMES: &[(&str, i32)] = &[
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("WINCH", 28),
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = upper.parse().ok().filter(|number| (1..=64).contains(number));
    number.or_else(|| NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)).ok_or_else(
        || {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no signal {text:?}: give a number from 1 to 64, or one of {}", names.join(", "))
        },
    )
}

/// An error of a job that ended by itself while it was watched.
fn ended_badly(state: &str, reason: &str) -> Failure {
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Failure::new(Label::JobEnded, format!("the job is {state}{because}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("SIGINT", 2), ("1", 1), ("64", 64)] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for text in ["0", "65", "-1", "NOPE", ""] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_grace_of_zero_needs_no_unit() {
        assert_eq!(grace("0"), Ok(Duration::ZERO));
        assert_eq!(grace("5s"), Ok(Duration::from_secs(5)));
        assert!(grace("5").is_err());
    }
}
