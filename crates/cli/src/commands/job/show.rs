//! `job show`.

use airunner_proto::job::v1::GetJobRequest;
use clap::Args;

use super::JobName;
use crate::{
    commands::present,
    context::Context,
    failure::Result,
    near::{Named, or_near},
    report::Report,
    runtime::wait,
    view::job::JobView,
};

/// Show a job: what it runs, where it is, how far it is kept from its machine, what it may use and what it used.
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
            let view = JobView::from(present(answer.job, "job")?);
            Report::record(view.fields(context.now(), context.output.is_terminal), &view)
        }))
    }
}
