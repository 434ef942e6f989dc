//! `job show`.

use airunner_client::Client;
use airunner_proto::job::v1::{
    GetJobRequest, JobEvent, StreamEventsRequest, job_event::Kind, stream_events_response::Message,
};
use clap::Args;
use serde::Serialize;

use super::JobName;
use crate::{
    commands::present,
    context::Context,
    failure::Result,
    near::{Named, or_near},
    report::Report,
    runtime::wait,
    view::{
        history::{History, HistoryView},
        job::JobView,
        timestamp,
    },
};

/// Bytes of output that are looked at to draw when how much was printed.
const LOOKED_AT: u64 = 16 << 20;

/// Show a job: what it runs, where it is, how far it is kept from its machine, what it may use and what it used, and what
/// happened when.
#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    name: JobName,
}

impl ShowArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let job_id = self.name.get()?.to_string();
        let client = context.client()?;
        wait(or_near(&client, Named::Job(&job_id), async {
            let answer = client.jobs().get_job(GetJobRequest { job_id: job_id.clone() }).await?.into_inner();
            let now = context.now();
            let view = JobView::from(present(answer.job, "job")?);
            let (from, to) = view.life(now);
            let history = HistoryView::new(history(&client, &job_id).await?, from, to);
            let charts = context.output.has_charts;
            let mut fields = view.fields(now, charts);
            fields.extend(history.fields(from, charts));
            Report::record(fields, &Shown { job: view, history })
        }))
    }
}

/// A job with its history, for programs.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    job: JobView,
    history: HistoryView,
}

/// What the job has told so far. All of its control events; of its output as much as is looked at.
async fn history(client: &Client, job_id: &str) -> Result<History> {
    let mut history = History::default();
    read(client, job_id, true, |event| {
        history.events.push(event);
        true
    })
    .await?;
    let mut bytes = 0;
    history.is_whole = true;
    read(client, job_id, false, |event| {
        match (&event.kind, event.at) {
            (Some(Kind::Output(output)), Some(at)) if bytes < LOOKED_AT => {
                bytes += output.data.len() as u64;
                history.printed.push((timestamp(&at), output.data.len() as u64));
            }
            (Some(Kind::Output(_) | Kind::Gap(_)), _) => history.is_whole = false,
            _ => {}
        }
        bytes < LOOKED_AT || history.is_whole
    })
    .await?;
    Ok(history)
}

/// Reads the events that are there, until `take` has had enough.
async fn read(
    client: &Client,
    job_id: &str,
    without_output: bool,
    mut take: impl FnMut(JobEvent) -> bool,
) -> Result<()> {
    let request = StreamEventsRequest { job_id: job_id.to_owned(), from: None, without_output, so_far: true };
    let mut events = client.events().stream_events(request).await?.into_inner();
    while let Some(answer) = events.message().await? {
        let goes_on = match answer.message {
            Some(Message::Event(event)) => take(event),
            Some(Message::Ended(_)) => false,
            Some(Message::Attached(_)) | None => true,
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}
