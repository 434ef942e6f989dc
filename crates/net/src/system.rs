//! The real clock and the real randomness. They stand here because server, client and bench all need them and all
//! build on this crate; everything else takes them as [`Clock`] and [`SecureRandom`].

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use airunner_core::{Clock, Monotonic, SecureRandom, Timestamp};
use async_trait::async_trait;
use ring::rand::SecureRandom as _;
use rustix::time::{ClockId, clock_gettime};

/// The machine's clock. All values of it tell the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The latest wall time that was told in this process, in milliseconds.
static LATEST: AtomicI64 = AtomicI64::new(0);

/// How far the machine's clock may be set back, in milliseconds, without being followed: what a correction that is no
/// accident comes to. Whoever was far ahead until then would stand still for as long as that.
const MAX_CORRECTION: i64 = 2_000;

/// When monotonic time began, for this process.
static START: LazyLock<Duration> = LazyLock::new(since_boot);

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that everybody else takes as an argument"
        )]
        let now = SystemTime::now();
        // A machine whose clock stands before 1970 gets the epoch.
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        advance(&LATEST, i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        // START first: it may be set by this very call.
        let start = *START;
        Monotonic::new(since_boot().saturating_sub(start))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// How long the machine has been on, with the time that it slept: a process that was asleep with it must not take the wall
/// clock for one that leapt ahead.
fn since_boot() -> Duration {
    let read = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(read.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(read.tv_sec).unwrap_or(0), nanos)
}

/// The later of `millis` and what `latest` holds, but `millis` where that is earlier by more than a correction; `latest`
/// then holds it.
fn advance(latest: &AtomicI64, millis: i64) -> Timestamp {
    let told = |before: i64| if before - millis > MAX_CORRECTION { millis } else { before.max(millis) };
    let before = latest.update(Ordering::Relaxed, Ordering::Relaxed, told);
    Timestamp::from_millis(told(before))
}

/// The operating system's randomness.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The one source there is.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl SecureRandom for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        if self.0.fill(buffer).is_err() {
            tracing::error!(
                "the operating system gives no random bytes: stopping, since nothing here is safe without"
            );
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_does_not_follow_small_corrections_and_does_not_stand_still_for_large_ones() {
        let latest = AtomicI64::new(0);
        let told = |sequence: [i64; 5]| sequence.map(|millis| advance(&latest, millis).as_millis());
        assert_eq!(told([1_000, 2_000, 500, 1_999, 2_001]), [1_000, 2_000, 2_000, 2_000, 2_001]);
        assert_eq!(told([9_000, 7_000, 6_999, 7_000, 6_000]), [9_000, 9_000, 6_999, 7_000, 7_000]);
    }

    #[test]
    fn monotonic_time_is_the_same_for_every_clock() {
        let earlier = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= earlier);
    }

    #[test]
    fn random_bytes_differ() {
        let random: &dyn SecureRandom = &SystemRandom::new();
        assert_ne!(random.array::<32>(), random.array::<32>());
    }
}
