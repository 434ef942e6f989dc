//! `bench`: the load tool, from the command line.

use clap::Args;

use crate::{bench, context::Context, failure::Result, report::Report, runtime::wait_on_all_cores};

/// Measure how much a server does in a time.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    args: bench::BenchArgs,
}

impl BenchArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        // Two scenarios need no server, so what is wrong with the connection is their business only.
        let options = context.client_options();
        let report = wait_on_all_cores(async {
            let mut refused = None;
            let connect = || {
                options.map_err(|failure| {
                    refused = Some(failure);
                    airunner_client::Error::new(airunner_core::Label::Config, "there is no connection")
                })
            };
            let ran = bench::run(&self.args, connect).await;
            match refused {
                Some(failure) => Err(failure),
                None => Ok(ran?),
            }
        })?;
        Report::document(&report)
    }
}
