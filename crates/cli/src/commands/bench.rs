//! `bench`: the load tool, from the command line.

use std::time::Duration;

use clap::Args;

use crate::{bench, context::Context, failure::Result, progress, report::Report, runtime::wait_on_all_cores};

/// How often it is told how far it is.
const TICK: Duration = Duration::from_millis(100);

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
            let ran = self.shown(context, bench::run(&self.args, connect)).await;
            match refused {
                Some(failure) => Err(failure),
                None => Ok(ran?),
            }
        })?;
        Report::document(&report)
    }

    /// Waits, and shows whoever watches how far it is.
    async fn shown<T>(&self, context: &Context, work: impl Future<Output = T>) -> T {
        let ticks = self.args.seconds.get() as u64 * 10;
        let progress = progress::bar(context.output, ticks, "setting the scene");
        let mut work = std::pin::pin!(work);
        let mut done = None;
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = self.args.began.notified(), if done.is_none() => {
                    progress.say("measuring");
                    done = Some(0);
                }
                () = context.clock.sleep(TICK), if done.is_some() => {
                    let next = done.map_or(1, |done: u64| (done + 1).min(ticks));
                    progress.set(next);
                    done = Some(next);
                }
            }
        }
    }
}
