//! `--watch`: a list that is looked at again and again. What is listed is the commands' business.

use std::time::Duration;

use airunner_core::Kind;
use clap::Args;

use crate::{
    context::Context,
    failure::{Failure, Result},
    report::Report,
    runtime::wait,
    values,
};

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(200);

/// Whether a list is looked at once or again and again.
#[derive(Args, Clone, Debug)]
pub(crate) struct Watch {
    /// Look again every so often until stopped, as --watch=10s [default: 2s]
    #[arg(
        long,
        value_name = "EVERY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = values::duration
    )]
    watch: Option<Duration>,
}

impl Watch {
    /// Looks once; or shows what is there until Ctrl-C. On a terminal each look takes the place of the one before;
    /// elsewhere it is written where something has changed. A server that is away for a while is waited for.
    ///
    /// # Errors
    /// What `look` fails with, but for what may pass while it is watched.
    pub(crate) fn run(
        &self,
        context: &Context,
        mut look: impl AsyncFnMut() -> Result<Report>,
    ) -> Result<Report> {
        let Some(every) = self.watch else { return wait(look()) };
        let every = every.max(SHORTEST);
        wait(async {
            let mut screen = context.output.screen();
            loop {
                match look().await {
                    Ok(report) => screen.show(&report, context.now())?,
                    Err(Failure::Failed(error)) if may_pass(error.kind()) => {
                        screen.trouble(&format!("{} ({})", error.message(), error.label()), context.now())?;
                    }
                    Err(failure) => return Err(failure),
                }
                context.clock.sleep(every).await;
            }
        })
    }
}

/// Whether a later look may succeed.
const fn may_pass(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::Deadline | Kind::Limit)
}
