//! `job`: submit, start, look up, follow, stop.

mod attach;
mod input;
mod logs;
mod show;
mod spec;
mod start;
mod submit;
mod terminal;

use std::time::Duration;

use airunner_client::Client;
use airunner_core::{JobState, PrincipalId, QueueName};
use airunner_proto::{
    job::v1::{self as pb, CancelJobRequest, GetJobRequest, ListJobsRequest},
    principal::v1::WhoAmIRequest,
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use super::{JobName, Listed, Paging, present, watch::Watch};
use crate::{
    complete,
    context::Context,
    failure::Result,
    near::{Named, or_near},
    report::{Format, Report, Table, visible},
    runtime::wait,
    values::{self, Pair, SignalNumber},
    view::job::JobView,
};

/// Jobs; without a command, those of yours that are running, one a line.
#[derive(Args, Debug)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    command: Option<JobCommand>,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Put a command into a queue and print the job's id
    Submit(submit::SubmitArgs),
    /// Start a job on a worker that waits for one; print its id and its process id
    Start(start::StartArgs),
    /// Start a job and follow it to its end; the exit code is the job's
    Exec(start::ExecArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Show one, with what it may use and what it used
    #[command(visible_alias = "get")]
    Show(show::ShowArgs),
    /// Print a job's state, one word
    Status(StatusArgs),
    /// Write what a job printed, byte for byte: stdout to stdout, stderr to stderr
    #[command(visible_alias = "output")]
    Logs(logs::LogsArgs),
    /// Follow a job to its end; the exit code is the job's
    #[command(visible_alias = "monitor")]
    Attach(attach::AttachArgs),
    /// Stop a job: a signal, then after a grace period the whole process group is killed
    #[command(visible_alias = "terminate")]
    Stop(StopArgs),
}

impl JobArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            None => running(context),
            Some(JobCommand::Submit(args)) => args.run(context),
            Some(JobCommand::Start(args)) => args.run(context),
            Some(JobCommand::Exec(args)) => args.run(context),
            Some(JobCommand::List(args)) => args.run(context),
            Some(JobCommand::Status(args)) => args.run(context),
            Some(JobCommand::Show(args)) => args.run(context),
            Some(JobCommand::Logs(args)) => args.run(context),
            Some(JobCommand::Attach(args)) => args.run(context),
            Some(JobCommand::Stop(args)) => args.run(context),
        }
    }
}

/// The caller's running jobs.
fn running(context: &Context) -> Result<Report> {
    let client = context.client()?;
    let everything = Paging::all();
    let listed = wait(async {
        let owner = own_id(&client).await?;
        let request =
            ListJobsRequest { state: pb::JobState::Running as i32, owner, ..ListJobsRequest::default() };
        list(&client, context, &everything, &request).await
    })?;
    let line = |view: &JobView| format!("{} {}\n", view.job_id, visible(&view.command_line()));
    let text: String = listed.items.iter().map(line).collect();
    let report = Report::text(text, &listed.value("jobs")?)?;
    Ok(if listed.items.is_empty() { report.with_hint("none of your jobs is running") } else { report })
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = values::job_state())]
    state: Option<JobState>,
    /// Only those of this principal
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(complete::principals))]
    owner: Option<PrincipalId>,
    /// Only your own
    #[arg(long, conflicts_with = "owner")]
    mine: bool,
    /// Only those of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Only those with this label; may be repeated: with every one of them
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    watch: Watch,
}

impl ListArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        self.watch.run(context, async || {
            let owner = if self.mine { Some(own_id(&client).await?) } else { None };
            let owner = owner.or_else(|| self.owner.as_ref().map(ToString::to_string));
            let request = ListJobsRequest {
                state: self.state.map_or(0, |state| wire_state(state) as i32),
                owner: owner.unwrap_or_default(),
                queue: self.queue.as_ref().map(ToString::to_string).unwrap_or_default(),
                labels: self.label.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect(),
                ..ListJobsRequest::default()
            };
            let listed = list(&client, context, &self.paging, &request).await?;
            let mut table = Table::new(JobView::HEADERS, "there are no such jobs");
            listed.items.iter().for_each(|view| table.add(view.row(context.now())));
            Ok(listed.note(Report::table(table, &listed.value("jobs")?)?))
        })
    }
}

async fn list(
    client: &Client,
    context: &Context,
    paging: &Paging,
    request: &ListJobsRequest,
) -> Result<Listed<JobView>> {
    let fetch = async |page_size, page_token| {
        let request = ListJobsRequest { page_size, page_token, ..request.clone() };
        let answer = client.jobs().list_jobs(request).await?.into_inner();
        let views: Vec<_> = answer.jobs.into_iter().map(JobView::from).collect();
        Ok((views, answer.next_page_token))
    };
    paging.collect(context.output, fetch).await
}

async fn own_id(client: &Client) -> Result<String> {
    let answer = client.principals().who_am_i(WhoAmIRequest {}).await?.into_inner();
    Ok(present(answer.principal, "principal")?.principal_id)
}

#[derive(Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    name: JobName,
    /// Then write what it printed so far
    #[arg(long)]
    logs: bool,
}

impl StatusArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let job_id = self.name.get()?.to_string();
        let client = context.client()?;
        wait(or_near(&client, Named::Job(&job_id), async {
            let answer = client.jobs().get_job(GetJobRequest { job_id: job_id.clone() }).await?.into_inner();
            let view = JobView::from(present(answer.job, "job")?);
            if !self.logs {
                return Report::text(view.state.clone(), &view);
            }
            if context.output.format == Format::Table {
                context.output.write(format!("{}\n", view.state).as_bytes())?;
                logs::write(&client, context.output, &job_id, None).await?;
                return Ok(Report::nothing());
            }
            let output = logs::collect(&client, &job_id).await?;
            Report::text(String::new(), &StatusWithLogs { job: view, output })
        }))
    }
}

#[derive(serde::Serialize)]
struct StatusWithLogs {
    #[serde(flatten)]
    job: JobView,
    output: logs::CollectedOutput,
}

#[derive(Args, Debug)]
struct StopArgs {
    #[command(flatten)]
    name: JobName,
    /// What is sent first, by name or number
    #[arg(long, value_name = "SIGNAL", default_value = "TERM")]
    signal: SignalNumber,
    /// How long it may take to end before it is killed, at most 1h; 0 kills at once
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    grace: Duration,
}

impl StopArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let job_id = self.name.get()?.to_string();
        let request = CancelJobRequest {
            job_id: job_id.clone(),
            signal: self.signal.0,
            grace: Some(values::wire(self.grace)),
        };
        let client = context.client()?;
        let answer = wait(or_near(&client, Named::Job(&job_id), async {
            Ok(client.jobs().cancel_job(request).await?.into_inner())
        }))?;
        let view = JobView::from(present(answer.job, "job")?);
        let text = if view.state == "cancelled" {
            format!("{} is cancelled", view.job_id)
        } else {
            format!("{} is told to stop ({})", view.job_id, self.signal)
        };
        Report::text(text, &view)
    }
}

const fn wire_state(state: JobState) -> pb::JobState {
    match state {
        JobState::Scheduled => pb::JobState::Scheduled,
        JobState::Running => pb::JobState::Running,
        JobState::Completed => pb::JobState::Completed,
        JobState::Failed => pb::JobState::Failed,
        JobState::Cancelled => pb::JobState::Cancelled,
        JobState::TimedOut => pb::JobState::TimedOut,
    }
}
