//! Callers that call for a time, and the histogram of how long they waited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use airunner_core::Clock;
use airunner_net::system::SystemClock;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::task::JoinSet;

use super::BenchArgs;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Calls that succeeded.
    pub count: u64,
    /// Calls that failed.
    pub errors: u64,
    /// The first failure's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Calls that succeeded, a second.
    pub per_second: f64,
    /// Milliseconds within which half of the calls were answered.
    pub p50_ms: f64,
    /// 90 of 100.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// CPU time of this process a call, in microseconds.
    pub cpu_micros: f64,
}

/// One caller's next call; how many units of work it did, or none when there is no more to do.
pub(super) type Outcome = Result<Option<u64>, String>;

/// Runs `callers` tasks, each of which calls `call` again and again until the time is over; tells when they begin.
pub(super) async fn drive<C, F, Fut>(callers: Vec<C>, args: &BenchArgs, call: F) -> Measured
where
    C: Send + 'static,
    F: Fn(Arc<tokio::sync::Mutex<C>>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let duration = args.duration();
    args.began.notify_one();
    let (began, cpu) = (SystemClock.monotonic(), process_cpu());
    let mut tasks = JoinSet::new();
    for caller in callers {
        let (stop, call, caller) = (stop.clone(), call.clone(), Arc::new(tokio::sync::Mutex::new(caller)));
        tasks.spawn(async move {
            let mut tally = Tally::default();
            while !stop.load(Relaxed) {
                let before = SystemClock.monotonic();
                match call(caller.clone()).await {
                    Ok(Some(units)) => tally.done(units, SystemClock.monotonic().since(before)),
                    Ok(None) => break,
                    Err(error) => tally.failed(error),
                }
            }
            tally
        });
    }
    let timer = stop.clone();
    let timing = tokio::spawn(async move {
        tokio::time::sleep(duration).await;
        timer.store(true, Relaxed);
    });
    let mut all = Tally::default();
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(tally) => all.merge(tally),
            Err(error) => all.failed(error.to_string()),
        }
    }
    timing.abort();
    all.measured(SystemClock.monotonic().since(began), process_cpu().saturating_sub(cpu))
}

/// Calls `act` again and again until the time is over; it says itself how long what counts of it took.
pub(super) async fn one_by_one(
    args: &BenchArgs,
    act: impl AsyncFn() -> airunner_client::Result<Duration>,
) -> Measured {
    args.began.notify_one();
    let (began, cpu) = (SystemClock.monotonic(), process_cpu());
    let mut tally = Tally::default();
    while SystemClock.monotonic().since(began) < args.duration() {
        match act().await {
            Ok(wait) => tally.done(1, wait),
            Err(error) => tally.failed(error.to_string()),
        }
    }
    tally.measured(SystemClock.monotonic().since(began), process_cpu().saturating_sub(cpu))
}

/// CPU time that this process has used.
pub(super) fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Waits, counted.
#[derive(Default)]
pub(super) struct Tally {
    count: u64,
    errors: u64,
    first_error: Option<String>,
    waits: Option<Histogram<u64>>,
}

impl Tally {
    pub(super) fn done(&mut self, units: u64, wait: Duration) {
        self.count += units;
        // Microseconds up to an hour, to three digits.
        if self.waits.is_none() {
            self.waits = Histogram::new_with_bounds(1, 3_600_000_000, 3).ok();
        }
        if let Some(waits) = &mut self.waits {
            waits.saturating_record(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn failed(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    /// What was counted, in this time and with this CPU time.
    #[expect(clippy::cast_precision_loss, reason = "counts and times of a benchmark are far below 2^52")]
    pub(super) fn measured(self, took: Duration, cpu: Duration) -> Measured {
        let millis = |quantile| {
            self.waits.as_ref().map_or(0.0, |waits| waits.value_at_quantile(quantile) as f64 / 1_000.0)
        };
        Measured {
            p50_ms: millis(0.5),
            p90_ms: millis(0.9),
            p99_ms: millis(0.99),
            per_second: self.count as f64 / took.as_secs_f64(),
            cpu_micros: cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64,
            count: self.count,
            errors: self.errors,
            first_error: self.first_error,
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error = other.first_error;
        }
        match (&mut self.waits, other.waits) {
            (Some(waits), Some(more)) => {
                // Both have the same precision and grow as needed.
                let _ = waits.add(more);
            }
            (None, more) => self.waits = more,
            (Some(_), None) => {}
        }
    }
}
