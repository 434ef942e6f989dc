//! `job submit`.

use std::time::Duration;

use airunner_proto::job::v1::{EnqueueJobsRequest, JobSpec};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    input::{self, Writer},
    spec::SpecArgs,
};
use crate::{
    commands::present,
    context::Context,
    failure::Result,
    report::{Format, Report},
    runtime::wait,
    values,
};

/// Put a command into a queue and print the job's id.
///
/// The command is a program with its arguments, never a shell line: for one, submit `sh -c LINE`. Follow the job with
/// `airunner-cli job attach ID`.
#[derive(Args, Debug)]
pub(super) struct SubmitArgs {
    /// Wait this long before it may be taken
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    delay: Option<Duration>,
    /// Send it what comes on standard input here, at most 1 MiB
    #[arg(long)]
    stdin: bool,
    #[command(flatten)]
    spec: SpecArgs,
}

#[derive(Serialize)]
struct SubmittedView {
    job_id: String,
}

impl SubmitArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let spec = self.spec.spec(&context.environment)?;
        let has_terminal = spec.terminal.is_some();
        let request = EnqueueJobsRequest {
            jobs: vec![JobSpec { delay: self.delay.map(values::wire), stdin: self.stdin, ..spec }],
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
            let writer = Writer::new(context, &client, &view.job_id, false);
            if let Err(failure) = input::feed(writer, has_terminal).await {
                input::stop(&client, context.output, &view.job_id).await;
                return Err(failure);
            }
            Ok(Report::nothing())
        })
    }
}
