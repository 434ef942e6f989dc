//! What the dates of AWS's answers say of this machine's clock: a signature whose time is off is refused, and
//! certificates that were made by a wrong clock count too early or too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};

use airunner_core::{Error, Label};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, config_bag::ConfigBag, date_time::Format};

/// How far the clocks may be apart.
const TOLERANCE: Duration = Duration::from_mins(2);

/// Reads the date of every answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockWatch {
    /// By how many seconds this machine's clock was ahead at the newest answer.
    ahead: Arc<AtomicI64>,
}

impl ClockWatch {
    /// What is wrong with this machine's clock, if something is.
    pub(crate) fn fault(&self) -> Option<Error> {
        let ahead = self.ahead.load(Relaxed);
        if Duration::from_secs(ahead.unsigned_abs()) <= TOLERANCE {
            return None;
        }
        let minutes = ahead.unsigned_abs() / 60;
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let message = format!(
            "this machine's clock is {minutes} minutes {side} that of AWS: set it right, as with `chronyc makestep`"
        );
        Some(Error::new(Label::ClockSkew, message))
    }

    fn note(&self, date: &str, now: std::time::SystemTime) {
        let Ok(date) = DateTime::from_str(date, Format::HttpDate) else { return };
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.ahead.store(now.saturating_sub(date.secs()), Relaxed);
    }
}

#[dyn_dispatch_hint]
impl Intercept for ClockWatch {
    fn name(&self) -> &'static str {
        "ClockWatch"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(date), Some(time)) = (context.response().headers().get("date"), components.time_source())
        {
            self.note(date, time.now());
        }
        Ok(())
    }
}
